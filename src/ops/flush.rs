//! flush: close(2) of one descriptor. What was written is safe when it returns.

use super::Ops;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::Thread;
use crate::vocabulary::HandleId;

/// Free for a handle that changed nothing since the last upload, whatever others
/// change meanwhile, and for a process that did not write through the handle.
///
/// Errors: `BadHandle`, the upload's; `Interrupted` for one that is being killed
/// and has left many holes.
pub async fn flush(ops: &Ops, handle: HandleId, closer: Thread) -> Result<(), FsError> {
    let handle = ops.handles.file(handle)?;
    handle.note_use();
    if !handle.publishes_for(closer) {
        return Ok(());
    }
    // Whether another process has the descriptor too, the release tells.
    if handle.is_closed_by_killed(closer) {
        return Err(FsError::Interrupted);
    }
    let _closing = handle.closes.begin();
    ops.writeback.persist(&handle.file).await?;
    failpoint::at(Point::FlushDone);
    Ok(())
}
