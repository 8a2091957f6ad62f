//! mkdir: a directory that persists though nothing is in it.

use super::Ops;
use super::entry::{Entry, reply_entry};
use crate::error::FsError;
use crate::files::{Caller, Delivery, check_awaited};
use crate::namespace::{Name, persist_directory};
use crate::vocabulary::{Ino, Kind};

/// Errors: `Exists`, `ReadOnly`, `NameTooLong`, the store's.
pub async fn mkdir(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    permissions: u16,
    maker: Caller,
) -> Result<Entry, FsError> {
    let attempt = maker.request.attempt;
    let (parent, _subtrees) = ops.name_changes.begin(parent, name, attempt).await?;
    match ops.namespace.lookup(&parent, name).await {
        Ok(made) if made.kind == Kind::Directory && attempt == Delivery::Resent => {
            return Ok(reply_entry(&made, &ops.attributes));
        }
        Ok(_) => return Err(FsError::EXISTS),
        Err(FsError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    check_awaited()?;
    let dir = ops.namespace.create_local(&parent, name, Kind::Directory)?;
    ops.attributes
        .init_attributes(&parent, &dir, permissions, maker);
    if let Err(error) = persist_directory(&ops.namespace, &parent, &dir).await {
        ops.namespace.table().detach(dir.ino);
        return Err(error);
    }
    ops.attributes.record_overrides(&dir);
    Ok(reply_entry(&dir, &ops.attributes))
}
