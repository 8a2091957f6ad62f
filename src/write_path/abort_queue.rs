//! Multipart uploads that nobody completes, on their way to be aborted.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::sync::{Mutex, mpsc, watch};

use crate::store::{Key, ObjectStore, UploadId};
use crate::task::caught;

const ABORTS_AT_ONCE: usize = 4;

/// Where they are left.
#[derive(Debug, Clone)]
pub struct AbortQueue {
    queue: mpsc::UnboundedSender<(Key, UploadId)>,
    waiting: Arc<watch::Sender<usize>>,
}

/// Who aborts them.
#[derive(Debug)]
pub struct Aborter {
    queued: Mutex<mpsc::UnboundedReceiver<(Key, UploadId)>>,
    waiting: Arc<watch::Sender<usize>>,
}

impl Aborter {
    pub fn new() -> (AbortQueue, Self) {
        let (queue, queued) = mpsc::unbounded_channel();
        let waiting = Arc::new(watch::Sender::new(0));
        let aborts = AbortQueue {
            queue,
            waiting: waiting.clone(),
        };
        let queued = Mutex::new(queued);
        (aborts, Self { queued, waiting })
    }

    /// Aborts as long as the run time lasts. What fails is in the journal for the successor.
    pub async fn run(&self, store: &dyn ObjectStore) {
        let mut queued = self.queued.lock().await;
        let left = stream::poll_fn(|context| queued.poll_recv(context));
        let abort = |(key, upload)| async move {
            let aborted = caught("abort an upload", store.abort_multipart(key, upload)).await;
            if let Ok(Err(error)) = aborted {
                tracing::warn!(%error, "multipart upload not aborted: the next mount does");
            }
            self.waiting.send_modify(|waiting| *waiting -= 1);
        };
        left.for_each_concurrent(ABORTS_AT_ONCE, abort).await;
    }

    /// Returns once nothing waits to be aborted.
    pub async fn settled(&self) {
        let mut waiting = self.waiting.subscribe();
        // The sender is in `self`.
        if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("nothing to wait for");
        }
    }
}

impl AbortQueue {
    pub fn add(&self, key: Key, upload: UploadId) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        if let Err(mpsc::error::SendError((key, _))) = self.queue.send((key, upload)) {
            tracing::debug!(%key, "not aborted: the next mount does");
        }
    }
}
