//! Inodes and open files that stand for the objects of their new names.

use std::sync::Arc;

use crate::error::FsError;
use crate::files::{Moved, MovedObject, OpenFiles};
use crate::namespace::{Namespace, Pin, stored_version};
use crate::store::Key;
use crate::vocabulary::{Kind, ObjectVersion};
use crate::writeback::Sealer;

/// Has inodes and open files show the objects of their new names.
#[derive(Debug)]
pub struct Rebase {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub sealer: Arc<Sealer>,
}

impl Rebase {
    /// Tells the journal where every sealed stage of a file, or below a directory, belongs now.
    ///
    /// What is sealed from now on is told with its new place; what was being sealed
    /// has its turn, which this waits for, and is told of again.
    pub async fn journal_seals_again(&self, moved: &Pin) {
        let table = self.namespace.table();
        for file in self.files.sealed() {
            if let Some((dir, name)) = table.place(file.inode.ino)
                && table.is_within(file.inode.ino, moved.ino)
            {
                drop(self.sealer.journal_seal_again(&file, dir, &name).await);
            }
        }
    }

    /// Inodes under the directory stand for the copies from now on.
    pub fn rebase_subtree(&self, dir: &Pin, old_prefix: &str, new_prefix: &str, moved: &Moved) {
        dir.state().dir.forget_listing();
        for (name, child) in self.namespace.table().children(dir.ino) {
            let old_key = format!("{old_prefix}{}", name.as_str());
            let new_key = format!("{new_prefix}{}", name.as_str());
            match child.kind {
                Kind::Directory => {
                    self.rebase_subtree(
                        &child,
                        &format!("{old_key}/"),
                        &format!("{new_key}/"),
                        moved,
                    );
                }
                _ => {
                    if let Some(version) = moved.get(&Key::new(old_key)) {
                        self.rebase_file(&child, Key::new(new_key), version);
                    }
                }
            }
        }
    }

    pub fn rebase_file(&self, inode: &Pin, key: Key, moved: &MovedObject) {
        let now = tokio::time::Instant::now();
        {
            let mut state = inode.state();
            let known = state.remote.as_ref();
            if known.is_some_and(|known| moved.has_bytes_of(&known.etag, known.size_bytes)) {
                state.remote = Some(moved.version.clone());
                state.mtime_is_ours = true;
                // What was asked under the old name says nothing of the copy.
                state.checked_at = Some(now);
            } else {
                // Another client has replaced it; of its attributes nothing is known yet.
                state.adopt(&moved.version, None, now);
                state.checked_at = None;
            }
        }
        if let Some(file) = self.files.get(inode.ino) {
            file.edit().rebase(moved, key);
        }
    }

    pub fn rebase_moved(&self, inode: &Pin, version: ObjectVersion) -> Result<(), FsError> {
        let key = self.namespace.file_key(inode.ino)?;
        let moved = MovedObject::by_predecessor(version.clone());
        {
            let mut state = inode.state();
            state.remote = Some(version);
            state.checked_at = None;
        }
        if let Some(file) = self.files.get(inode.ino) {
            file.edit().rebase(&moved, key);
        }
        Ok(())
    }

    /// Open files below a directory show the objects under their new keys.
    pub async fn rebase_moved_files(&self, dir: &Pin) -> Result<(), FsError> {
        for file in self.files.all() {
            let inode = &file.inode;
            let Some((parent, name)) = self.namespace.table().place(inode.ino) else {
                continue;
            };
            if inode.state().remote.is_none() || !self.namespace.table().is_within(parent, dir.ino)
            {
                continue;
            }
            let parent = self.namespace.directory(parent)?;
            if let Some(version) = stored_version(&self.namespace, &parent, &name).await? {
                self.rebase_moved(inode, version)?;
            }
        }
        Ok(())
    }
}
