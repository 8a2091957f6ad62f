//! What this mount has stored with objects a moment ago: a copy of one need not ask.

use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::store::{ETag, Key, ObjectHeaders};

/// Longer ago, another client may have changed them and left the bytes.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// Objects of which it is known, the last ones.
const KNOWN_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(511);

/// Headers of the last objects that were stored with one request, by key.
///
/// An ETag does not tell headers apart: a copy of an object onto itself changes them
/// and leaves it.
#[derive(Debug)]
pub struct WrittenHeaders {
    known_for: Duration,
    written: Mutex<LruCache<Key, Written>>,
}

#[derive(Debug)]
struct Written {
    version: ETag,
    headers: ObjectHeaders,
    at: Instant,
}

impl WrittenHeaders {
    /// `ttl` is how long what the store said counts as true.
    pub fn new(ttl: Duration) -> Self {
        Self {
            known_for: KNOWN_FOR.min(ttl),
            written: Mutex::new(LruCache::new(KNOWN_LIMIT)),
        }
    }

    /// The store has confirmed this version.
    pub fn note(&self, key: &Key, version: &ETag, headers: &ObjectHeaders) {
        let written = Written {
            version: version.clone(),
            headers: headers.clone(),
            at: Instant::now(),
        };
        self.written.lock().put(key.clone(), written);
    }

    /// The key is about to have, or has, an object with other headers.
    pub fn forget(&self, key: &Key) {
        self.written.lock().pop(key);
    }

    /// As a HEAD would tell them, so without tags.
    pub fn of(&self, key: &Key, version: &ETag) -> Option<ObjectHeaders> {
        let mut known = self.written.lock();
        let written = known.get(key)?;
        let counts = written.version == *version && written.at.elapsed() < self.known_for;
        counts.then(|| ObjectHeaders {
            tags: None,
            ..written.headers.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn headers_are_known_of_the_version_that_was_written_for_a_moment() {
        let written = WrittenHeaders::new(Duration::MAX);
        let (key, version) = (Key::new("k"), ETag::new("a"));
        let headers = ObjectHeaders {
            content_type: Some("text/plain".to_owned()),
            tags: Some("a=b".to_owned()),
            ..ObjectHeaders::default()
        };
        written.note(&key, &version, &headers);
        let known = written.of(&key, &version).unwrap();
        assert_eq!(known.content_type, headers.content_type);
        assert_eq!(known.tags, None);
        assert!(written.of(&key, &ETag::new("b")).is_none());
        assert!(written.of(&Key::new("l"), &version).is_none());
        tokio::time::advance(KNOWN_FOR).await;
        assert!(written.of(&key, &version).is_none());
        let brief = WrittenHeaders::new(Duration::ZERO);
        brief.note(&key, &version, &headers);
        assert!(brief.of(&key, &version).is_none(), "no longer than the ttl");
    }

    #[test]
    fn as_many_are_known_as_there_is_a_bound_for() {
        let written = WrittenHeaders::new(Duration::MAX);
        let version = ETag::new("a");
        for number in 0..2000 {
            let key = Key::new(number.to_string());
            written.note(&key, &version, &ObjectHeaders::default());
        }
        assert_eq!(written.written.lock().len(), KNOWN_LIMIT.get());
    }
}
