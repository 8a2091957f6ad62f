//! A delete that waits.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::store::ETag;

#[derive(Debug, Clone)]
pub(super) struct Doom {
    pub etag: Option<ETag>,
    pub since: Option<Instant>,
    /// Somebody reads it still, and hears from here that others wait for its delete.
    pub kept: Option<Arc<Notify>>,
}

impl Doom {
    pub fn now(etag: Option<ETag>) -> Self {
        Self {
            etag,
            since: Some(Instant::now()),
            kept: None,
        }
    }

    pub fn by_predecessor(etag: Option<ETag>) -> Self {
        Self {
            etag,
            since: None,
            kept: None,
        }
    }
}
