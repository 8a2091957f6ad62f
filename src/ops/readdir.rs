//! readdir and readdirplus: entries by offset.

use super::Ops;
use super::dir_reader::{BufferSpace, DirEntry, DirEntryPlus};
use crate::error::FsError;
use crate::vocabulary::HandleId;

/// Entries from an offset on; none at the end. Errors: `BadHandle`, the store's.
pub async fn readdir(ops: &Ops, id: HandleId, offset: u64) -> Result<Vec<DirEntry>, FsError> {
    let handle = ops.handles.dir(id)?;
    ops.dir_reader.entries(&handle, offset).await
}

/// Hands entries from an offset on to `take` until it returns false; each
/// one taken counts as a reference of the kernel.
///
/// Errors: `BadHandle`, the store's.
pub async fn readdirplus(
    ops: &Ops,
    id: HandleId,
    offset: u64,
    take: impl FnMut(DirEntryPlus) -> BufferSpace,
) -> Result<(), FsError> {
    let handle = ops.handles.dir(id)?;
    let outcome = ops.dir_reader.give_entries(&handle, offset, take).await;
    ops.namespace.table().commit();
    outcome
}
