//! lookup: a name to an inode.
//!
//! The kernel is never told to remember that a name is absent: it would add its
//! time to that of the remembered listing.

use super::Ops;
use super::entry::{Entry, reply_entry};
use crate::error::FsError;
use crate::namespace::Name;
use crate::vocabulary::Ino;

/// Errors: `NotFound`, `NameTooLong`, and the store's.
pub async fn lookup(ops: &Ops, parent: Ino, name: &Name) -> Result<Entry, FsError> {
    let parent = ops.namespace.directory(parent)?;
    ops.subtrees.entry_settled(parent.ino, name).await?;
    let inode = ops.namespace.lookup(&parent, name).await?;
    Ok(reply_entry(&inode, &ops.attributes))
}

pub fn forget(ops: &Ops, ino: Ino, count: u64) {
    ops.namespace.table().forget(ino, count);
    ops.namespace.table().commit();
}
