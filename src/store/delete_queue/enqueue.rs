//! A delete that waits.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::store::ETag;

#[derive(Debug, Clone)]
pub(super) struct Doom {
    pub etag: Option<ETag>,
    /// Other versions that were there by then are to be deleted too.
    pub removed_at: Option<SystemTime>,
    /// Somebody reads it still, and hears from here that others wait for its delete.
    pub kept: Option<Arc<Notify>>,
    /// Of this mount alone, which makes it and uses it meanwhile.
    pub is_scratch: bool,
}

impl Doom {
    pub fn now(etag: Option<ETag>) -> Self {
        Self {
            etag,
            removed_at: None,
            kept: None,
            is_scratch: false,
        }
    }

    /// Of a name that an application has just removed.
    pub fn removed(etag: Option<ETag>) -> Self {
        Self {
            removed_at: Some(SystemTime::now()),
            ..Self::now(etag)
        }
    }

    /// Of an object that is to be made.
    pub fn scratch() -> Self {
        Self {
            is_scratch: true,
            ..Self::now(None)
        }
    }

    pub fn by_predecessor(etag: Option<ETag>) -> Self {
        Self {
            etag,
            removed_at: None,
            kept: None,
            is_scratch: false,
        }
    }
}
