//! release: the last descriptor of a handle is gone.

use super::Ops;
use super::handles::HandleId;
use super::open_file::{LastClose, OpenFile};
use crate::error::FsError;
use crate::store::Key;
use crate::vocabulary::OpenMode;
use crate::write_path::{LostFile, LostReason, Stage};

impl Ops {
    /// Uploads what a shared mapping wrote after the last flush; that of the last
    /// writer, all that is left.
    ///
    /// Errors: `BadHandle`. An upload's error has nobody to go to: the bytes go to lost+found.
    pub async fn release(&self, id: HandleId) -> Result<(), FsError> {
        let handle = self.handles.file(id)?;
        let _given_up = handle.give_up_holes(self.settings.durability);
        if handle.publishes_at_last()
            && let Err(error) = self.persist(&handle.file).await
        {
            tracing::debug!(ino = handle.file.inode.ino.0, %error, "released with a failed upload");
        }
        self.handles.remove(id);
        self.close(&handle.file, handle.mode);
        Ok(())
    }

    /// Counts one handle less and cleans up after the last one.
    pub(super) fn close(&self, file: &OpenFile, mode: OpenMode) {
        let remains = self
            .files
            .close(file, mode, |file| self.fall_back_to_store(file));
        self.clean_up(remains);
    }

    pub(super) fn clean_up(&self, remains: LastClose) {
        match remains {
            LastClose::Nothing => {}
            LastClose::Unwanted(stage) => self.desk.spool.discard(stage.file()),
            LastClose::Failed(stage, error, key) => {
                let reason = match error {
                    FsError::Interrupted => LostReason::WriterKilled,
                    error => LostReason::UploadFailed(error),
                };
                self.move_to_lost_found(key, &stage, reason);
            }
        }
    }

    /// Keeps staged bytes in lost+found.
    pub(super) fn move_to_lost_found(&self, key: Option<Key>, stage: &Stage, reason: LostReason) {
        let written = stage.written();
        let ends_in_file = stage.file().grow_to(stage.len());
        let is_unusable = stage.file().is_unusable();
        let reason = if is_unusable {
            LostReason::Damaged("a record")
        } else {
            reason
        };
        let remnant = LostFile {
            key: key.as_ref(),
            reason,
            written: Some(&written)
                .filter(|_| (stage.depends_on_base() || !ends_in_file) && !is_unusable)
                .map(Vec::as_slice),
        };
        self.desk.spool.move_to_lost_found(stage.file(), &remnant);
    }

    /// The file shows again what the store has of it, or vanishes where the store has
    /// nothing. Returns the key that it had.
    pub(super) fn fall_back_to_store(&self, file: &OpenFile) -> Option<Key> {
        let key = self.namespace.file_key(file.inode.ino).ok();
        let mut state = file.inode.state();
        state.local = None;
        if let Some(set) = state.overrides.if_set() {
            set.mtime = None;
        }
        state.content_generation += 1;
        let stored = state.remote.is_some();
        drop(state);
        if stored {
            self.namespace.invalidate(&file.inode);
        } else {
            self.namespace.take_back(&file.inode);
        }
        key
    }
}
