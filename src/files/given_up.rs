//! Uploads that are given up, since their program was killed and they are of zeros.
//!
//! A program that is killed leaves its files as far as it came, and they are uploaded:
//! that is what a local disk shows. It may have left a file of many terabytes that is
//! one hole, whose upload would go on for hours. Such a file is not uploaded when the
//! last descriptor of a killed program closes it; its bytes go to lost+found. What a
//! close or an fsync has acknowledged is never given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::interruption::{PendingCall, current_call};

/// Who has closed a handle's descriptors.
#[derive(Debug, Default)]
pub struct Closes {
    by_killed: AtomicBool,
    /// Those that have not come to their end.
    pending: Mutex<Vec<Arc<dyn PendingCall>>>,
}

/// A close that has not come to its end.
#[derive(Debug)]
pub struct CloseGuard<'a>(&'a Closes);

impl Closes {
    /// The call that is under way closes a descriptor.
    pub fn begin(&self) -> CloseGuard<'_> {
        self.pending.lock().extend(current_call());
        CloseGuard(self)
    }

    pub fn note_killed(&self) {
        self.by_killed.store(true, Ordering::Relaxed);
    }

    pub fn has_killed(&self) -> bool {
        let pending = self.pending.lock();
        self.by_killed.load(Ordering::Relaxed) || pending.iter().any(|call| !call.is_awaited())
    }
}

impl Drop for CloseGuard<'_> {
    fn drop(&mut self) {
        let Some(call) = current_call() else {
            return;
        };
        if !call.is_awaited() {
            self.0.note_killed();
        }
        self.0.pending.lock().retain(|it| !Arc::ptr_eq(it, &call));
    }
}

/// Whether a file's upload is given up.
#[derive(Debug)]
pub struct GiveUp(watch::Sender<bool>);

/// The file's upload is given up, until this is dropped.
#[derive(Debug)]
pub struct GivenUp<'a>(&'a GiveUp);

impl Default for GiveUp {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl GiveUp {
    pub fn begin(&self) -> GivenUp<'_> {
        self.0.send_replace(true);
        GivenUp(self)
    }

    /// Returns once the file's upload is given up.
    pub async fn begun(&self) {
        let mut given_up = self.0.subscribe();
        // The sender is in `self`.
        if given_up.wait_for(|given_up| *given_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.0.send_replace(false);
    }
}
