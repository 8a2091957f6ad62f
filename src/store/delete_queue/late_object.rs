//! What a request without an answer may still make of a key.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::store::{ETag, Key, LATE_LIMIT, ObjectMeta};

/// How long scratch objects are looked for, which nobody else makes.
pub(super) const SCRATCH_WATCHED_FOR: Duration = Duration::from_secs(60);
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// Versions of one key that are watched for: those that were cancelled last.
const OBJECTS_LIMIT: usize = 16;
/// How much the clocks of one store may differ, with the time that a successor takes to
/// start.
const SKEW_LIMIT: Duration = Duration::from_secs(25);

/// What a request without an answer may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateObject {
    pub(super) makes: LateVersion,
    /// When nobody waited for the answer any more, in seconds since 1970; by the store's
    /// clock once it is watched for.
    given_up_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LateVersion {
    /// Its ETag is the hash of these bytes, on a store that takes one.
    Bytes {
        etag: ETag,
        size_bytes: u64,
    },
    Parts {
        etag: ETag,
    },
    /// The key is this mount's alone.
    Any,
}

impl LateObject {
    fn now(makes: LateVersion) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            makes,
            given_up_at: since.unwrap_or_default().as_secs(),
        }
    }

    /// One request has these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::now(LateVersion::Bytes {
            etag: ETag::of_bytes(bytes),
            size_bytes: bytes.len() as u64,
        })
    }

    /// The parts come to this version.
    pub fn of_parts(etag: ETag) -> Self {
        Self::now(LateVersion::Parts { etag })
    }

    /// Whatever is under the key.
    pub fn any() -> Self {
        Self::now(LateVersion::Any)
    }

    /// Nobody has waited for it since this time of the store.
    pub(super) fn given_up_at(self, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH);
        Self {
            given_up_at: since.unwrap_or_default().as_secs(),
            ..self
        }
    }

    pub(super) fn has(&self, version: &ETag) -> bool {
        match &self.makes {
            LateVersion::Bytes { etag, .. } | LateVersion::Parts { etag } => etag == version,
            LateVersion::Any => true,
        }
    }

    /// Whether the request may have made it: one of another client, with the same
    /// bytes, may be there long after.
    pub(super) fn is_in_time(&self, meta: &ObjectMeta) -> bool {
        let last = UNIX_EPOCH + Duration::from_secs(self.given_up_at) + LATE_LIMIT + SKEW_LIMIT;
        meta.last_modified <= last || self.makes == LateVersion::Any
    }

    /// How long a store may take to carry out a request whose client has gone.
    fn watched_for(&self) -> Duration {
        match self.makes {
            LateVersion::Bytes { .. } | LateVersion::Parts { .. } => LATE_LIMIT,
            LateVersion::Any => SCRATCH_WATCHED_FOR,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub objects: Vec<LateObject>,
    /// This mount has written the key since: the conditions of its requests count.
    pub is_written: bool,
    pub next: Instant,
    pub pause: Duration,
    pub until: Instant,
}

impl Watched {
    pub fn new(now: Instant) -> Self {
        Self {
            objects: Vec::new(),
            is_written: false,
            next: now,
            pause: PAUSE_FIRST,
            until: now,
        }
    }

    pub fn add(&mut self, object: LateObject, now: Instant) {
        self.until = self.until.max(now + object.watched_for());
        self.objects.retain(|known| known.makes != object.makes);
        if self.objects.len() >= OBJECTS_LIMIT {
            self.objects.remove(0);
        }
        self.objects.push(object);
    }

    /// What a predecessor left is looked for at once, and from now on.
    pub fn of_left(left: Vec<(Key, LateObject)>) -> BTreeMap<Key, Self> {
        let now = Instant::now();
        let mut late = BTreeMap::new();
        for (key, object) in left {
            let watched = late.entry(key).or_insert_with(|| Self::new(now));
            watched.add(object, now);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::delete_queue::tests::put;
    use crate::store::memory::Memory;
    use crate::store::{HeadRequest, ObjectStore};

    #[tokio::test]
    async fn what_came_long_after_is_anothers() {
        let object = LateObject::of_bytes(b"x");
        let memory = Memory::default();
        put(&memory, "x").await;
        let key = Key::new("x");
        let there = memory.head(HeadRequest { key }).await.unwrap();
        let meta = |age: Duration| ObjectMeta {
            last_modified: SystemTime::now() + age,
            ..there.clone()
        };
        assert!(object.is_in_time(&meta(LATE_LIMIT)));
        assert!(!object.is_in_time(&meta(LATE_LIMIT + SKEW_LIMIT * 2)));
        assert!(LateObject::any().is_in_time(&meta(SKEW_LIMIT * 3)));
    }
}
