//! flush: close(2) of one descriptor. What was written is in S3 when it returns.

use super::Ops;
use super::handles::HandleId;
use crate::error::FsError;

impl Ops {
    /// Free for a handle that cannot write, and when nothing changed since the last upload.
    ///
    /// Errors: `BadHandle`, the upload's.
    pub async fn flush(&self, handle: HandleId) -> Result<(), FsError> {
        let handle = self.handles.file(handle)?;
        if !handle.mode.writes() || !handle.file.needs_upload() {
            return Ok(());
        }
        self.upload(&handle.file).await
    }
}
