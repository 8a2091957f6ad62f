//! FIFOs, sockets and devices: an empty object that tells what it is, as s3fs
//! stores it. What they do is the kernel's: it opens them itself, and devices only
//! where the mount lets it (`nodev`).

use bytes::Bytes;

use super::node_maker::{Node, NodeMaker};
use crate::error::FsError;
use crate::files::{Caller, Delivery};
use crate::namespace::{Name, Pin};
use crate::vocabulary::Kind;

/// What mknod(2) makes besides files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecialFile {
    pub kind: Kind,
    /// Of a device, as the kernel writes it.
    pub rdev: Option<u32>,
}

impl NodeMaker {
    /// The inode of the name; where it is made again, the one that a predecessor made.
    ///
    /// Errors: `Exists`; `NotPermitted` where attributes are not stored with objects;
    /// the store's.
    pub async fn make_special(
        &self,
        parent: &Pin,
        name: &Name,
        (special, permissions, maker): (SpecialFile, u16, Caller),
    ) -> Result<Pin, FsError> {
        let attempt = maker.request.attempt;
        match self.namespace.lookup(parent, name).await {
            Ok(made) if made.kind == special.kind && attempt == Delivery::Resent => {
                return Ok(made);
            }
            Ok(_) => return Err(FsError::EXISTS),
            Err(FsError::NotFound(_)) if !self.namespace.stores_attributes() => {
                return Err(FsError::NotPermitted);
            }
            Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let node = Node {
            kind: special.kind,
            permissions,
            body: Bytes::new(),
            rdev: special.rdev,
        };
        self.make(parent, name, node, maker).await
    }
}
