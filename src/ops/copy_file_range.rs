//! copy_file_range: a whole object becomes another file without its bytes moving.

use std::sync::Arc;

use super::Ops;
use crate::error::FsError;
use crate::files::{Caller, check_awaited};
use crate::vocabulary::{HandleId, ObjectId};

/// One end of a copy.
#[derive(Debug, Clone, Copy)]
pub struct CopyEnd {
    pub handle: HandleId,
    pub offset: u64,
}

/// Copies a file that S3 has whole into an empty one. Returns the bytes copied.
///
/// Errors: `Unsupported` for any other copy: the kernel then reads and writes;
/// `BadHandle`; `Stale` when the source changed; `Exists`; the store's.
pub async fn copy_file_range(
    ops: &Ops,
    from: CopyEnd,
    to: CopyEnd,
    len: u64,
    caller: Caller,
) -> Result<u64, FsError> {
    let source = ops.handles.file(from.handle)?;
    let target = ops.handles.file(to.handle)?;
    if !source.mode.reads() || !target.mode.writes() {
        return Err(FsError::BadHandle);
    }
    let whole = || {
        let object = source.file.whole_object();
        let whole = |object: &Arc<ObjectId>| {
            from.offset == 0 && len >= object.size_bytes && object.size_bytes > 0
        };
        object.filter(whole).ok_or(FsError::Unsupported)
    };
    whole()?;
    if to.offset != 0 || target.file.len() != 0 || target.file.shadows_object() {
        return Err(FsError::Unsupported);
    }
    if target.file.is_exclusive() {
        // A copy takes no condition on its target: an empty object claims the name.
        ops.uploads.upload(&target.file).await?;
    }
    let inodes = [source.file.inode.ino, target.file.inode.ino];
    let _subtrees = ops.subtrees.share_inodes(inodes).await?;
    let _turn = target.file.upload_lock.lock().await;
    let object = whole()?;
    check_awaited()?;
    ops.attributes.drop_privileges(&target.file.inode, caller);
    ops.object_copier
        .copy(&object, &target.file, caller.request)
        .await?;
    Ok(object.size_bytes)
}
