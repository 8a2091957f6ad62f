//! Tells the kernel what to drop from its caches.

use std::io;

use tokio::sync::mpsc::Receiver;

use crate::namespace::Invalidation;
use crate::task::caught_now;
use crate::vocabulary::Ino;

/// Of `fuse_notify_code`. Source: linux/fuse.h.
const INVAL_INODE: i32 = 2;
const INVAL_ENTRY: i32 = 3;
const PRUNE: i32 = 9;

/// Whether the kernel may make a notification wait for an application's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MayWait {
    Yes,
    No,
}

/// Passes invalidations on, as the kernel reads them, until the senders are gone.
///
/// The kernel makes one wait for a directory that an application has locked in a
/// call, in a way that no signal ends: `send` must not write to the kernel itself.
/// While it waits the queue behind it fills, and what does not fit is left to the ttl.
pub fn forward_invalidations(
    mut invalidations: Receiver<Invalidation>,
    mut send: impl FnMut(&[u8], MayWait) -> io::Result<()>,
) {
    while let Some(invalidation) = invalidations.blocking_recv() {
        // Nothing is lost: what the kernel keeps ends with its ttl.
        let sent = caught_now("notify", || {
            send(&encode(&invalidation), may_wait(&invalidation))
        });
        if let Err(error) = sent.map_err(io::Error::other).flatten() {
            tracing::debug!(?invalidation, %error, "kernel not told of an invalidation");
        }
    }
}

fn may_wait(invalidation: &Invalidation) -> MayWait {
    match invalidation {
        Invalidation::Entry { .. } | Invalidation::Pages { .. } | Invalidation::Unused { .. } => {
            MayWait::Yes
        }
        Invalidation::Attributes { .. } => MayWait::No,
    }
}

/// Source: linux/fuse.h: `fuse_out_header` with the code for an error and no
/// request's number, then `fuse_notify_inval_inode_out`, `fuse_notify_inval_entry_out`, or
/// `fuse_notify_prune_out` and its inode numbers.
fn encode(invalidation: &Invalidation) -> Vec<u8> {
    let (code, body) = match invalidation {
        Invalidation::Entry { parent, name } => {
            let name = name.as_str().as_bytes();
            let mut body = parent.0.to_ne_bytes().to_vec();
            body.extend((name.len() as u32).to_ne_bytes());
            body.extend(0_u32.to_ne_bytes());
            body.extend(name);
            body.push(0);
            (INVAL_ENTRY, body)
        }
        // All of it: from offset 0, without a length.
        Invalidation::Pages { ino } => (INVAL_INODE, inode(*ino, 0)),
        // Source: fs/fuse/inode.c, `fuse_reverse_inval_inode`: no pages below 0.
        Invalidation::Attributes { ino } => (INVAL_INODE, inode(*ino, -1)),
        Invalidation::Unused { inos } => {
            let mut body = (inos.len() as u32).to_ne_bytes().to_vec();
            body.extend([0; 12]);
            body.extend(inos.iter().flat_map(|ino| ino.0.to_ne_bytes()));
            (PRUNE, body)
        }
    };
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(code.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(body);
    message
}

fn inode(ino: Ino, offset: i64) -> Vec<u8> {
    let mut body = ino.0.to_ne_bytes().to_vec();
    body.extend(offset.to_ne_bytes());
    body.extend(0_i64.to_ne_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Name;

    #[test]
    fn an_entry_is_told_with_its_directory_and_a_name_that_ends_in_a_zero() {
        let name = Name::from_segment("a").unwrap();
        let parent = Ino(0x0102);
        let told = encode(&Invalidation::Entry { parent, name });
        let mut wanted = vec![34, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        wanted.extend([2, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'a', 0]);
        assert_eq!(told, wanted);
    }

    #[test]
    fn pages_are_told_with_the_whole_length_of_the_file_and_attributes_with_none() {
        let told = encode(&Invalidation::Pages { ino: Ino(7) });
        let mut wanted = vec![40, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        wanted.extend([7, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0; 16]);
        assert_eq!(told, wanted);
        let told = encode(&Invalidation::Attributes { ino: Ino(7) });
        wanted[24..32].fill(0xff);
        assert_eq!(told, wanted);
    }

    #[test]
    fn files_that_are_to_be_forgotten_are_told_with_their_count() {
        let told = encode(&Invalidation::Unused {
            inos: vec![Ino(7), Ino(8)],
        });
        let mut wanted = vec![48, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        wanted.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(told, wanted);
    }

    #[test]
    fn one_that_cannot_be_sent_keeps_no_other_back() {
        let (invalidations, receiver) = crate::namespace::Invalidations::channel();
        invalidations.pages(Ino(1));
        invalidations.pages(Ino(2));
        drop(invalidations);
        let mut sent = 0;
        forward_invalidations(receiver, |_, _| {
            sent += 1;
            Err(io::ErrorKind::BrokenPipe.into())
        });
        assert_eq!(sent, 2);
    }
}
