//! What the kernel must drop from its caches.

use crate::vocabulary::Ino;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::name::Name;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Most invalidations waiting for the kernel; beyond it they are left to the ttl.
const QUEUE_LIMIT: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// A directory entry, with what it leads to.
    Entry { parent: Ino, name: Name },
    /// Attributes and cached pages of a file.
    Pages { ino: Ino },
    /// Attributes alone.
    Attributes { ino: Ino },
    /// Files that nobody has asked for in a long time: whatever the kernel does not use
    /// of them goes, and it gives its references back. Source: linux/fuse.h,
    /// `FUSE_NOTIFY_PRUNE`, since Linux 6.18; an older kernel keeps them.
    Unused { inos: Vec<Ino> },
}

/// So many files are told of at once.
pub const UNUSED_BATCH: usize = 48;

/// Sends invalidations to whoever talks to the kernel.
///
/// Telling the kernel can wait for a request that the kernel itself waits for,
/// so no operation does it directly.
#[derive(Debug, Clone)]
pub struct Invalidations {
    queue: mpsc::Sender<Invalidation>,
    dropped: Arc<AtomicU64>,
}

/// A sender whose receiver is closed.
impl Default for Invalidations {
    fn default() -> Self {
        Self::channel().0
    }
}

impl Invalidations {
    pub fn channel() -> (Self, mpsc::Receiver<Invalidation>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        let dropped = Arc::default();
        let queue = sender;
        (Self { queue, dropped }, receiver)
    }

    pub fn entry(&self, parent: Ino, name: &Name) {
        self.send(Invalidation::Entry {
            parent,
            name: name.clone(),
        });
    }

    pub fn pages(&self, ino: Ino) {
        self.send(Invalidation::Pages { ino });
    }

    pub fn attributes(&self, ino: Ino) {
        self.send(Invalidation::Attributes { ino });
    }

    pub fn unused(&self, inos: Vec<Ino>) {
        self.send(Invalidation::Unused { inos });
    }

    /// Waits for room until the deadline; after it as the others.
    pub async fn send_in_turn(&self, invalidation: Invalidation, deadline: Instant) {
        let sent = timeout_at(deadline, self.queue.send(invalidation.clone())).await;
        if sent.is_err() {
            self.send(invalidation);
        }
    }

    fn send(&self, invalidation: Invalidation) {
        let Err(error) = self.queue.try_send(invalidation) else {
            return;
        };
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // One is worth a line, and each time they have doubled.
        if dropped.is_power_of_two() {
            tracing::warn!(dropped, %error, "the kernel takes no invalidations: changes of other clients show after --ttl");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_nobody_empties_is_bounded_and_what_is_dropped_is_counted() {
        let (invalidations, _queue) = Invalidations::channel();
        for number in 0..QUEUE_LIMIT + 10 {
            invalidations.pages(Ino(number as u64));
        }
        assert_eq!(invalidations.dropped.load(Ordering::Relaxed), 10);
    }
}
