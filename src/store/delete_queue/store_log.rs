//! What the log remembers for the successor of deletes, uploads and late objects.

use std::fmt;
use std::io;

use super::enqueue::DeletePending;
use super::late_object::LateObject;
use crate::store::{Key, UploadId};

/// Remembers for the successor what is to be deleted or aborted.
pub trait StoreLog: Send + Sync + fmt::Debug {
    /// Errors: the disk's; nothing is to be deleted then.
    fn delete_pending(&self, pending: &DeletePending) -> io::Result<()>;
    /// Called once deletes are noted, before they are answered. A log whose other records
    /// rely on them makes them outlive a power loss here. Errors: the disk's.
    fn sync_deletes(&self) -> io::Result<()> {
        Ok(())
    }
    /// All that was noted outlives a power loss once this returns. Errors: the disk's.
    fn sync(&self) -> io::Result<()>;
    fn settled(&self, keys: &[Key]);
    /// One of these may come to be under the key, and is to be deleted then.
    fn expect_late(&self, key: &Key, objects: &[LateObject]) -> io::Result<()>;
    /// No late object comes.
    fn forget_late(&self, key: &Key);
    /// The key is about to get an object that is wanted, and that even a power loss
    /// must not have deleted. Errors: the disk's.
    fn keep_late(&self, key: &Key) -> io::Result<()>;
    fn upload_begun(&self, key: Key, upload: UploadId);
    fn upload_ended(&self, key: Key, upload: UploadId);
}

/// What a predecessor left undone.
#[derive(Debug, Default)]
pub struct RecoveredWork {
    pub pending: Vec<DeletePending>,
    /// What their requests may still make, and nobody wants.
    pub late: Vec<(Key, LateObject)>,
}
