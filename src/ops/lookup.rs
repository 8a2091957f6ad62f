//! lookup: a name to an inode.

use super::Ops;
use super::attr::{Attr, AttrValidity};
use crate::error::FsError;
use crate::namespace::{Ino, Name, Pin};

/// An inode given to the kernel, which counts it as one more reference.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub attr: Attr,
    pub validity: AttrValidity,
}

impl Ops {
    /// Errors: `NotFound`, `NameTooLong`, and the store's.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> Result<Entry, FsError> {
        let parent = self.namespace.directory(parent)?;
        let inode = self.namespace.lookup(&parent, name).await?;
        Ok(self.give_entry(&inode))
    }

    /// How long the kernel may take a name for absent.
    pub fn negative_validity(&self) -> AttrValidity {
        AttrValidity(self.namespace.coherence().negative_ttl)
    }

    pub fn forget(&self, ino: Ino, count: u64) {
        self.namespace.table().forget(ino, count);
    }

    pub(super) fn give_entry(&self, inode: &Pin) -> Entry {
        self.namespace.table().add_lookup(inode.ino);
        let (attr, validity) = self.attr(inode);
        Entry { attr, validity }
    }
}
