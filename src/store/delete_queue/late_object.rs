//! What a request without an answer may still make of a key.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::store::{
    ETag, GetRequest, HeadRequest, Key, LATE_LIMIT, ListedObject, ObjectMeta, ObjectStore,
    StoreError, StoreErrorKind,
};

/// How long scratch objects are looked for, which nobody else makes.
pub(super) const SCRATCH_WATCHED_FOR: Duration = Duration::from_secs(60);
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// An answer that takes longer may be the first after a silence.
const SLOW_ANSWER: Duration = Duration::from_secs(2);
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
    #[serde(default, skip_serializing_if = "Silence::is_none")]
    silence: Silence,
    /// Of a copy: another client's of the same version is not told from it but by what
    /// becomes of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) original: Option<Original>,
}

/// What a copy was made of, and nobody has moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Original {
    pub key: Key,
    pub etag: ETag,
}

/// A time in which the store answered nothing, and after which it may carry out what it
/// had received before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Silence {
    #[default]
    None,
    Lasts,
    /// It ended between these times, as `given_up_at`.
    Ended {
        after: u64,
        before: u64,
    },
}

impl Silence {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
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
        Self {
            makes,
            given_up_at: seconds(SystemTime::now()),
            silence: Silence::None,
            original: None,
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

    /// A copy of this version, which is wanted in its own place as long as it is there.
    pub fn of_copy(original: &ListedObject, copy: ETag) -> Self {
        let ListedObject { key, etag, .. } = original.clone();
        Self {
            original: Some(Original { key, etag }),
            ..Self::of_parts(copy)
        }
    }

    /// Whatever is under the key.
    pub fn any() -> Self {
        Self::now(LateVersion::Any)
    }

    /// Nobody has waited for it since this time of the store.
    pub(super) fn given_up_at(self, time: SystemTime) -> Self {
        Self {
            given_up_at: seconds(time),
            ..self
        }
    }

    /// The store answers nothing.
    pub(super) fn silent(&mut self) {
        self.silence = Silence::Lasts;
    }

    /// It answers again since this time of its own; the last that it did not answer was
    /// given up so long ago, if that is known.
    pub(super) fn heard(&mut self, now: SystemTime, silent_for: Option<Duration>) {
        let after = silent_for.map(|ago| seconds(now).saturating_sub((ago + LATE_LIMIT).as_secs()));
        self.silence = Silence::Ended {
            after: after.unwrap_or(self.given_up_at),
            before: seconds(now),
        };
    }

    pub(super) fn has(&self, version: &ETag) -> bool {
        match &self.makes {
            LateVersion::Bytes { etag, .. } | LateVersion::Parts { etag } => etag == version,
            LateVersion::Any => true,
        }
    }

    /// Whether the request may have made it: one of another client, with the same
    /// bytes, may be there long after, or have come in a silence that was this mount's alone.
    pub(super) fn is_in_time(&self, meta: &ObjectMeta) -> bool {
        let last = |since: u64| UNIX_EPOCH + Duration::from_secs(since) + LATE_LIMIT + SKEW_LIMIT;
        let made = meta.last_modified;
        let after_silence = match self.silence {
            Silence::None => false,
            Silence::Lasts => true,
            Silence::Ended { after, before } => {
                made >= UNIX_EPOCH + Duration::from_secs(after) && made <= last(before)
            }
        };
        made <= last(self.given_up_at) || after_silence || self.makes == LateVersion::Any
    }

    /// Of a copy whose original has gone: another client renames the same, and has nothing
    /// else. Errors: the store's.
    pub(super) async fn is_unwanted(&self, store: &dyn ObjectStore) -> Result<bool, StoreError> {
        let Some(original) = &self.original else {
            return Ok(true);
        };
        let key = original.key.clone();
        match store.head(HeadRequest { key }).await {
            Ok(there) => Ok(there.etag == original.etag),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the request may have made an object. ETags that are no hash say nothing:
    /// then the bytes decide.
    pub(super) async fn is_same(
        &self,
        store: &dyn ObjectStore,
        key: &Key,
        meta: &ObjectMeta,
    ) -> bool {
        let etag = match &self.makes {
            LateVersion::Bytes { etag, size_bytes } if *size_bytes == meta.size_bytes => etag,
            _ => return self.has(&meta.etag),
        };
        if *etag == meta.etag {
            return true;
        }
        let request = GetRequest {
            key: key.clone(),
            range: None,
            if_match: Some(meta.etag.clone()),
            sink: None,
        };
        let body = store.get(request).await.map(|answer| answer.body);
        body.is_ok_and(|body: Bytes| ETag::of_bytes(&body) == *etag)
    }

    /// How long a store may take to carry out a request whose client has gone.
    fn watched_for(&self) -> Duration {
        match self.makes {
            LateVersion::Bytes { .. } | LateVersion::Parts { .. } => LATE_LIMIT,
            LateVersion::Any => SCRATCH_WATCHED_FOR,
        }
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub objects: Vec<LateObject>,
    /// This mount has written the key since: the conditions of its requests count.
    pub is_written: bool,
    pub next: Instant,
    pub pause: Duration,
    pub until: Instant,
    /// What was found and is not to be deleted, though it has the bytes of what is.
    pub foreign: Option<(ETag, SystemTime)>,
    /// The store has not answered the last look.
    pub silence: Option<LookSilence>,
}

/// How long no look has been answered.
#[derive(Debug, Clone, Copy)]
pub(super) enum LookSilence {
    /// The last look was given up then.
    Of(Instant),
    OfPredecessor,
}

impl Watched {
    pub fn new(now: Instant) -> Self {
        Self {
            objects: Vec::new(),
            is_written: false,
            next: now,
            pause: PAUSE_FIRST,
            until: now,
            foreign: None,
            silence: None,
        }
    }

    /// Whether a version that was found has been decided on: nobody deletes it later.
    pub fn is_foreign(&self, (etag, modified): (&ETag, SystemTime)) -> bool {
        let foreign = self.foreign.as_ref();
        foreign.is_some_and(|foreign| (&foreign.0, foreign.1) == (etag, modified))
    }

    /// Whether a version that was found may be one that is to be deleted.
    pub fn hides(&self, found: (&ETag, SystemTime)) -> bool {
        !self.is_foreign(found) && self.objects.iter().any(|object| object.has(found.0))
    }

    /// What was found is another client's. Whether that is news.
    pub fn show(&mut self, found: (&ETag, SystemTime)) -> bool {
        let was_hidden = self.hides(found);
        // Of one that its bytes alone tell, a look that failed decides nothing.
        if was_hidden {
            self.foreign = Some((found.0.clone(), found.1));
        }
        was_hidden
    }

    /// Whether the next look comes earlier for it.
    pub fn look_soon(&mut self) -> bool {
        let soon = Instant::now() + PAUSE_FIRST;
        let is_later = self.next > soon;
        if is_later {
            self.next = soon;
        }
        is_later
    }

    pub fn add(&mut self, object: LateObject, now: Instant) {
        self.until = self.until.max(now + object.watched_for());
        let of = |object: &LateObject| (object.makes.clone(), object.original.clone());
        self.objects.retain(|known| of(known) != of(&object));
        if self.objects.len() >= OBJECTS_LIMIT {
            self.objects.remove(0);
        }
        self.objects.push(object);
    }

    /// A look got no answer. Whether that is news.
    pub fn silent(&mut self) -> bool {
        let before = self.silence.replace(LookSilence::Of(Instant::now()));
        self.objects.iter_mut().for_each(LateObject::silent);
        before.is_none()
    }

    /// A look that was sent then was answered, by the store's clock at this time. Whether
    /// the store had been silent, and has to be watched anew.
    pub fn heard(&mut self, sent: Instant, time: SystemTime) -> bool {
        let now = Instant::now();
        let is_slow = now.duration_since(sent) > SLOW_ANSWER;
        let silence = self.silence.take();
        let silence = silence.or_else(|| is_slow.then_some(LookSilence::Of(sent)));
        let silent_for = match silence {
            None => return false,
            Some(LookSilence::Of(at)) => Some(now.duration_since(at)),
            Some(LookSilence::OfPredecessor) => None,
        };
        for object in &mut self.objects {
            object.heard(time, silent_for);
            self.until = self.until.max(now + object.watched_for());
        }
        self.next = now + PAUSE_FIRST;
        self.pause = PAUSE_FIRST;
        true
    }

    /// What a predecessor left is looked for at once, and from now on.
    pub fn of_left(left: Vec<(Key, LateObject)>) -> BTreeMap<Key, Self> {
        let now = Instant::now();
        let mut late = BTreeMap::new();
        for (key, object) in left {
            let watched = late.entry(key).or_insert_with(|| Self::new(now));
            if object.silence == Silence::Lasts {
                watched.silence = Some(LookSilence::OfPredecessor);
            }
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

    /// An object that the store made so long from now.
    async fn made_after() -> impl Fn(Duration) -> ObjectMeta {
        let memory = Memory::default();
        put(&memory, "x").await;
        let key = Key::new("x");
        let there = memory.head(HeadRequest { key }).await.unwrap();
        move |age| ObjectMeta {
            last_modified: SystemTime::now() + age,
            ..there.clone()
        }
    }

    #[tokio::test]
    async fn what_came_long_after_is_anothers() {
        let object = LateObject::of_bytes(b"x");
        let meta = made_after().await;
        assert!(object.is_in_time(&meta(LATE_LIMIT)));
        assert!(!object.is_in_time(&meta(LATE_LIMIT + SKEW_LIMIT * 2)));
        assert!(LateObject::any().is_in_time(&meta(SKEW_LIMIT * 3)));
    }

    #[tokio::test]
    async fn what_came_after_a_silence_counts_and_what_came_within_it_is_anothers() {
        const SILENT_FOR: Duration = Duration::from_secs(1000);
        let meta = made_after().await;
        let mut object = LateObject::of_bytes(b"x");
        object.silent();
        assert!(object.is_in_time(&meta(SILENT_FOR)));
        let end = SystemTime::now() + SILENT_FOR;
        object.heard(end, Some(Duration::from_secs(10)));
        assert!(object.is_in_time(&meta(LATE_LIMIT)));
        assert!(!object.is_in_time(&meta(SILENT_FOR / 2)));
        assert!(object.is_in_time(&meta(SILENT_FOR)));
        assert!(object.is_in_time(&meta(SILENT_FOR + LATE_LIMIT)));
        assert!(!object.is_in_time(&meta(SILENT_FOR + LATE_LIMIT + SKEW_LIMIT * 2)));
        let mut of_predecessor = LateObject::of_bytes(b"x");
        of_predecessor.heard(end, None);
        assert!(of_predecessor.is_in_time(&meta(SILENT_FOR / 2)));
    }
}
