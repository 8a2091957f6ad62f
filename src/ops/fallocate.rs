//! fallocate: room for bytes, or zeros in their place.

use std::ops::Range;

use super::Ops;
use super::attr::Caller;
use super::handles::HandleId;
use crate::error::FsError;

/// What happens to the range. Source: fallocate(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Bytes stay; a file shorter than the range's end grows.
    Grow,
    /// Bytes stay, and so does the size.
    KeepSize,
    /// Bytes become zeros; the size stays.
    PunchHole,
    /// Bytes become zeros; a file shorter than the range's end grows.
    ZeroAndGrow,
}

impl Ops {
    /// Reserves nothing: the spool takes bytes as they come.
    ///
    /// Errors: `BadHandle`, `TooLarge`, `NoSpace`; the store's, where the mode has changed.
    pub async fn fallocate(
        &self,
        handle: HandleId,
        caller: Caller,
        range: Range<u64>,
        allocation: Allocation,
    ) -> Result<(), FsError> {
        let handle = self.handles.file(handle)?;
        if !handle.mode.writes() {
            return Err(FsError::BadHandle);
        }
        handle.writers.lock().note(caller.thread);
        let file = &handle.file;
        let dropped = self.drop_privileges(&file.inode, caller);
        match allocation {
            Allocation::KeepSize => Ok(()),
            Allocation::Grow if file.len() >= range.end => Ok(()),
            Allocation::Grow => file.truncate(range.end),
            Allocation::PunchHole => file.zero(range, 0),
            Allocation::ZeroAndGrow => file.zero(range.clone(), range.end),
        }?;
        self.store_dropped(&file.inode, dropped).await
    }
}
