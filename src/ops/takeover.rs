//! Resuming the session of a predecessor: its inodes, open files and handles.

use std::collections::HashMap;

use super::Ops;
use crate::session_state::SessionState;
use crate::vocabulary::{Ino, StageId};
use crate::write_path::Recovered;

/// To be called before the first request of this daemon.
///
/// What was sealed belongs to the file that it was sealed for, wherever the
/// journal last saw it; where that is unknown, to the file of its key.
pub fn take_over(ops: &Ops, mut saved: SessionState, left: Recovered) {
    let _pins = ops.namespace.table().restore(&mut saved);
    ops.namespace.keep_directories();
    ops.executed.restore(&saved);
    let Recovered {
        mut sealed,
        mut open,
    } = left;
    ops.rename_recovery.hold_renames(&mut sealed);
    ops.writeback.take_over_uploads(&sealed);
    ops.writeback.take_over_early_uploads(open.values());
    let below: HashMap<StageId, StageId> = sealed
        .iter()
        .filter_map(|it| Some((it.sealed.stage, it.sealed.base.stage()?)))
        .collect();
    let sealed_ids: Vec<StageId> = sealed.iter().map(|it| it.sealed.stage).collect();
    let mut owners = HashMap::new();
    let mut files = Vec::new();
    for (ino, file) in &saved.files {
        let Ok(pin) = ops.namespace.inode(Ino(*ino)) else {
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
        files.push(ops.files.restore_file(pin, file, &sealed_ids, &mut open));
    }
    ops.files.keep_rest(open);
    ops.handles.restore(&saved, &ops.files);
    let (owned, rest): (Vec<_>, Vec<_>) = sealed
        .into_iter()
        .partition(|it| owners.contains_key(&it.sealed.stage));
    for found in owned {
        let file = owners.get(&found.sealed.stage);
        if let Some(file) = file.and_then(|ino| ops.files.get(*ino)) {
            ops.writeback.recover_into(&file, found);
        }
    }
    ops.writeback.recover(rest);
    for file in files {
        ops.deletes.keep_on_for_readers(&file);
        file.record();
        ops.files.release_if_unused(&file);
    }
}
