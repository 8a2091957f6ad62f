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

/// The file's upload is given up, until this is dropped.
#[derive(Debug)]
pub struct GivenUp<'a>(&'a watch::Sender<bool>);

impl<'a> GivenUp<'a> {
    pub(super) fn begin(sender: &'a watch::Sender<bool>) -> Self {
        sender.send_replace(true);
        Self(sender)
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}
