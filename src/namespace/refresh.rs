//! Forgets what is known of a part of the tree, here and in the kernel.

use tokio::time::Instant;

use super::invalidation::Invalidation;
use super::{Namespace, Pin};
use crate::vocabulary::Kind;

/// Has an inode and all that is known below it asked for again. What S3 does not have
/// stays. Returns how many were forgotten; the kernel is told of each, and waited for
/// until the deadline at most.
pub async fn forget_below(namespace: &Namespace, at: Pin, deadline: Instant) -> usize {
    let mut forgotten = 0;
    let mut left = vec![at];
    while let Some(inode) = left.pop() {
        {
            let mut state = inode.state();
            state.last_confirmed_at = state.checked_at.take().or(state.last_confirmed_at);
            if inode.kind == Kind::Directory {
                state.dir.forget_listing();
            }
        }
        forgotten += 1;
        tell_kernel(namespace, &inode, deadline).await;
        if inode.kind == Kind::Directory {
            let children = namespace.table().children(inode.ino).into_iter();
            left.extend(children.map(|(_, child)| child));
        }
    }
    forgotten
}

async fn tell_kernel(namespace: &Namespace, inode: &Pin, deadline: Instant) {
    let ino = inode.ino;
    let kernel = &namespace.invalidations;
    if let Some((parent, name)) = namespace.table().place(ino) {
        if let Ok(dir) = namespace.table().get(parent) {
            dir.state().dir.mark_suspect(&name);
        }
        let entry = Invalidation::Entry { parent, name };
        kernel.send_in_turn(entry, deadline).await;
    }
    let own = match inode.kind {
        Kind::Directory => Invalidation::Attributes { ino },
        _ => Invalidation::Pages { ino },
    };
    kernel.send_in_turn(own, deadline).await;
}
