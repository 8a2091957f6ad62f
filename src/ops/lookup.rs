//! lookup: a name to an inode.
//!
//! The kernel is never told to remember that a name is absent: it would add its
//! time to that of the remembered listing.

use super::Ops;
use crate::error::FsError;
use crate::files::{Attr, AttrValidity, AttributeView};
use crate::namespace::{Name, Pin};
use crate::vocabulary::Ino;

/// An inode given to the kernel, which counts it as one more reference.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub attr: Attr,
    pub validity: AttrValidity,
}

impl Entry {
    /// Counts the reference that the kernel gets by it.
    pub(super) fn give(inode: &Pin, attributes: &AttributeView) -> Self {
        let table = attributes.namespace.table();
        table.add_lookup(inode.ino);
        table.commit();
        let (attr, validity) = attributes.attr(inode);
        Self { attr, validity }
    }
}

impl Ops {
    /// Errors: `NotFound`, `NameTooLong`, and the store's.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> Result<Entry, FsError> {
        let parent = self.namespace.directory(parent)?;
        self.subtrees.entry_settled(parent.ino, name).await?;
        let inode = self.namespace.lookup(&parent, name).await?;
        Ok(Entry::give(&inode, &self.attributes))
    }

    pub fn forget(&self, ino: Ino, count: u64) {
        self.namespace.table().forget(ino, count);
        self.namespace.table().commit();
    }
}
