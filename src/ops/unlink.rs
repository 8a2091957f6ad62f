//! unlink: a name and its object go; open handles keep the bytes.

use super::Ops;
use crate::error::FsError;
use crate::files::{Delivery, KernelRequest};
use crate::namespace::Name;
use crate::vocabulary::{Ino, Kind};

/// What another client has put meanwhile stays, as if it had come later.
/// Errors: `NotFound`, `IsADirectory`, `ReadOnly`, the store's; nothing is removed then.
///
/// Asked again, a name that is gone is what a predecessor removed.
pub async fn unlink(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    request: KernelRequest,
) -> Result<(), FsError> {
    let attempt = request.attempt;
    let (parent, _subtrees) = ops.name_changes.begin(parent, name, attempt).await?;
    let inode = match ops.namespace.lookup(&parent, name).await {
        Err(FsError::NotFound(_)) if attempt == Delivery::Resent => {
            let key = ops.namespace.child_key(parent.ino, name)?;
            ops.predecessor.note_delete(&key, None);
            return Ok(());
        }
        found => found?,
    };
    if inode.kind == Kind::Directory {
        return Err(FsError::IsADirectory);
    }
    if attempt == Delivery::Resent {
        let key = ops.namespace.child_key(parent.ino, name)?;
        let version = inode.state().remote.clone();
        ops.file_remover
            .remove(&parent, name, &inode, request)
            .await?;
        ops.predecessor
            .note_delete(&key, version.map(|version| version.etag));
        return Ok(());
    }
    ops.file_remover
        .remove(&parent, name, &inode, request)
        .await
}

/// The rest of a removal that a predecessor carried out: it may have sent more than
/// one delete.
pub async fn rest_of_unlink(ops: &Ops, parent: Ino, name: &Name) -> Result<(), FsError> {
    let key = ops.namespace.child_key(parent, name)?;
    ops.predecessor.note_delete(&key, None);
    Ok(())
}
