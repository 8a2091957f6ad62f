//! Scratch objects of zeros, from which holes of files are copied.

use std::sync::Arc;

use crate::store::{DeleteQueue, ETag, Kept, Key};

/// Keys of scratch objects of zeros end in this and a number.
const SCRATCH_NAME: &str = ".mediafs-zeros-";

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

    pub(super) fn key(&self) -> Key {
        Key::new(format!(
            "{}{SCRATCH_NAME}{:016x}",
            self.prefix,
            fastrand::u64(..)
        ))
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
