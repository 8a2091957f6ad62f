//! Resuming the session of a predecessor: its inodes, open files and handles.

use std::collections::HashMap;

use super::Ops;
use crate::session_state::SessionState;
use crate::vocabulary::{Ino, StageId};
use crate::write_path::Recovered;

impl Ops {
    /// To be called before the first request of this daemon.
    ///
    /// What was sealed belongs to the file that it was sealed for, wherever the
    /// journal last saw it; where that is unknown, to the file of its key.
    pub fn take_over(&self, mut saved: SessionState, left: Recovered) {
        let _pins = self.namespace.table().restore(&mut saved);
        self.namespace.keep_directories();
        self.carried_out.restore(&saved);
        let Recovered {
            mut sealed,
            mut open,
        } = left;
        self.rename_recovery.hold_renames(&mut sealed);
        self.writeback.take_over_uploads(&sealed);
        self.writeback.take_over_early_uploads(open.values());
        let below: HashMap<StageId, StageId> = sealed
            .iter()
            .filter_map(|it| Some((it.sealed.stage, it.sealed.base.stage()?)))
            .collect();
        let sealed_ids: Vec<StageId> = sealed.iter().map(|it| it.sealed.stage).collect();
        let mut owners = HashMap::new();
        let mut files = Vec::new();
        for (ino, file) in &saved.files {
            let Ok(pin) = self.namespace.inode(Ino(*ino)) else {
                tracing::error!(
                    ino,
                    "session record ignored: an open file without its inode"
                );
                continue;
            };
            for id in file.stages() {
                let chain = std::iter::successors(Some(id), |id| below.get(id).copied());
                owners.extend(chain.map(|id| (id, pin.ino)));
            }
            files.push(self.files.restore_file(pin, file, &sealed_ids, &mut open));
        }
        self.files.keep_rest(open);
        self.handles.restore(&saved, &self.files);
        let (owned, rest): (Vec<_>, Vec<_>) = sealed
            .into_iter()
            .partition(|it| owners.contains_key(&it.sealed.stage));
        for found in owned {
            let file = owners.get(&found.sealed.stage);
            if let Some(file) = file.and_then(|ino| self.files.get(*ino)) {
                self.writeback.recover_into(&file, found);
            }
        }
        self.writeback.recover(rest);
        for file in files {
            self.deletes.keep_on_for_readers(&file);
            file.record();
            self.files.release_if_unused(&file);
        }
    }
}
