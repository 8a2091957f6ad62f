//! Deleting the object of a name that goes: at once, or in bulk when many go.

use parking_lot::Mutex;
use tokio::time::{Duration, Instant};

use super::{Durability, Ops};
use crate::error::FsError;
use crate::store::{DeleteRequest, Doomed, ETag, Key, ObjectStore};

/// After this many removals in a row nobody waits for them any more.
const BURST_FROM: u32 = 16;
/// A longer pause between two removals ends the row.
const PAUSE_LIMIT: Duration = Duration::from_millis(100);

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

impl Ops {
    /// Deletes an object whose name goes; `etag` is the version that it is known to have.
    ///
    /// One of many removals, and each one where the local disk is trusted, is
    /// noted in the journal and done soon after. Errors: the store's, the spool's.
    pub(super) async fn delete_object(&self, key: Key, etag: Option<ETag>) -> Result<(), FsError> {
        let burst = self.removals.begin() && !self.store.is_failing();
        let outcome = if burst || self.settings.durability == Durability::Disk {
            self.store
                .delete_later(Doomed { key, etag })
                .map_err(FsError::from)
        } else {
            let request = DeleteRequest::any(key);
            self.store.delete(request).await.map_err(FsError::from)
        };
        self.removals.end();
        outcome
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
