//! fallocate: room for bytes, or zeros in their place.

use std::ops::Range;

use super::Ops;
use crate::error::FsError;
use crate::files::Caller;
use crate::vocabulary::HandleId;

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

/// Reserves nothing: the spool takes bytes as they come.
///
/// Errors: `BadHandle`, `TooLarge`, `NoSpace`; the store's, where the mode has changed.
pub async fn fallocate(
    ops: &Ops,
    id: HandleId,
    caller: Caller,
    range: Range<u64>,
    allocation: Allocation,
) -> Result<(), FsError> {
    let handle = ops.handles.file(id)?;
    if !handle.mode.writes() {
        return Err(FsError::BadHandle);
    }
    let file = &handle.file;
    let dropped = ops.attributes.drop_privileges(&file.inode, caller);
    let change = match allocation {
        Allocation::KeepSize => None,
        Allocation::Grow if file.len() >= range.end => None,
        Allocation::Grow => Some(file.truncate(range.end)?),
        Allocation::PunchHole => Some(file.zero(range, 0)?),
        Allocation::ZeroAndGrow => Some(file.zero(range.clone(), range.end)?),
    };
    if let Some(change) = change {
        ops.handles.note_change(id, &handle, caller.thread, change);
    }
    ops.attribute_writer
        .store_dropped(&file.inode, dropped)
        .await
}
