//! rmdir: a directory without entries goes.

use super::Ops;
use crate::error::FsError;
use crate::namespace::{Ino, Kind, Name, Pin};

impl Ops {
    /// Errors: `NotFound`, `NotADirectory`, `NotEmpty` whoever filled it, `ReadOnly`, the store's.
    pub async fn rmdir(&self, parent: Ino, name: &Name) -> Result<(), FsError> {
        self.check_writable()?;
        let parent = self.namespace.directory(parent)?;
        let _tree = self.tree.read().await;
        let dir = self.namespace.lookup(&parent, name).await?;
        if dir.kind != Kind::Directory {
            return Err(FsError::NotADirectory);
        }
        self.remove_dir(&parent, name, &dir).await
    }

    pub(super) async fn remove_dir(
        &self,
        parent: &Pin,
        name: &Name,
        dir: &Pin,
    ) -> Result<(), FsError> {
        self.namespace.check_empty(dir).await?;
        self.namespace.child_leaves(parent, name).await?;
        self.namespace.remove_marker(dir).await?;
        self.namespace.record(parent.ino, name, None);
        self.namespace.entries_changed(parent);
        self.namespace.table().detach(dir.ino);
        Ok(())
    }
}
