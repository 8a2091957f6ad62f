//! Multipart uploads that nobody completes, on their way to be aborted.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::store::{Key, ObjectStore, UploadId};
use crate::task::caught;

const ABORTS_AT_ONCE: usize = 4;
/// Uploads that wait; more are left to the next mount, which finds them in the journal.
const WAITING_LIMIT: usize = 100_000;

/// Where they are left.
#[derive(Debug, Clone)]
pub struct AbortQueue(Arc<Shared>);

/// Who aborts them.
#[derive(Debug)]
pub struct Aborter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<VecDeque<(Key, UploadId)>>,
    added: Notify,
    /// Of those that are being aborted, too.
    waiting: watch::Sender<usize>,
}

impl Aborter {
    pub fn new() -> (AbortQueue, Self) {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            added: Notify::new(),
            waiting: watch::Sender::new(0),
        });
        (AbortQueue(shared.clone()), Self(shared))
    }

    /// Aborts as long as the run time lasts. What fails is in the journal for the successor.
    pub async fn run(&self, store: &dyn ObjectStore) {
        join_all((0..ABORTS_AT_ONCE).map(|_| self.work(store))).await;
    }

    async fn work(&self, store: &dyn ObjectStore) {
        loop {
            let (key, upload) = self.0.next().await;
            let aborted = caught("abort an upload", store.abort_multipart(key, upload)).await;
            if let Ok(Err(error)) = aborted {
                tracing::warn!(%error, "multipart upload not aborted: the next mount does");
            }
            self.0.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }

    /// Returns once nothing waits to be aborted.
    pub async fn settled(&self) {
        let mut waiting = self.0.waiting.subscribe();
        // The sender is in `self`.
        if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("nothing to wait for");
        }
    }
}

impl Shared {
    async fn next(&self) -> (Key, UploadId) {
        loop {
            let added = self.added.notified();
            if let Some(next) = self.queue.lock().pop_front() {
                return next;
            }
            added.await;
        }
    }
}

impl AbortQueue {
    /// Waits for nothing.
    pub fn add(&self, key: Key, upload: UploadId) {
        let mut queue = self.0.queue.lock();
        if queue.len() >= WAITING_LIMIT {
            tracing::warn!(%key, "multipart upload not aborted, too many wait: the next mount does");
            return;
        }
        self.0.waiting.send_modify(|waiting| *waiting += 1);
        queue.push_back((key, upload));
        drop(queue);
        self.0.added.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_may_wait_are_left_to_the_next_mount() {
        let (aborts, aborter) = Aborter::new();
        let add = |number: usize| aborts.add(Key::new("k"), UploadId(number.to_string()));
        (0..WAITING_LIMIT + 10).for_each(add);
        assert_eq!(*aborter.0.waiting.borrow(), WAITING_LIMIT);
        assert_eq!(aborter.0.next().await.1, UploadId("0".to_owned()));
        add(0);
        assert_eq!(aborter.0.queue.lock().len(), WAITING_LIMIT);
    }
}
