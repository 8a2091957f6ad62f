//! What this mount has made a short time ago: of such an object its time does not
//! tell whether it was there before a removal.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{ETag, Key};

/// Older objects are known by their time.
const MADE_FOR: Duration = Duration::from_secs(60);
/// Keys that are remembered.
const KEYS_LIMIT: usize = 10_000;

/// The last version of each key.
#[derive(Debug, Default)]
pub(super) struct Made(Mutex<HashMap<Key, (ETag, Instant)>>);

impl Made {
    pub fn note(&self, key: &Key, etag: &ETag) {
        let now = Instant::now();
        let mut made = self.0.lock();
        if made.len() >= KEYS_LIMIT {
            made.retain(|_, (_, at)| now.duration_since(*at) < MADE_FOR);
        }
        if made.len() < KEYS_LIMIT {
            made.insert(key.clone(), (etag.clone(), now));
        }
    }

    /// Whether the last version that was made is this one.
    pub fn is_last(&self, key: &Key, etag: &ETag) -> bool {
        self.0.lock().get(key).is_some_and(|(made, _)| made == etag)
    }

    /// The version is not wanted any more.
    pub fn take(&self, key: &Key) -> Option<ETag> {
        let (etag, _) = self.0.lock().remove(key)?;
        Some(etag)
    }
}
