//! What a directory has under a name, and under its own.

use crate::store::ObjectMeta;
use crate::vocabulary::{Kind, ObjectVersion};

/// One entry of a directory in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File(ObjectVersion),
    Directory,
}

impl Entry {
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Directory => Kind::Directory,
        }
    }
}

/// What stands under the key `dir/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Marker {
    #[default]
    Unknown,
    /// A zero-byte object.
    Present,
    Absent,
    /// Another client's object that has bytes: not ours to write or remove.
    Foreign,
}

impl Marker {
    /// What was found under the key `dir/`.
    pub fn of(found: Option<&ObjectMeta>) -> Self {
        found.map_or(Self::Absent, |meta| Self::of_size(meta.size_bytes))
    }

    /// What an object under the key `dir/` is.
    pub fn of_size(size_bytes: u64) -> Self {
        if size_bytes == 0 {
            Self::Present
        } else {
            Self::Foreign
        }
    }
}

/// Position in a directory's log of local changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeSeq(pub(super) u64);
