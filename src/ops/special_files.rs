//! FIFOs, sockets and devices: an empty object that tells what it is, as s3fs
//! stores it. What they do is the kernel's: it opens them itself, and devices only
//! where the mount lets it (`nodev`).

use bytes::Bytes;

use super::Ops;
use super::lookup::Entry;
use crate::error::FsError;
use crate::files::{Caller, Delivery};
use crate::namespace::Name;
use crate::vocabulary::{Ino, Kind};

/// What mknod(2) makes besides files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialFile {
    pub kind: Kind,
    /// Of a device, as the kernel writes it.
    pub rdev: Option<u32>,
}

impl Ops {
    /// Errors: `Exists`; `NotPermitted` where attributes are not stored with objects;
    /// the store's.
    pub(super) async fn make_special(
        &self,
        parent: Ino,
        name: &Name,
        special: SpecialFile,
        permissions: u16,
        maker: Caller,
    ) -> Result<Entry, FsError> {
        let attempt = maker.request.attempt;
        let (parent, _subtrees) = self.name_changes.begin(parent, name, attempt).await?;
        match self.namespace.lookup(&parent, name).await {
            Ok(made) if made.kind == special.kind && attempt == Delivery::Resent => {
                return Ok(Entry::give(&made, &self.attributes));
            }
            Ok(_) => return Err(FsError::EXISTS),
            Err(FsError::NotFound(_)) if !self.namespace.stores_attributes() => {
                return Err(FsError::NotPermitted);
            }
            Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let inode = self.namespace.create_local(&parent, name, special.kind)?;
        self.attributes
            .init_attributes(&parent, &inode, permissions, maker);
        let put = self.put_node(&parent, name, &inode, Bytes::new(), special.rdev);
        if let Err(error) = put.await {
            self.namespace.roll_back_create(&inode);
            return Err(error);
        }
        Ok(Entry::give(&inode, &self.attributes))
    }
}
