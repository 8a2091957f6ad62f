//! What has to come after a delete that waits.

use tokio::time::timeout;

use super::DeleteQueue;
use super::enqueue::QueuedDelete;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

impl DeleteQueue {
    fn any_below(&self, prefix: &str, counts: impl Fn(&str) -> bool) -> bool {
        let pending = self.pending.lock();
        pending
            .range(Key::new(prefix)..)
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .filter(|(_, queued)| queued.kept.is_none())
            .filter_map(|(key, _)| key.as_str().strip_prefix(prefix))
            .any(counts)
    }

    /// Waits until the deletes below a prefix that `counts` are done.
    pub(super) async fn wait_below(
        &self,
        op: StoreOp,
        prefix: &str,
        counts: impl Fn(&str) -> bool,
    ) -> Result<(), StoreError> {
        self.wait_while(op, prefix, || self.any_below(prefix, &counts))
            .await
    }

    /// Waits until the deletes are done that a new object under the key has to come after.
    pub(super) async fn wait_for_key(&self, op: StoreOp, key: &Key) -> Result<(), StoreError> {
        if self.is_in_the_way(key.as_str()) {
            self.want(|pending| excludes(pending.as_str(), key.as_str()));
            self.wait_while(op, key.as_str(), || self.is_in_the_way(key.as_str()))
                .await?;
        }
        self.end_watch(op, key).await
    }

    async fn wait_while(
        &self,
        op: StoreOp,
        key: &str,
        waits: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        if !waits() {
            return Ok(());
        }
        self.flush_now.notify_one();
        let mut waiting = self.waiting.subscribe();
        let done = waiting.wait_for(|_| !waits());
        match timeout(self.max_wait, done).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StoreError::new(
                StoreErrorKind::TimedOut,
                op,
                Key::new(key),
                "deletes that come first were not done in time",
            )),
        }
    }

    /// Whether an object waits for its delete that a new one under the key replaces,
    /// or excludes on stores where `x` and what lies under `x/` exclude each other.
    fn is_in_the_way(&self, key: &str) -> bool {
        let pending = self.pending.lock();
        let above = key.match_indices('/').filter_map(|(at, _)| key.get(..at));
        let mut above = above.chain([key]).map(Key::new);
        let in_the_way = |queued: &QueuedDelete| !queued.is_scratch || queued.kept.is_none();
        if above.any(|key| pending.get(&key).is_some_and(in_the_way)) {
            return true;
        }
        let below = format!("{key}/");
        let mut after = pending.range(Key::new(below.as_str())..);
        let is_below = |(at, _): (&Key, &QueuedDelete)| at.as_str().starts_with(&below);
        !key.ends_with('/') && after.next().is_some_and(is_below)
    }
}

/// Whether there cannot be an object under both keys on stores where `x` and what
/// lies under `x/` exclude each other.
pub(super) fn excludes(key: &str, other: &str) -> bool {
    let is_above = |above: &str, below: &str| {
        let rest = below.strip_prefix(above);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    key == other || is_above(key, other) || is_above(other, key)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Duration, timeout};

    use crate::store::delete_queue::tests::{delete_queue, pending, put};
    use crate::store::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_made_again_comes_after_deletes_at_above_and_below_it() {
        for (going, made, waits) in [
            ("x", "x", true),
            ("x", "x/", true),
            ("x", "x/y/z", true),
            ("x/", "x", true),
            ("x/y", "x", true),
            ("x/y", "x/", false),
            ("x/y", "x/z", false),
            ("x", "xy", false),
            ("x-", "x/y", false),
        ] {
            let memory = Arc::new(Memory::default());
            put(&*memory, going).await;
            let (store, _) = delete_queue(&memory, Vec::new());
            store.delete_later(pending(going, None)).unwrap();
            // Nobody deletes.
            let making = timeout(Duration::from_secs(1), put(&*store, made)).await;
            assert_eq!(making.is_err(), waits, "{going} and {made}");
            let runs = tokio::spawn(store.clone().run());
            put(&*store, made).await;
            runs.abort();
        }
    }
}
