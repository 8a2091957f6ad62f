//! Whose turn it is to change the store's copy of a file.
//!
//! An upload that is superseded, since its file is removed, replaced or renamed, is
//! cancelled. What was sent may be carried out all the same, also later. So whoever
//! cancels deletes what may be there, and has the store watched for what may come.

use tokio::sync::{Mutex, MutexGuard, watch};
use tokio::time::{Duration, timeout};

/// A short upload costs less than what cancelling it may leave.
const NOT_CANCELLED_WITHIN: Duration = Duration::from_millis(200);

/// Held while the store's copy of a file is being changed.
#[derive(Debug, Default)]
pub struct UploadLock {
    lock: Mutex<()>,
    /// How many operations want the file's uploads to end.
    cancels: watch::Sender<usize>,
}

/// No upload of the file goes on, and none begins, until this is dropped.
#[derive(Debug)]
struct CancelGuard<'a>(&'a watch::Sender<usize>);

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|cancels| *cancels -= 1);
    }
}

impl UploadLock {
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// The same, where an upload that goes on for longer is cancelled.
    pub async fn lock_over_uploads(&self) -> MutexGuard<'_, ()> {
        if let Ok(turn) = timeout(NOT_CANCELLED_WITHIN, self.lock.lock()).await {
            return turn;
        }
        let _cancelling = self.cancel_uploads();
        self.lock.lock().await
    }

    pub fn is_locked(&self) -> bool {
        self.lock.try_lock().is_err()
    }

    /// To be held until it is one's own turn to change the store's copy.
    fn cancel_uploads(&self) -> CancelGuard<'_> {
        self.cancels.send_modify(|cancels| *cancels += 1);
        CancelGuard(&self.cancels)
    }

    /// Returns once somebody wants the file's uploads to end.
    pub async fn cancelled(&self) {
        let mut cancels = self.cancels.subscribe();
        // The sender is in `self`.
        if cancels.wait_for(|cancels| *cancels > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once who has cancelled the file's uploads has its turn.
    pub async fn cancels_over(&self) {
        let mut cancels = self.cancels.subscribe();
        if cancels.wait_for(|cancels| *cancels == 0).await.is_err() {
            tracing::debug!("nobody cancels uploads any more");
        }
    }
}
