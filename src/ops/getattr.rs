//! getattr: stat(2).

use super::Ops;
use crate::error::FsError;
use crate::files::{Attr, AttrValidity};
use crate::vocabulary::Ino;

/// The root's are answered without the store.
///
/// Errors: `Stale` when the inode is gone or replaced and nobody has it open; the store's.
pub async fn getattr(ops: &Ops, ino: Ino) -> Result<(Attr, AttrValidity), FsError> {
    let inode = ops.namespace.inode(ino)?;
    ops.subtrees.inode_settled(ino).await?;
    let open = ops.files.get(ino).is_some();
    if !ops.namespace.revalidate(&inode).await? && !open {
        return Err(FsError::STALE);
    }
    Ok(ops.attributes.attr(&inode))
}
