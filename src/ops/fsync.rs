//! fsync and fsyncdir: returns once the bytes are safe.

use super::Ops;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::vocabulary::HandleId;

/// Through whichever handle: who asks for a file to be on disk means all of it,
/// as on a local disk, also what others have written so far.
///
/// Errors: `BadHandle`, the upload's.
pub async fn fsync(ops: &Ops, handle: HandleId) -> Result<(), FsError> {
    let handle = ops.handles.file(handle)?;
    if !handle.file.needs_upload() {
        return Ok(());
    }
    failpoint::at(Point::FsyncBegins);
    ops.writeback.persist(&handle.file).await?;
    failpoint::at(Point::FsyncDone);
    Ok(())
}

/// Names are in the store when the call that made them returns, or in the journal.
///
/// Errors: `BadHandle`, the spool's.
pub async fn fsyncdir(ops: &Ops, handle: HandleId) -> Result<(), FsError> {
    ops.handles.dir(handle)?;
    Ok(ops.stage_factory.spool.sync().await?)
}
