//! A delete that waits.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::store::{ETag, Key, ObjectMeta};

/// An object to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePending {
    pub key: Key,
    /// The version that it is known to be. Besides it, what late requests for the key
    /// make is meant; of a marker, whichever is there.
    pub etag: Option<ETag>,
    /// When its name was removed, by the store's clock: other versions that were there
    /// before are meant too. None where they are not, as of what was moved, and where
    /// the store's time is not known.
    pub removed_at: Option<SystemTime>,
}

impl DeletePending {
    /// This version alone.
    pub fn of_version(key: Key, etag: Option<ETag>) -> Self {
        Self {
            key,
            etag,
            removed_at: None,
        }
    }

    /// Whatever was there under a name that is removed at this time of the store.
    pub fn of_name(key: Key, etag: Option<ETag>, removed_at: Option<SystemTime>) -> Self {
        Self {
            removed_at,
            ..Self::of_version(key, etag)
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct QueuedDelete {
    pub etag: Option<ETag>,
    /// Other versions that were there by then are to be deleted too.
    pub removed_at: Option<SystemTime>,
    /// Somebody reads it still, and hears from here that others wait for its delete.
    pub kept: Option<Arc<Notify>>,
    /// Of this mount alone, which makes it and uses it meanwhile.
    pub is_scratch: bool,
    /// How often the store has failed for this key, though it answered.
    pub failures: u32,
}

impl QueuedDelete {
    pub fn of(pending: DeletePending) -> (Key, Self) {
        let DeletePending {
            key,
            etag,
            removed_at,
        } = pending;
        let queued = Self {
            etag,
            removed_at,
            kept: None,
            is_scratch: false,
            failures: 0,
        };
        (key, queued)
    }

    /// What goes where the name goes once more before its object is deleted: this mount
    /// puts nothing under it until then, so that what goes with the name now has no
    /// version of its own, or has taken the place of the other.
    pub fn and(&self, again: DeletePending) -> DeletePending {
        DeletePending {
            etag: again.etag.or_else(|| self.etag.clone()),
            removed_at: again.removed_at.max(self.removed_at),
            ..again
        }
    }

    /// Whether an object is meant that was there before the removal.
    pub fn means_older(&self, there: &ObjectMeta) -> bool {
        self.is_scratch || self.removed_at.is_some_and(|at| there.is_older_than(at))
    }

    /// Of an object that is to be made.
    pub fn scratch() -> Self {
        Self {
            etag: None,
            removed_at: None,
            kept: None,
            is_scratch: true,
            failures: 0,
        }
    }
}
