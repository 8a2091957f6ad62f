//! release: the last descriptor of a handle is gone.

use super::Ops;
use crate::error::FsError;
use crate::vocabulary::HandleId;

/// Uploads what a shared mapping wrote after the last flush; that of the last
/// writer, all that is left.
///
/// Errors: `BadHandle`. An upload's error has nobody to go to: the bytes go to lost+found.
pub async fn release(ops: &Ops, id: HandleId) -> Result<(), FsError> {
    let handle = ops.handles.file(id)?;
    handle.note_use();
    let _given_up = handle.give_up_holes(ops.settings.durability);
    if handle.publishes_at_last()
        && let Err(error) = ops.writeback.persist(&handle.file).await
    {
        tracing::debug!(ino = handle.file.inode.ino.0, %error, "released with a failed upload");
    }
    ops.handles.remove(id);
    ops.files.close(&handle.file, handle.mode);
    Ok(())
}
