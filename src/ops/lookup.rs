//! lookup: a name to an inode.
//!
//! The kernel is never told to remember that a name is absent: it would add its
//! time to that of the remembered listing.

use super::Ops;
use super::entry::{Entry, give_entry};
use crate::error::FsError;
use crate::namespace::Name;
use crate::vocabulary::Ino;

impl Ops {
    /// Errors: `NotFound`, `NameTooLong`, and the store's.
    pub async fn lookup(&self, parent: Ino, name: &Name) -> Result<Entry, FsError> {
        let parent = self.namespace.directory(parent)?;
        self.subtrees.entry_settled(parent.ino, name).await?;
        let inode = self.namespace.lookup(&parent, name).await?;
        Ok(give_entry(&inode, &self.attributes))
    }

    pub fn forget(&self, ino: Ino, count: u64) {
        self.namespace.table().forget(ino, count);
        self.namespace.table().commit();
    }
}
