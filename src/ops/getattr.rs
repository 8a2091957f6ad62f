//! getattr: stat(2).

use super::Ops;
use crate::error::FsError;
use crate::files::{Attr, AttrValidity};
use crate::vocabulary::Ino;

impl Ops {
    /// The root's are answered without the store.
    ///
    /// Errors: `Stale` when the inode is gone or replaced and nobody has it open; the store's.
    pub async fn getattr(&self, ino: Ino) -> Result<(Attr, AttrValidity), FsError> {
        let inode = self.namespace.inode(ino)?;
        self.subtrees.inode_settled(ino).await?;
        let open = self.files.get(ino).is_some();
        if !self.namespace.revalidate(&inode).await? && !open {
            return Err(FsError::STALE);
        }
        Ok(self.attributes.attr(&inode))
    }
}
