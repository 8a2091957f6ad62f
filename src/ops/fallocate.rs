//! fallocate: room for bytes, or zeros in their place.

use std::ops::Range;

use super::Ops;
use super::handles::HandleId;
use super::writers::Thread;
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
    /// Errors: `BadHandle`, `TooLarge`, `NoSpace`.
    pub fn fallocate(
        &self,
        id: HandleId,
        thread: Thread,
        range: Range<u64>,
        allocation: Allocation,
    ) -> Result<(), FsError> {
        let handle = self.handles.file(id)?;
        if !handle.mode.writes() {
            return Err(FsError::BadHandle);
        }
        let file = &handle.file;
        let change = match allocation {
            Allocation::KeepSize => return Ok(()),
            Allocation::Grow if file.len() >= range.end => return Ok(()),
            Allocation::Grow => file.truncate(range.end)?,
            Allocation::PunchHole => file.zero(range, 0)?,
            Allocation::ZeroAndGrow => file.zero(range.clone(), range.end)?,
        };
        self.handles.note_change(id, &handle, thread, change);
        Ok(())
    }
}
