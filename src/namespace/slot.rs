//! What the table has of an inode that is awake.

use std::sync::Arc;

use super::entries::Entries;
use super::inode::Inode;
use super::name::Name;
use crate::vocabulary::{Ino, Kind};

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) inode: Arc<Inode>,
    /// Where the inode is; the root and inodes without a name have none.
    pub(super) place: Option<(Ino, Name)>,
    /// References of the kernel. Source: libfuse's documentation of `forget`.
    pub(super) lookups: u64,
    /// References of operations and open files.
    pub(super) pins: u32,
    /// Which of the entries of its directory it is.
    pub(super) index: u32,
    /// Inodes whose place is in this directory.
    pub(super) entries: Entries,
}

impl Slot {
    pub(super) fn new(ino: Ino, kind: Kind) -> Self {
        Self {
            inode: Arc::new(Inode::new(ino, kind)),
            place: None,
            lookups: 0,
            pins: 0,
            index: 0,
            entries: Entries::default(),
        }
    }
}
