//! symlink and readlink: an object whose bytes are the target, as s3fs stores it.

use bytes::Bytes;

use super::Ops;
use super::entry::{Entry, reply_entry};
use super::node_maker::Node;
use crate::error::FsError;
use crate::files::{Caller, Delivery, LowerLayer, check_awaited};
use crate::namespace::Name;
use crate::vocabulary::{Ino, Kind};

/// Longest target. Source: limits.h, `PATH_MAX`, with its final NUL.
const TARGET_LIMIT_BYTES: u64 = 4095;
/// Permissions that symlinks have in Linux. Source: symlink(7).
const SYMLINK_MODE: u16 = 0o777;

/// Errors: `NotPermitted` where attributes are not stored with objects;
/// `Exists`, `ReadOnly`, `NameTooLong`, the store's.
pub async fn symlink(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    target: Bytes,
    maker: Caller,
) -> Result<Entry, FsError> {
    let attempt = maker.request.attempt;
    let (parent, _subtrees) = ops.name_changes.begin(parent, name, attempt).await?;
    if !ops.namespace.stores_attributes() {
        return Err(FsError::NotPermitted);
    }
    if target.len() as u64 > TARGET_LIMIT_BYTES {
        return Err(FsError::NameTooLong);
    }
    match ops.namespace.lookup(&parent, name).await {
        Ok(made) if made.kind == Kind::Symlink && attempt == Delivery::Resent => {
            return if readlink(ops, made.ino).await? == target {
                Ok(reply_entry(&made, &ops.attributes))
            } else {
                Err(FsError::EXISTS)
            };
        }
        Ok(_) => return Err(FsError::EXISTS),
        Err(FsError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    check_awaited()?;
    let node = Node {
        kind: Kind::Symlink,
        permissions: SYMLINK_MODE,
        body: target,
        rdev: None,
    };
    let link = ops.node_maker.make(&parent, name, node, maker).await?;
    Ok(reply_entry(&link, &ops.attributes))
}

/// Errors: `InvalidArgument` for what is no symlink; `Stale`; the store's.
pub async fn readlink(ops: &Ops, ino: Ino) -> Result<Bytes, FsError> {
    let link = ops.namespace.inode(ino)?;
    ops.subtrees.inode_settled(ino).await?;
    if link.kind != Kind::Symlink {
        return Err(FsError::InvalidArgument);
    }
    match ops.files.base_of(&link) {
        LowerLayer::Object(object) => {
            let blocks = ops.reader.read(&object, 0..TARGET_LIMIT_BYTES).await?;
            Ok(blocks.concat().into())
        }
        LowerLayer::Empty | LowerLayer::Sealed(_) => Err(FsError::STALE),
    }
}
