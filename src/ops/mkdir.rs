//! mkdir: a directory that persists though nothing is in it.

use super::Ops;
use super::lookup::Entry;
use crate::error::FsError;
use crate::namespace::{Ino, LocalState, Name};

impl Ops {
    /// Errors: `Exists`, `ReadOnly`, `NameTooLong`, the store's.
    pub async fn mkdir(&self, parent: Ino, name: &Name) -> Result<Entry, FsError> {
        self.check_writable()?;
        let parent = self.namespace.directory(parent)?;
        let _tree = self.tree.read().await;
        match self.namespace.lookup(&parent, name).await {
            Ok(_) => return Err(FsError::Exists),
            Err(FsError::NotFound) => {}
            Err(error) => return Err(error),
        }
        let dir = self
            .namespace
            .create_local(&parent, name, LocalState::BareDirectory)?;
        if let Err(error) = self.namespace.persist_directory(&parent, name, &dir).await {
            self.namespace.table().detach(dir.ino);
            return Err(error);
        }
        Ok(self.give_entry(&dir))
    }
}
