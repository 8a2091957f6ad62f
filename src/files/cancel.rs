//! Uploads that are superseded: their file is removed, replaced or renamed.
//!
//! What was sent may be carried out all the same, also later. So whoever cancels
//! deletes what may be there, and has the store watched for what may come.

use tokio::sync::{MutexGuard, watch};
use tokio::time::{Duration, timeout};

use super::file::OpenFile;

/// A short upload costs less than what cancelling it may leave.
const NOT_CANCELLED_WITHIN: Duration = Duration::from_millis(200);

/// How many operations want a file's uploads to end.
#[derive(Debug, Default)]
pub struct Cancels(watch::Sender<usize>);

/// No upload of the file goes on, and none begins, until this is dropped.
#[derive(Debug)]
struct CancelGuard<'a>(&'a Cancels);

impl Drop for CancelGuard<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|cancels| *cancels -= 1);
    }
}

impl OpenFile {
    /// One's turn to change the store's copy: an upload that goes on for longer is cancelled.
    pub async fn turn_over_uploads(&self) -> MutexGuard<'_, ()> {
        if let Ok(turn) = timeout(NOT_CANCELLED_WITHIN, self.upload_lock.lock()).await {
            return turn;
        }
        let _cancelling = self.cancel_uploads();
        self.upload_lock.lock().await
    }

    /// To be held until it is one's own turn to change the store's copy.
    fn cancel_uploads(&self) -> CancelGuard<'_> {
        self.cancels.0.send_modify(|cancels| *cancels += 1);
        CancelGuard(&self.cancels)
    }

    /// Returns once somebody wants the file's uploads to end.
    pub async fn cancelled(&self) {
        let mut cancels = self.cancels.0.subscribe();
        // The sender is in `self`.
        if cancels.wait_for(|cancels| *cancels > 0).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once who has cancelled the file's uploads has its turn.
    pub async fn cancels_over(&self) {
        let mut cancels = self.cancels.0.subscribe();
        if cancels.wait_for(|cancels| *cancels == 0).await.is_err() {
            tracing::debug!("nobody cancels uploads any more");
        }
    }
}
