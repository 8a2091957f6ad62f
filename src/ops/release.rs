//! release: the last descriptor of a handle is gone.

use super::Ops;
use super::handles::HandleId;
use super::open::OpenMode;
use super::open_file::{OpenFile, Remains};
use crate::error::FsError;
use crate::write_path::LostReason;

impl Ops {
    /// Uploads what a shared mapping wrote after the last flush.
    ///
    /// Errors: `BadHandle`. An upload's error has nobody to go to: the bytes go to lost+found.
    pub async fn release(&self, id: HandleId) -> Result<(), FsError> {
        let handle = self.handles.file(id)?;
        if handle.publishes
            && handle.file.needs_upload()
            && let Err(error) = self.upload(&handle.file).await
        {
            tracing::debug!(ino = handle.file.inode.ino.0, %error, "released with a failed upload");
        }
        self.handles.remove(id);
        self.close(&handle.file, handle.mode);
        Ok(())
    }

    /// Counts one handle less and cleans up after the last one.
    pub(super) fn close(&self, file: &OpenFile, mode: OpenMode) {
        match self.files.close(file, mode) {
            Remains::Nothing => {}
            Remains::Unwanted(stage) => self.spool.discard(&stage),
            Remains::Failed(stage, error) => {
                let key = self.namespace.file_key(file.inode.ino).ok();
                self.spool
                    .keep(&stage, key.as_ref(), &LostReason::UploadFailed(error));
                self.fall_back_to_store(file);
            }
        }
    }

    /// The file shows again what the store has of it, or vanishes where the store has nothing.
    fn fall_back_to_store(&self, file: &OpenFile) {
        let mut state = file.inode.state();
        state.local = None;
        state.overrides.mtime = None;
        state.content_generation += 1;
        let stored = state.remote.is_some();
        drop(state);
        if stored {
            self.namespace.distrust(&file.inode);
        } else {
            self.namespace.vanish(&file.inode);
        }
    }
}
