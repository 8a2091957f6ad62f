//! What keeps an inode in the table.

use std::ops::Deref;
use std::sync::Arc;

use super::inode::Inode;
use super::keyspace::KeySpace;
use super::table::InodeTable;
use crate::store::Key;

/// Keeps an inode in the table, and awake.
#[derive(Debug)]
pub struct Pin {
    pub(super) table: Arc<InodeTable>,
    pub(super) inode: Arc<Inode>,
}

impl Deref for Pin {
    type Target = Arc<Inode>;

    fn deref(&self) -> &Arc<Inode> {
        &self.inode
    }
}

impl Pin {
    /// Key of the file's object; none when its name is gone or too long.
    pub fn key(&self, keys: &KeySpace) -> Option<Key> {
        let (parent, name) = self.table.place(self.inode.ino)?;
        keys.file_key(&self.table.dir_path(parent).ok()?, &name)
            .ok()
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.table.unpin(self.inode.ino);
    }
}
