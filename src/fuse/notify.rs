//! Tells the kernel what to drop from its caches.

use fuser::{INodeNo, Notifier};
use tokio::sync::mpsc::Receiver;

use crate::namespace::Invalidation;

/// Passes invalidations on until the senders are gone.
///
/// Runs on a thread of its own: the kernel may make a notification wait for a
/// request that it has sent and that is not answered yet.
pub fn pass_on(mut invalidations: Receiver<Invalidation>, notifier: &Notifier) {
    while let Some(invalidation) = invalidations.blocking_recv() {
        let outcome = match &invalidation {
            Invalidation::Entry { parent, name } => {
                notifier.inval_entry(INodeNo(parent.0), name.as_str().as_ref())
            }
            Invalidation::Pages { ino } => notifier.inval_inode(INodeNo(ino.0), 0, 0),
            // Source: fs/fuse/inode.c, `fuse_reverse_inval_inode`: no pages below 0.
            Invalidation::Attributes { ino } => notifier.inval_inode(INodeNo(ino.0), -1, 0),
        };
        // Nothing is lost: what the kernel keeps ends with its ttl.
        if let Err(error) = outcome {
            tracing::debug!(?invalidation, %error, "kernel did not take the invalidation");
        }
    }
}
