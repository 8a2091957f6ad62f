//! What the kernel must drop from its caches.

use tokio::sync::mpsc;

use super::inode::Ino;
use super::name::Name;

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
}

/// Sends invalidations to whoever talks to the kernel.
///
/// Telling the kernel can wait for a request that the kernel itself waits for,
/// so no operation does it directly.
#[derive(Debug, Clone)]
pub struct Invalidations(mpsc::Sender<Invalidation>);

impl Invalidations {
    pub fn channel() -> (Self, mpsc::Receiver<Invalidation>) {
        let (sender, receiver) = mpsc::channel(QUEUE_LIMIT);
        (Self(sender), receiver)
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

    fn send(&self, invalidation: Invalidation) {
        if let Err(error) = self.0.try_send(invalidation) {
            tracing::debug!(%error, "invalidation left to the ttl");
        }
    }
}
