//! create and mknod: a file on a name that is free.

use std::sync::Arc;

use super::lookup::Entry;
use super::open::{Opened, Truncate};
use super::special_files::SpecialFile;
use super::{ExclusiveCreate, Ops};
use crate::error::FsError;
use crate::files::{
    AttributeView, Caller, ChangeNumber, Delivery, OpenFile, OpenFiles, check_awaited,
};
use crate::namespace::{Name, Namespace, Pin};
use crate::vocabulary::{Ino, Intent, Kind, OpenMode};
use crate::writeback::Uploads;

/// Whether the name must be free (O_EXCL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    Yes,
    No,
}

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

/// Makes files.
#[derive(Debug)]
pub struct FileMaker {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub files: Arc<OpenFiles>,
    pub uploads: Arc<Uploads>,
}

impl Ops {
    /// The object comes to be at the first flush, or here when exclusive creates are strict.
    ///
    /// Errors: `Exists`, `ReadOnly`, `NameTooLong`, `NoSpace`, the store's.
    pub async fn create(
        &self,
        parent: Ino,
        name: &Name,
        request: CreateRequest,
    ) -> Result<Created, FsError> {
        let attempt = request.maker.request.attempt;
        let parent = self
            .name_changes
            .begin_unlocked(parent, name, attempt)
            .await?;
        match self.namespace.lookup(&parent, name).await {
            Ok(inode)
                if request.exclusive == Exclusive::Yes && !made_before(&inode, request.maker) =>
            {
                return Err(FsError::EXISTS);
            }
            Ok(inode) => {
                let CreateRequest {
                    mode,
                    truncate,
                    maker,
                    ..
                } = request;
                let opened = self.open(inode.ino, mode, truncate, maker).await?;
                return Ok(Created {
                    entry: Entry::give(&inode, &self.attributes),
                    opened,
                });
            }
            Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let claim = match request.exclusive {
            Exclusive::Yes => self.settings.exclusive_create,
            Exclusive::No => ExclusiveCreate::Lazy,
        };
        let (inode, file, made) = self.file_maker.make(&parent, name, &request, claim).await?;
        let opened = Opened::give(
            &self.handles,
            file,
            request.mode,
            (Some(made), request.maker),
        );
        Ok(Created {
            entry: Entry::give(&inode, &self.attributes),
            opened,
        })
    }

    /// mknod(2): a new empty file, in the store at once.
    ///
    /// Errors: as `create`; `NotPermitted` for anything but regular files where
    /// attributes are not stored with objects.
    pub async fn mknod(
        &self,
        parent: Ino,
        name: &Name,
        kind: NodeKind,
        permissions: u16,
        maker: Caller,
    ) -> Result<Entry, FsError> {
        let attempt = maker.request.attempt;
        if let NodeKind::Special(special) = kind {
            let (parent, _subtrees) = self.name_changes.begin(parent, name, attempt).await?;
            let making = (special, permissions, maker);
            let node = self.node_maker.make_special(&parent, name, making).await?;
            return Ok(Entry::give(&node, &self.attributes));
        }
        let parent = self
            .name_changes
            .begin_unlocked(parent, name, attempt)
            .await?;
        match self.namespace.lookup(&parent, name).await {
            Ok(inode) if made_before(&inode, maker) => {
                return Ok(Entry::give(&inode, &self.attributes));
            }
            Ok(_) => return Err(FsError::EXISTS),
            Err(FsError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let request = CreateRequest {
            mode: OpenMode::Read,
            exclusive: Exclusive::Yes,
            truncate: Truncate::No,
            permissions,
            maker,
        };
        let claim = ExclusiveCreate::Strict;
        let (inode, file, _) = self.file_maker.make(&parent, name, &request, claim).await?;
        self.files.close(&file, request.mode);
        Ok(Entry::give(&inode, &self.attributes))
    }
}

impl FileMaker {
    async fn make(
        &self,
        parent: &Pin,
        name: &Name,
        request: &CreateRequest,
        claim: ExclusiveCreate,
    ) -> Result<(Pin, Arc<OpenFile>, ChangeNumber), FsError> {
        check_awaited()?;
        let inode = self.namespace.create_local(parent, name, Kind::File)?;
        let (mode, maker) = (request.permissions, request.maker);
        self.attributes.init_attributes(parent, &inode, mode, maker);
        let file = self
            .files
            .open(self.namespace.inode(inode.ino)?, request.mode);
        let intent = match request.exclusive {
            Exclusive::Yes => Intent::Exclusive,
            Exclusive::No => Intent::Replace,
        };
        let outcome = async {
            let made = file.start_over(intent)?;
            if claim == ExclusiveCreate::Strict {
                self.uploads.upload(&file).await?;
            }
            Ok(made)
        };
        let made = match outcome.await {
            Ok(made) => made,
            Err(error) => {
                file.orphan();
                self.files.close(&file, request.mode);
                self.namespace.roll_back_create(&inode);
                return Err(error);
            }
        };
        self.attributes.record_overrides(&inode);
        Ok((inode, file, made))
    }
}

/// Whether an empty file on the name may be what this very request made, by way
/// of a daemon that is dead now.
fn made_before(inode: &Pin, maker: Caller) -> bool {
    let is_empty = inode.kind == Kind::File && inode.state().size_bytes() == 0;
    is_empty && maker.request.attempt == Delivery::Resent
}
