//! Scratch objects: zeros, from which holes of files are copied, and copies of what is
//! read still and was replaced.

use std::sync::Arc;

use crate::store::{DeleteQueue, ETag, Kept, Key};

/// Keys of scratch objects end in one of these and a number.
const ZEROS_NAME: &str = ".mediafs-zeros-";
const REPLACED_NAME: &str = ".mediafs-replaced-";
pub const SCRATCH_NAMES: [&str; 2] = [ZEROS_NAME, REPLACED_NAME];

/// Where scratch objects are made.
#[derive(Debug, Clone)]
pub struct Scratch {
    pub(super) store: Arc<DeleteQueue>,
    prefix: String,
}

/// An object of zeros, which goes when this is dropped.
#[derive(Debug)]
pub struct Zeros {
    pub(super) key: Key,
    pub(super) etag: ETag,
    _kept: Kept,
}

impl Scratch {
    /// `prefix` is that of the mount: empty, or ends in `/`.
    pub fn new(store: Arc<DeleteQueue>, prefix: &str) -> Self {
        let prefix = prefix.to_owned();
        Self { store, prefix }
    }

    pub(super) fn key_of_zeros(&self) -> Key {
        self.key(ZEROS_NAME)
    }

    /// Of a copy of what is about to be replaced.
    pub fn key_of_replaced(&self) -> Key {
        self.key(REPLACED_NAME)
    }

    fn key(&self, name: &str) -> Key {
        Key::new(format!("{}{name}{:016x}", self.prefix, fastrand::u64(..)))
    }
}

impl Zeros {
    /// An object that is there until `kept` is dropped.
    pub fn new(key: Key, etag: ETag, kept: Kept) -> Self {
        Self {
            key,
            etag,
            _kept: kept,
        }
    }
}
