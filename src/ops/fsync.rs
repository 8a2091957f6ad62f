//! fsync and fsyncdir: returns once the bytes are safe.

use super::Ops;
use super::handles::HandleId;
use crate::error::FsError;

impl Ops {
    /// Errors: `BadHandle`, the upload's.
    pub async fn fsync(&self, handle: HandleId) -> Result<(), FsError> {
        let handle = self.handles.file(handle)?;
        if !handle.file.needs_upload() {
            return Ok(());
        }
        self.persist(&handle.file).await
    }

    /// Names are in the store when the call that made them returns, or in the journal.
    ///
    /// Errors: `BadHandle`, the spool's.
    pub async fn fsyncdir(&self, handle: HandleId) -> Result<(), FsError> {
        self.handles.dir(handle)?;
        Ok(self.desk.spool.sync().await?)
    }
}
