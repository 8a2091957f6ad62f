//! create and mknod: a file on a name that is free.

use super::Ops;
use super::entry::{Entry, reply_entry};
use super::file_maker::{Exclusive, ExclusiveCreate, NewFile};
use super::open::{Opened, Truncate, open};
use super::special_files::SpecialFile;
use crate::error::FsError;
use crate::files::{Caller, Delivery};
use crate::namespace::{Name, Pin};
use crate::vocabulary::{Ino, Kind, OpenMode};

/// What mknod(2) is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    File,
    Special(SpecialFile),
}

/// A new file with a handle on it.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    pub entry: Entry,
    pub opened: Opened,
}

/// How open(2) with O_CREAT was called.
#[derive(Debug, Clone, Copy)]
pub struct CreateRequest {
    pub mode: OpenMode,
    pub exclusive: Exclusive,
    pub truncate: Truncate,
    /// Permission bits of a new file.
    pub permissions: u16,
    pub maker: Caller,
}

/// The object comes to be at the first flush, or here when exclusive creates are strict.
///
/// Errors: `Exists`, `ReadOnly`, `NameTooLong`, `NoSpace`, the store's.
pub async fn create(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    request: CreateRequest,
) -> Result<Created, FsError> {
    let attempt = request.maker.request.attempt;
    let parent = ops
        .name_changes
        .begin_unlocked(parent, name, attempt)
        .await?;
    match ops.namespace.lookup(&parent, name).await {
        Ok(inode) if request.exclusive == Exclusive::Yes && !made_before(&inode, request.maker) => {
            return Err(FsError::EXISTS);
        }
        Ok(inode) => {
            let CreateRequest {
                mode,
                truncate,
                maker,
                ..
            } = request;
            let opened = open(ops, inode.ino, mode, truncate, maker).await?;
            return Ok(Created {
                entry: reply_entry(&inode, &ops.attributes),
                opened,
            });
        }
        Err(FsError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let claim = match request.exclusive {
        Exclusive::Yes => ops.settings.exclusive_create,
        Exclusive::No => ExclusiveCreate::Lazy,
    };
    let new = NewFile {
        mode: request.mode,
        exclusive: request.exclusive,
        claim,
        permissions: request.permissions,
        maker: request.maker,
    };
    let (inode, file, made) = ops.file_maker.make(&parent, name, new).await?;
    let opened = Opened::give(
        &ops.handles,
        file,
        request.mode,
        (Some(made), request.maker),
    );
    Ok(Created {
        entry: reply_entry(&inode, &ops.attributes),
        opened,
    })
}

/// mknod(2): a new empty file, in the store at once.
///
/// Errors: as `create`; `NotPermitted` for anything but regular files where
/// attributes are not stored with objects.
pub async fn mknod(
    ops: &Ops,
    parent: Ino,
    name: &Name,
    kind: NodeKind,
    permissions: u16,
    maker: Caller,
) -> Result<Entry, FsError> {
    let attempt = maker.request.attempt;
    if let NodeKind::Special(special) = kind {
        let (parent, _subtrees) = ops.name_changes.begin(parent, name, attempt).await?;
        let making = (special, permissions, maker);
        let node = ops.node_maker.make_special(&parent, name, making).await?;
        return Ok(reply_entry(&node, &ops.attributes));
    }
    let parent = ops
        .name_changes
        .begin_unlocked(parent, name, attempt)
        .await?;
    match ops.namespace.lookup(&parent, name).await {
        Ok(inode) if made_before(&inode, maker) => {
            return Ok(reply_entry(&inode, &ops.attributes));
        }
        Ok(_) => return Err(FsError::EXISTS),
        Err(FsError::NotFound(_)) => {}
        Err(error) => return Err(error),
    }
    let new = NewFile {
        mode: OpenMode::Read,
        exclusive: Exclusive::Yes,
        claim: ExclusiveCreate::Strict,
        permissions,
        maker,
    };
    let (inode, file, _) = ops.file_maker.make(&parent, name, new).await?;
    ops.files.close(&file, new.mode);
    Ok(reply_entry(&inode, &ops.attributes))
}

/// Whether an empty file on the name may be what this very request made, by way
/// of a daemon that is dead now.
fn made_before(inode: &Pin, maker: Caller) -> bool {
    let is_empty = inode.kind == Kind::File && inode.state().size_bytes() == 0;
    is_empty && maker.request.attempt == Delivery::Resent
}
