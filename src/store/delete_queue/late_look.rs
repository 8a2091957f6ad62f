//! Looking for late objects, and deleting those that are found.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::late::LateObjects;
use super::late_object::LateObject;
use crate::store::{DeleteRequest, HeadRequest, Key, ObjectMeta, StoreError, StoreErrorKind};

pub(super) const PAUSE_LIMIT: Duration = Duration::from_secs(10);
const LOOKS_AT_ONCE: usize = 16;

impl LateObjects {
    pub(super) async fn run(&self) {
        loop {
            let next = self
                .watched
                .lock()
                .values()
                .map(|watched| watched.next)
                .min();
            match next {
                None => self.added.notified().await,
                Some(next) => {
                    tokio::select! {
                        () = sleep_until(next) => {}
                        () = self.added.notified() => continue,
                    }
                    self.look_for_due().await;
                }
            }
        }
    }

    async fn look_for_due(&self) {
        let now = Instant::now();
        let due: Vec<(Key, bool)> = {
            let mut late = self.watched.lock();
            let due = late.iter_mut().filter(|(_, watched)| watched.next <= now);
            due.map(|(key, watched)| {
                let is_last = watched.until <= now;
                watched.next = now + watched.pause;
                if !is_last {
                    watched.next = watched.next.min(watched.until);
                }
                watched.pause = (watched.pause * 2).min(PAUSE_LIMIT);
                (key.clone(), is_last)
            })
            .collect()
        };
        let looks = stream::iter(due).map(|(key, is_last)| async move {
            // One that nobody could look for is looked for again.
            let is_known = !self.is_watched(&key) || self.delete_if_there(&key).await;
            if is_last && is_known {
                self.forget(&key, now);
            }
        });
        looks.buffer_unordered(LOOKS_AT_ONCE).collect().await
    }

    /// The time is over, unless the key is watched anew.
    fn forget(&self, key: &Key, now: Instant) {
        let over = {
            let mut late = self.watched.lock();
            let is_over = late.get(key).is_some_and(|watched| watched.until <= now);
            is_over.then(|| late.remove(key)).flatten()
        };
        if over.is_some_and(|watched| !watched.is_written) {
            self.log.forget_late(key);
        }
    }

    /// Whether none is there any more, as far as the store told, or can be deleted.
    pub(super) async fn delete_if_there(&self, key: &Key) -> bool {
        let sent = Instant::now();
        let looked = self.store.head(HeadRequest { key: key.clone() }).await;
        let is_answered = !matches!(&looked, Err(error) if error.kind.is_no_answer());
        self.note_look(key, sent, is_answered);
        let meta = match looked {
            Ok(meta) => meta,
            Err(error) if error.kind == StoreErrorKind::NotFound => return true,
            Err(error) => {
                tracing::debug!(%key, %error, "not looked for a cancelled upload");
                return false;
            }
        };
        if let Err(error) = self.changes.wait_for_late(key, || self.ask(key)).await {
            tracing::debug!(%key, %error, "not deleted: it is tried again");
            return false;
        }
        let _turn = self.deleting.read().await;
        // Nothing waits from here on.
        match self.is_awaited(key, &meta).await {
            Ok(true) => {}
            Ok(false) => {
                self.show(key, &meta);
                return true;
            }
            Err(error) => {
                tracing::debug!(%key, %error, "not deleted: it is tried again");
                return false;
            }
        }
        tracing::info!(%key, "an unanswered or cancelled request came late: deleting its object");
        let delete = DeleteRequest {
            key: key.clone(),
            if_match: Some(meta.etag),
        };
        match self.store.delete(delete).await {
            Ok(()) => true,
            Err(error) if error.kind.is_no_answer() => {
                tracing::warn!(%key, %error, "delete failed: it is tried again");
                false
            }
            Err(error) => {
                tracing::error!(%key, %error, "cannot delete the object of a cancelled request");
                use StoreErrorKind::{AccessDenied, Rejected, Unsupported};
                matches!(error.kind, AccessDenied | Rejected | Unsupported)
            }
        }
    }

    /// Whether an object that was found is one that the key is watched for.
    ///
    /// Errors: why that is not known.
    pub(super) async fn is_awaited(
        &self,
        key: &Key,
        meta: &ObjectMeta,
    ) -> Result<bool, StoreError> {
        match self.is_watched(key) {
            true => self.was_awaited(key, meta).await,
            false => Ok(false),
        }
    }

    /// The same where the key was written since, and its name goes.
    ///
    /// Errors: why that is not known.
    pub async fn was_awaited(&self, key: &Key, meta: &ObjectMeta) -> Result<bool, StoreError> {
        let Some(watched) = self.watched.lock().get(key).cloned() else {
            return Ok(false);
        };
        if watched.is_foreign((&meta.etag, meta.last_modified)) {
            return Ok(false);
        }
        for object in watched.objects.iter().filter(|it| it.is_in_time(meta)) {
            if self.is_same(key, meta, object).await && object.is_unwanted(&*self.store).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a request may have made an object.
    pub async fn is_same(&self, key: &Key, meta: &ObjectMeta, object: &LateObject) -> bool {
        object.is_same(&*self.store, key, meta).await
    }
}
