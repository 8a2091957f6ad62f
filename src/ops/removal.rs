//! Deleting the object of a name that goes: at once, or in bulk when many go.

use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::{Durability, Ops};
use crate::error::FsError;
use crate::namespace::Pin;
use crate::store::{
    DeleteRequest, Doomed, ETag, HeadRequest, Key, Leaves, ObjectMeta, ObjectStore, StoreError,
    StoreErrorKind,
};

/// After this many removals in a row nobody waits for them any more.
const BURST_FROM: u32 = 16;
/// A longer pause between two removals ends the row.
const PAUSE_LIMIT: Duration = Duration::from_millis(100);
/// Attempts to delete what other clients replaced before.
const DELETE_TRIES: u32 = 3;

/// How many names went in a row, however long each took.
#[derive(Debug, Default)]
pub(super) struct Removals(Mutex<Row>);

#[derive(Debug, Default)]
struct Row {
    removals: u32,
    last_ended: Option<Instant>,
}

impl Removals {
    /// Counts one, and tells whether it is one of many.
    fn begin(&self) -> bool {
        let mut row = self.0.lock();
        let goes_on = row
            .last_ended
            .is_some_and(|ended| ended.elapsed() < PAUSE_LIMIT);
        row.removals = if goes_on {
            row.removals.saturating_add(1)
        } else {
            1
        };
        row.removals > BURST_FROM
    }

    fn end(&self) {
        self.0.lock().last_ended = Some(Instant::now());
    }
}

/// What came of deleting the object of a name that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Removed {
    Gone,
    /// Another client has put a new object meanwhile, which is left alone.
    NewerStays,
}

impl Ops {
    /// Deletes an object whose name goes; `etag` is the version that it is known
    /// to have, absent where an upload may have made one that nobody was told of.
    ///
    /// A version that was there before this is meant too: what is known may be as
    /// old as the ttl. One of many removals, and each one where the local disk is
    /// trusted, is noted in the journal and done soon after; whether something
    /// newer stays is then told in the log.
    /// Errors: the store's, the spool's.
    pub(super) async fn delete_object(
        &self,
        key: Key,
        etag: Option<ETag>,
    ) -> Result<Removed, FsError> {
        let burst = self.removals.begin() && !self.store.is_failing();
        let outcome = if burst || self.settings.durability == Durability::Disk {
            let later = self.store.delete_later(Doomed { key, etag });
            later.map(|()| Removed::Gone).map_err(FsError::from)
        } else {
            self.delete_version(key, etag).await
        };
        self.removals.end();
        outcome
    }

    /// What is under a key now.
    pub(super) async fn object_at(&self, key: &Key) -> Result<Option<ObjectMeta>, FsError> {
        match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError {
                kind: StoreErrorKind::NotFound,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A name of the directory has gone, and has another client's object again.
    pub(super) async fn shows_again(&self, dir: &Pin) {
        dir.state().dir.forget_listing();
        if let Err(error) = self.namespace.child_arrived(dir).await {
            tracing::warn!(%error, "the directory's marker stays beside a file");
        }
    }

    async fn delete_version(&self, key: Key, etag: Option<ETag>) -> Result<Removed, FsError> {
        let began = SystemTime::now();
        let mut known = etag;
        for _ in 0..DELETE_TRIES {
            let if_match = match known.take() {
                Some(etag) => Some(etag),
                None => {
                    self.store.late().landed(&key, &Leaves::Nothing).await;
                    self.object_at(&key).await?.map(|there| there.etag)
                }
            };
            if if_match.is_none() {
                return Ok(Removed::Gone);
            }
            let key = key.clone();
            let request = DeleteRequest {
                key: key.clone(),
                if_match,
            };
            match self.store.delete(request).await {
                Ok(()) => return Ok(Removed::Gone),
                Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {}
                Err(error) => return Err(error.into()),
            }
            match self.object_at(&key).await? {
                None => return Ok(Removed::Gone),
                Some(there) if there.is_older_than(began) => known = Some(there.etag),
                Some(_) => break,
            }
        }
        tracing::warn!(%key, "not deleted: another client has put a new object");
        Ok(Removed::NewerStays)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_removals_in_a_row_are_a_burst_however_slow_each_is() {
        let removals = Removals::default();
        let remove = async |pause_ms, takes_ms| {
            tokio::time::advance(Duration::from_millis(pause_ms)).await;
            let burst = removals.begin();
            tokio::time::advance(Duration::from_millis(takes_ms)).await;
            removals.end();
            burst
        };
        for _ in 0..100 {
            assert!(!remove(200, 5).await, "now and then");
        }
        for _ in 0..BURST_FROM - 1 {
            assert!(!remove(1, 300).await, "not yet");
        }
        assert!(remove(1, 300).await);
        assert!(!remove(200, 5).await, "after a pause");
    }
}
