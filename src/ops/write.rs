//! write: bytes into the spool.

use super::Ops;
use super::handles::HandleId;
use super::writers::Thread;
use crate::error::FsError;

impl Ops {
    /// Errors: `BadHandle`, `NoSpace`, `TooLarge`, and that of an upload that failed before.
    pub fn write(
        &self,
        handle: HandleId,
        thread: Thread,
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let handle = self.handles.file(handle)?;
        handle.writers.lock().note(thread);
        handle.file.write(&self.spool, offset, data)
    }
}
