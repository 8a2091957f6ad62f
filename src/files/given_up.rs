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

use super::Durability;
use super::file::OpenFile;
use super::interruption::{PendingCall, current_call};
use super::layers::ReadSegment;
use crate::error::FsError;

/// Holes of a file that are filled in S3 though its program was killed: some hundred
/// copies, or ten minutes where zeros have to be sent.
const HOLES_LIMIT_BYTES: u64 = 64 << 30;

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

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.send_replace(false);
    }
}

impl OpenFile {
    pub fn has_many_holes(&self) -> bool {
        if self.len() <= HOLES_LIMIT_BYTES {
            return false;
        }
        let zeros = self.plan(0..u64::MAX).into_iter();
        let zeros = zeros.filter_map(|piece| match piece {
            ReadSegment::Zero(len) => Some(len),
            ReadSegment::Local(..) | ReadSegment::Object(..) => None,
        });
        zeros.sum::<u64>() > HOLES_LIMIT_BYTES
    }

    /// None where some of it was acknowledged.
    pub fn give_up(&self, durability: Durability) -> Option<GivenUp<'_>> {
        let mut content = self.edit();
        match content.base.sealed() {
            _ if content.is_nameless() => return None,
            None if content.dirty => content.failed = Some(FsError::Interrupted),
            None => return None,
            Some(sealed) => {
                let is_promised = content.has_uploader || sealed.base.sealed().is_some();
                if durability == Durability::Disk || is_promised {
                    return None;
                }
            }
        }
        tracing::warn!(
            ino = self.inode.ino.0,
            "the program that wrote this file was killed, and it is mostly holes: not uploaded"
        );
        self.given_up.send_replace(true);
        Some(GivenUp(&self.given_up))
    }

    /// Returns once the file's upload is given up.
    pub async fn given_up(&self) {
        let mut given_up = self.given_up.subscribe();
        // The sender is in `self`.
        if given_up.wait_for(|given_up| *given_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
