//! From keys to what stands for them.

use std::sync::Arc;

use crate::error::FsError;
use crate::namespace::{DirPath, KeySpace, Name, Namespace, Pin};
use crate::store::Key;
use crate::vocabulary::{Kind, ROOT};

/// Finds the inodes of keys.
#[derive(Debug)]
pub struct KeyPaths {
    pub namespace: Arc<Namespace>,
    pub keys: KeySpace,
}

impl KeyPaths {
    /// Names from the root down to a file or a directory; none for the root.
    pub fn names(&self, key: &Key) -> Vec<Name> {
        let path = key.as_str().trim_end_matches('/');
        let names = self.keys.path_of(&Key::new(path));
        names.unwrap_or_default()
    }

    pub fn path(&self, key: &Key) -> DirPath {
        let names = self.names(key);
        names
            .iter()
            .fold(DirPath::root(), |path, name| path.join(name))
    }

    /// The inode of a file or a directory, if it is in the table.
    pub fn known(&self, key: &Key) -> Option<Pin> {
        let root = self.namespace.directory(ROOT).ok()?;
        let table = self.namespace.table();
        let mut names = self.names(key).into_iter();
        let known = names.try_fold(root, |at, name| table.child(at.ino, &name));
        known.filter(|inode| inode.ino != ROOT)
    }

    pub fn place_at(&self, inode: &Pin, key: &Key) -> Result<(), FsError> {
        let table = self.namespace.table();
        let mut names = self.names(key);
        let name = names.pop().ok_or(FsError::IllegalName)?;
        let root = self.namespace.directory(ROOT)?;
        let dir = names.iter().try_fold(root, |at, name| {
            table.child_or_new(at.ino, name, Kind::Directory)
        })?;
        table.rename(inode.ino, dir.ino, &name)
    }

    /// The directory that a key, or a directory's prefix, lies in.
    pub async fn parent_of(&self, key: &Key) -> Result<Option<Pin>, FsError> {
        let path = key.as_str().trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.directory(parent).await
    }

    /// A directory by its prefix, if the store has it.
    pub async fn directory(&self, prefix: &str) -> Result<Option<Pin>, FsError> {
        let mut at = self.namespace.directory(ROOT)?;
        for name in self.names(&Key::new(prefix)) {
            at = match self.namespace.lookup(&at, &name).await {
                Ok(found) => found,
                Err(FsError::NotFound(_)) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(at))
    }
}
