//! What every operation that changes a name does before it looks at what is there.

use std::sync::Arc;

use crate::error::FsError;
use crate::files::Delivery;
use crate::namespace::{Name, Namespace, Pin, SubtreeGuard, SubtreeLocks};
use crate::vocabulary::Ino;
use crate::writeback::Predecessor;

/// Whether the mount takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

impl Access {
    /// Errors: `ReadOnly`.
    pub fn check_writable(self) -> Result<(), FsError> {
        match self {
            Self::ReadWrite => Ok(()),
            Self::ReadOnly => Err(FsError::ReadOnly),
        }
    }
}

/// Lets operations change names.
#[derive(Debug)]
pub struct NameChanges {
    pub access: Access,
    pub namespace: Arc<Namespace>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
}

impl NameChanges {
    /// Nobody moves a directory above the name until the guard is dropped.
    ///
    /// Errors: `ReadOnly`; `Stale`, or `NotADirectory`, for the directory; `TimedOut` while
    /// a rename of a predecessor moves it.
    pub async fn begin(
        &self,
        parent: Ino,
        name: &Name,
        attempt: Delivery,
    ) -> Result<(Pin, SubtreeGuard), FsError> {
        let parent = self.directory(parent, name, attempt).await?;
        let subtrees = self.subtrees.share_entry(parent.ino, name).await?;
        Ok((parent, subtrees))
    }

    /// The same for one that takes its locks later, when a file is uploaded.
    pub async fn begin_unlocked(
        &self,
        parent: Ino,
        name: &Name,
        attempt: Delivery,
    ) -> Result<Pin, FsError> {
        let parent = self.directory(parent, name, attempt).await?;
        self.subtrees.entry_settled(parent.ino, name).await?;
        Ok(parent)
    }

    /// A predecessor's request may still change the name: a resent request
    /// waits for it, or it would be answered by what is not so any more.
    async fn directory(&self, parent: Ino, name: &Name, attempt: Delivery) -> Result<Pin, FsError> {
        self.access.check_writable()?;
        let directory = self.namespace.directory(parent)?;
        if attempt == Delivery::Resent {
            let key = self.namespace.child_key(parent, name)?;
            self.predecessor.wait_before_change(&[key]).await?;
        }
        Ok(directory)
    }
}
