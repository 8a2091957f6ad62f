//! Going on with the session of a predecessor: its inodes, open files and handles.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::Ops;
use super::changes::Changes;
use super::content::LowerLayer;
use super::given_up::Closes;
use super::handles::{FileHandle, HandleId};
use super::open_file::{Content, OpenFile};
use super::writers::Writers;
use crate::error::FsError;
use crate::namespace::{InodeState, LocalState, Pin};
use crate::read_path::Cursor;
use crate::session_state::{SavedFile, SavedHandle, SavedLayer, SessionState};
use crate::vocabulary::{Ino, ObjectId, ObjectVersion, OpenMode};
use crate::write_path::{LostFile, LostReason, Recovered, RecoveredStage, Stage, StageId};

impl Ops {
    /// To be called before the first request of this daemon.
    ///
    /// What was sealed belongs to the file that it was sealed for, wherever the
    /// journal last saw it; where that is unknown, to the file of its key.
    pub fn take_over(&self, mut saved: SessionState, left: Recovered) {
        let _pins = self.namespace.table().restore(&mut saved);
        self.namespace.keep_directories();
        let Recovered {
            mut sealed,
            mut open,
        } = left;
        self.hold_renames(&mut sealed);
        self.take_over_uploads(&sealed);
        self.take_over_early_uploads(open.values());
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
            files.push(self.restore_file(pin, file, &sealed_ids, &mut open));
        }
        self.keep_rest(open);
        self.restore_handles(&saved);
        let (owned, rest): (Vec<_>, Vec<_>) = sealed
            .into_iter()
            .partition(|it| owners.contains_key(&it.sealed.stage));
        for found in owned {
            let file = owners.get(&found.sealed.stage);
            if let Some(file) = file.and_then(|ino| self.files.get(*ino)) {
                self.recover_into(&file, found);
            }
        }
        self.recover(rest);
        for file in files {
            self.keep_on_for_readers(&file);
            file.record();
            let remains = self
                .files
                .release_if_unused(&file, |file| self.fall_back_to_store(file));
            self.clean_up(remains);
        }
    }

    fn recover_into(&self, file: &Arc<OpenFile>, found: RecoveredStage) {
        file.recover(found);
        self.queue(file);
    }

    /// Stages of files that cannot be gone on with. One that is empty is what the
    /// predecessor had just made: nothing was written to it.
    fn keep_rest(&self, open: HashMap<StageId, Stage>) {
        for stage in open.into_values() {
            if stage.is_empty() {
                self.desk.spool.discard(stage.file());
                continue;
            }
            let remnant = LostFile {
                key: None,
                reason: LostReason::DaemonEnded,
                written: None,
            };
            self.desk.spool.move_to_lost_found(stage.file(), &remnant);
        }
    }

    /// What is staged of a file, as one; and why it cannot be used, where it cannot.
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
                Ok(()) => self.desk.spool.discard(below.file()),
                Err(error) => {
                    let remnant = LostFile {
                        key: None,
                        reason: match &error {
                            FsError::Offloaded => LostReason::DaemonEnded,
                            _ => LostReason::Damaged("a record, or bytes,"),
                        },
                        written: None,
                    };
                    self.desk.spool.move_to_lost_found(below.file(), &remnant);
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

    fn restore_file(
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
            dirty: dirty && !saved.orphan,
            failed: unusable.or_else(|| saved.failed.then(failed_before)),
            orphan: saved.orphan,
            covers: saved.covers,
            has_uploader: false,
            handles: 0,
            writers: 0,
            holders: 0,
            saved: Some(saved.clone()),
            is_over: false,
            // Which of the handles' changes were safe is not recorded.
            changes: Changes::since_before(),
            stage,
        };
        let mut state = inode.state();
        state.remote = saved.remote.clone();
        state.mtime_is_ours = state.remote.is_some();
        if let Some(stage) = &content.stage {
            let size_bytes = stage.len();
            state.local = Some(LocalState::Staged { size_bytes });
            let written = stage.file().modified().unwrap_or_else(SystemTime::now);
            state.overrides.mtime = state.overrides.mtime.max(Some(written));
        }
        drop(state);
        self.files.restore(inode, content)
    }

    /// An upload ended, and the successor was not told which: the object is there.
    fn base_of_remote(&self, inode: &Pin, remote: Option<&ObjectVersion>) -> LowerLayer {
        match (remote, self.namespace.file_key(inode.ino)) {
            (Some(remote), Ok(key)) => LowerLayer::Object(Arc::new(ObjectId {
                key,
                etag: remote.etag.clone(),
                size_bytes: remote.size_bytes,
            })),
            _ => LowerLayer::Empty,
        }
    }

    fn restore_handles(&self, saved: &SessionState) {
        for (number, handle) in &saved.handles {
            let id = HandleId(*number);
            match self.restored_handle(handle) {
                Ok(handle) => self.handles.restore_file(id, handle),
                Err(error) => {
                    tracing::error!(handle = number, %error, "session record ignored: a handle without its file")
                }
            }
        }
        for (number, dir) in &saved.dirs {
            let id = HandleId(*number);
            match self.restored_dir(id, dir) {
                Ok(handle) => self.handles.restore_dir(id, handle),
                Err(error) => {
                    tracing::error!(handle = number, %error, "session record ignored: a handle without its file")
                }
            }
        }
        self.handles.go_on_after(HandleId(saved.last_handle));
    }

    fn restored_handle(&self, saved: &SavedHandle) -> Result<FileHandle, FsError> {
        let inode = self.namespace.inode(Ino(saved.ino))?;
        let mode: OpenMode = saved.mode;
        inode.state().unprivileged_writers |= mode.writes();
        let file = self.open_inode(inode, mode);
        let change = file.last_change();
        Ok(FileHandle {
            file,
            mode,
            uploads_on_close: saved.uploads_on_close,
            cursor: Mutex::new(Cursor::default()),
            writers: Mutex::new(Writers::restored(saved.writers.as_ref(), change)),
            request: saved.request,
            closes: Closes::default(),
        })
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

impl Content {
    /// What the successor needs to know of it.
    pub(super) fn to_saved(&self, state: &InodeState) -> SavedFile {
        SavedFile {
            base: (&self.base).into(),
            stage: self.stage.as_ref().map(|stage| stage.file().id()),
            intent: self.intent,
            dirty: self.dirty,
            failed: self.failed.is_some(),
            orphan: self.orphan,
            covers: self.covers,
            remote: state.remote.as_ref().map(|version| ObjectVersion {
                etag: version.etag.clone(),
                size_bytes: version.size_bytes,
                last_modified: version.last_modified,
            }),
        }
    }
}

impl From<&LowerLayer> for SavedLayer {
    fn from(base: &LowerLayer) -> Self {
        match base {
            LowerLayer::Empty => Self::Empty,
            LowerLayer::Object(object) => Self::Object(ObjectId {
                key: object.key.clone(),
                etag: object.etag.clone(),
                size_bytes: object.size_bytes,
            }),
            LowerLayer::Sealed(sealed) => {
                Self::Sealed(sealed.stage.file().id(), Box::new((&sealed.base).into()))
            }
        }
    }
}
