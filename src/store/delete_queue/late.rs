//! Uploads that were cancelled because their name went, and that the store may
//! carry out later: looked for during a bounded time, and deleted.

use std::time::Duration;

use bytes::Bytes;
use md5::{Digest, Md5};
use tokio::time::{Instant, sleep_until};

use super::{DeletePending, DeleteQueue, excludes};
use crate::store::{DeleteRequest, ETag, GetRequest, HeadRequest, Key, ObjectMeta, StoreErrorKind};

/// How long a store may take to carry out a request whose client has gone.
const WATCHED_FOR: Duration = Duration::from_secs(60);
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// What a cancelled upload may make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateObject {
    /// As a store names it that takes a hash of the bytes.
    etag: ETag,
    size_bytes: u64,
    /// Whether the ETag is a hash of the bytes, which can be compared.
    of_bytes: bool,
}

impl LateObject {
    /// One request has these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self {
            etag: hash(bytes),
            size_bytes: bytes.len() as u64,
            of_bytes: true,
        }
    }

    /// The parts come to this version.
    pub fn of_parts(etag: ETag, size_bytes: u64) -> Self {
        Self {
            etag,
            size_bytes,
            of_bytes: false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Watched {
    object: LateObject,
    next: Instant,
    pause: Duration,
    until: Instant,
}

impl DeleteQueue {
    /// Deletes what a cancelled upload makes of the key, should it still come;
    /// until then it is not seen. A write of the key by this mount ends that: its
    /// own condition counts then.
    pub fn watch_for_late(&self, key: Key, object: LateObject) {
        let now = Instant::now();
        let watched = Watched {
            object,
            next: now + PAUSE_FIRST,
            pause: PAUSE_FIRST,
            until: now + WATCHED_FOR,
        };
        self.late.lock().insert(key.clone(), watched);
        if !self.is_doomed(&key) {
            self.log_late(&key);
        }
        self.late_added.notify_one();
    }

    /// Tells the log of what is watched for, so that the successor looks once more.
    pub(super) fn log_late(&self, key: &Key) {
        let Some(watched) = self.late.lock().get(key).cloned() else {
            return;
        };
        let doomed = DeletePending {
            key: key.clone(),
            etag: Some(watched.object.etag),
        };
        if let Err(error) = self.log.doomed(&doomed) {
            tracing::warn!(%key, %error, "journal write failed: after a crash a cancelled upload that is applied late would not be deleted");
        }
    }

    /// The key is written by this mount.
    pub(super) fn forget_late(&self, key: &Key) {
        if self.late.lock().remove(key).is_some() && !self.is_doomed(key) {
            self.log.settled(std::slice::from_ref(key));
        }
    }

    /// Deletes late objects that exclude one under the key. Whether there were any.
    pub(super) async fn clear_late(&self, key: &Key) -> bool {
        let in_the_way: Vec<(Key, Watched)> = {
            let late = self.late.lock();
            let excluding = late
                .iter()
                .filter(|(other, _)| excludes(other.as_str(), key.as_str()));
            excluding
                .map(|(key, watched)| (key.clone(), watched.clone()))
                .collect()
        };
        for (other, watched) in &in_the_way {
            self.delete_if_there(other, &watched.object).await;
        }
        !in_the_way.is_empty()
    }

    /// Whether an object that was found is one that is to be deleted.
    pub(super) fn is_late(&self, key: &Key, etag: &ETag) -> bool {
        let late = self.late.lock();
        late.get(key)
            .is_some_and(|watched| watched.object.etag == *etag)
    }

    pub(super) async fn watch(&self) {
        loop {
            let next = self.late.lock().values().map(|watched| watched.next).min();
            match next {
                None => self.late_added.notified().await,
                Some(next) => {
                    tokio::select! {
                        () = sleep_until(next) => {}
                        () = self.late_added.notified() => continue,
                    }
                    self.look_for_due().await;
                }
            }
        }
    }

    async fn look_for_due(&self) {
        let now = Instant::now();
        let due: Vec<(Key, Watched)> = {
            let mut late = self.late.lock();
            let due = late.iter_mut().filter(|(_, watched)| watched.next <= now);
            due.map(|(key, watched)| {
                watched.next = now + watched.pause;
                watched.pause = (watched.pause * 2).min(PAUSE_LIMIT);
                (key.clone(), watched.clone())
            })
            .collect()
        };
        for (key, watched) in due {
            self.delete_if_there(&key, &watched.object).await;
            if watched.until <= now {
                self.forget_late(&key);
            }
        }
    }

    async fn delete_if_there(&self, key: &Key, object: &LateObject) {
        let meta = match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(meta) => meta,
            Err(error) if error.kind == StoreErrorKind::NotFound => return,
            Err(error) => {
                tracing::debug!(%key, %error, "not looked for a cancelled upload");
                return;
            }
        };
        if !self.is_same(key, &meta, object).await || !self.late.lock().contains_key(key) {
            return;
        }
        tracing::info!(%key, "a cancelled upload was carried out late: deleting its object");
        let delete = DeleteRequest {
            key: key.clone(),
            if_match: Some(meta.etag),
        };
        if let Err(error) = self.store.delete(delete).await {
            tracing::warn!(%key, %error, "delete failed: it is tried again");
        }
    }

    /// ETags that are no hash say nothing: then the bytes decide.
    async fn is_same(&self, key: &Key, meta: &ObjectMeta, object: &LateObject) -> bool {
        if meta.etag == object.etag || meta.size_bytes != object.size_bytes || !object.of_bytes {
            return meta.etag == object.etag;
        }
        let request = GetRequest {
            key: key.clone(),
            range: None,
            if_match: Some(meta.etag.clone()),
        };
        let body = self.store.get(request).await.map(|answer| answer.body);
        body.is_ok_and(|body: Bytes| hash(&body) == object.etag)
    }
}

fn hash(bytes: &[u8]) -> ETag {
    let md5: [u8; 16] = Md5::digest(bytes).into();
    ETag::new(&format!("{:032x}", u128::from_be_bytes(md5)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;
    use crate::store::LIST_PAGE_LIMIT;
    use crate::store::delete_queue::tests::{delete_queue, keys, put};
    use crate::store::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_goes_by_its_bytes_and_what_another_put_stays() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        store.watch_for_late(Key::new("late"), LateObject::of_bytes(b"late"));
        store.watch_for_late(Key::new("another"), LateObject::of_bytes(b"late"));
        sleep(Duration::from_secs(20)).await;
        assert_eq!(log.0.lock().len(), 2, "the successor would look");
        put(&*memory, "late").await;
        put(&*memory, "another").await;
        sleep(WATCHED_FOR + PAUSE_LIMIT).await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["another"]);
        assert!(log.0.lock().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_written_again_is_left_alone() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        store.watch_for_late(Key::new("again"), LateObject::of_bytes(b"again"));
        put(&*store, "again").await;
        sleep(WATCHED_FOR + PAUSE_LIMIT).await;
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["again"]);
        assert!(log.0.lock().is_empty());
        runs.abort();
    }
}
