//! Open files as a predecessor had them, and what the successor needs to know of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::changes::Changes;
use super::content::{Content, Recorded};
use super::file::OpenFile;
use super::layers::LowerLayer;
use super::table::OpenFiles;
use crate::error::FsError;
use crate::namespace::{Attributes, LocalState, Pin};
use crate::session_state::{SavedFile, SavedLayer};
use crate::vocabulary::{NameState, ObjectVersion, StageId};
use crate::write_path::{LostFile, LostReason, Stage};

impl OpenFiles {
    /// Stages of files that cannot be resumed. One that is empty is what the
    /// predecessor had just made: nothing was written to it.
    pub fn keep_rest(&self, open: HashMap<StageId, Stage>) {
        for stage in open.into_values() {
            if stage.is_empty() {
                self.stage_factory.spool.discard(stage.file());
                continue;
            }
            let lost = LostFile {
                key: None,
                reason: LostReason::DaemonEnded,
                written: None,
            };
            self.stage_factory
                .spool
                .move_to_lost_found(stage.file(), &lost);
        }
    }

    /// The stages of a file joined into one, and why that is unusable, if it is.
    fn one_of(&self, stages: Vec<Stage>) -> (Option<Stage>, Option<FsError>) {
        let mut stages = stages.into_iter();
        let Some(mut stage) = stages.next() else {
            return (None, None);
        };
        let mut failed = stage.file().is_unusable().then_some(FsError::CORRUPT);
        for below in stages {
            if below.file().is_unusable() {
                failed = Some(FsError::CORRUPT);
            }
            let merged = match &failed {
                None => stage.absorb(&below),
                Some(error) => Err(error.clone()),
            };
            match merged {
                Ok(()) => self.stage_factory.spool.discard(below.file()),
                Err(error) => {
                    let lost = LostFile {
                        key: None,
                        reason: match &error {
                            FsError::Offloaded => LostReason::DaemonEnded,
                            _ => LostReason::Damaged("a record, or bytes,"),
                        },
                        written: None,
                    };
                    self.stage_factory
                        .spool
                        .move_to_lost_found(below.file(), &lost);
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = &failed {
            tracing::error!(stage = %stage.file().id(), %error, "staged bytes of an open file cannot be used: they go to lost+found, the file answers with an error");
            stage.file().set_unusable();
        }
        (Some(stage), failed)
    }

    pub fn restore_file(
        &self,
        inode: Pin,
        saved: &SavedFile,
        sealed: &[StageId],
        open: &mut HashMap<StageId, Stage>,
    ) -> Arc<OpenFile> {
        let mut stages = Vec::new();
        let (mut dirty, mut uploaded) = (false, false);
        // What the journal does not know as sealed is one stage again.
        for id in saved.stages() {
            if sealed.contains(&id) {
                break;
            }
            let Some(found) = open.remove(&id) else {
                uploaded = true;
                continue;
            };
            dirty |= saved.dirty || saved.stage != Some(id);
            stages.push(found);
        }
        let (stage, unusable) = self.one_of(stages);
        let base = if uploaded {
            self.base_of_remote(&inode, saved.remote.as_ref())
        } else {
            bottom_of(&saved.base)
        };
        let content = Content {
            base,
            intent: saved.intent,
            dirty: dirty && saved.name != NameState::Gone,
            failed: unusable.or_else(|| saved.failed.then(failed_before)),
            name: saved.name,
            has_uploader: false,
            handles: 0,
            writers: 0,
            holders: 0,
            recorded: Recorded::File(saved.clone()),
            // Which of the handles' changes were safe is not recorded.
            changes: Changes::since_before(),
            stage,
        };
        let mut state = inode.state();
        state.remote = saved.remote.clone();
        state.mtime_is_ours = state.remote.is_some();
        let stored = saved.stored.as_deref().cloned();
        state.attributes = stored.map(|headers| Arc::new(Attributes::decode(headers)));
        if let Some(stage) = &content.stage {
            let size_bytes = stage.len();
            state.local = Some(LocalState::Staged { size_bytes });
            let written = stage.file().modified().unwrap_or_else(SystemTime::now);
            state.overrides.mtime = state.overrides.mtime.max(Some(written));
        }
        drop(state);
        self.restore(inode, content)
    }

    /// An upload ended, and the successor was not told which: the object is there.
    fn base_of_remote(&self, inode: &Pin, remote: Option<&ObjectVersion>) -> LowerLayer {
        match (remote, self.namespace.file_key(inode.ino)) {
            (Some(remote), Ok(key)) => LowerLayer::Object(Arc::new(remote.at(key))),
            _ => LowerLayer::Empty,
        }
    }
}

/// What lies below all stages of a file.
fn bottom_of(base: &SavedLayer) -> LowerLayer {
    match base {
        SavedLayer::Empty => LowerLayer::Empty,
        SavedLayer::Object(object) => LowerLayer::Object(Arc::new(object.clone())),
        SavedLayer::Sealed(_, below) => bottom_of(below),
    }
}

/// Why is in the log of the daemon that saw it.
fn failed_before() -> FsError {
    let error = io::Error::other("an upload failed before mediafs was started again");
    FsError::Spool(Arc::new(error))
}
