//! create: open(2) with O_CREAT on a name that is free.

use super::Ops;
use super::content::Intent;
use super::lookup::Entry;
use super::open::{OpenMode, Opened, Truncate};
use super::writers::Thread;
use crate::error::FsError;
use crate::namespace::{Ino, LocalState, Name};

/// Whether the name must be free (O_EXCL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusive {
    Yes,
    No,
}

/// A new file with a handle on it.
#[derive(Debug, Clone, Copy)]
pub struct Created {
    pub entry: Entry,
    pub opened: Opened,
}

impl Ops {
    /// The object comes to be at the first flush.
    ///
    /// Errors: `Exists`, `ReadOnly`, `NameTooLong`, `NoSpace`, the store's.
    pub async fn create(
        &self,
        parent: Ino,
        name: &Name,
        mode: OpenMode,
        exclusive: Exclusive,
        truncate: Truncate,
        opener: Thread,
    ) -> Result<Created, FsError> {
        self.check_writable()?;
        let parent = self.namespace.directory(parent)?;
        match self.namespace.lookup(&parent, name).await {
            Ok(_) if exclusive == Exclusive::Yes => return Err(FsError::Exists),
            Ok(inode) => {
                let opened = self.open(inode.ino, mode, truncate, opener).await?;
                return Ok(Created {
                    entry: self.give_entry(&inode),
                    opened,
                });
            }
            Err(FsError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let inode =
            self.namespace
                .create_local(&parent, name, LocalState::Staged { size_bytes: 0 })?;
        let file = self.open_inode(self.namespace.inode(inode.ino)?, mode);
        let intent = match exclusive {
            Exclusive::Yes => Intent::Exclusive,
            Exclusive::No => Intent::Replace,
        };
        if let Err(error) = file.start_over(&self.spool, intent) {
            self.close(&file, mode);
            self.namespace.vanish(&inode);
            return Err(error);
        }
        let opened = self.give_handle(file, mode, opener);
        Ok(Created {
            entry: self.give_entry(&inode),
            opened,
        })
    }
}
