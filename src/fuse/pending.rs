//! A reply that two may give: the operation with its outcome, or an interruption.

use parking_lot::Mutex;

use super::errno::errno;
use super::in_flight::Interruptible;
use super::reply::{Listed, Refusable, XattrAnswer};
use crate::error::FsError;
use crate::files::{Attr, AttrValidity, PendingCall};
use crate::ops::{self, Created, DirEntry, Entry, Opened, Ops};

/// A reply until it is given.
#[derive(Debug)]
pub struct PendingReply<R>(Mutex<Option<R>>);

impl<R> PendingReply<R> {
    pub fn new(reply: R) -> Self {
        Self(Mutex::new(Some(reply)))
    }

    /// None where it was given.
    pub fn take(&self) -> Option<R> {
        self.0.lock().take()
    }

    /// Adds to it; None where it was given.
    pub fn fill<T>(&self, fill: impl FnOnce(&mut R) -> T) -> Option<T> {
        self.0.lock().as_mut().map(fill)
    }
}

impl<R: Refusable> PendingCall for PendingReply<R> {
    fn is_awaited(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl<R: Refusable> Interruptible for PendingReply<R> {
    fn interrupt(&self) -> bool {
        let reply = self.take();
        let errno = errno(&FsError::Interrupted);
        reply.map(|reply| reply.refuse(errno)).is_some()
    }
}

/// What an operation came to: references that the kernel was not given are given back.
pub trait Outcome: Send + 'static {
    fn give_back(self, ops: &Ops) -> impl Future<Output = ()> + Send
    where
        Self: Sized,
    {
        let _no_references = ops;
        async {}
    }
}

impl Outcome for () {}
impl Outcome for u64 {}
impl Outcome for bytes::Bytes {}
impl Outcome for XattrAnswer {}
impl Outcome for Vec<DirEntry> {}
impl Outcome for (Attr, AttrValidity) {}

impl Outcome for Entry {
    async fn give_back(self, ops: &Ops) {
        ops::forget(ops, self.attr.ino, 1);
    }
}

impl Outcome for Opened {
    async fn give_back(self, ops: &Ops) {
        if let Err(error) = ops::release(ops, self.handle).await {
            tracing::debug!(%error, "not released");
        }
    }
}

impl Outcome for Created {
    async fn give_back(self, ops: &Ops) {
        self.opened.give_back(ops).await;
        self.entry.give_back(ops).await;
    }
}

impl Outcome for Listed {
    async fn give_back(self, ops: &Ops) {
        for ino in self.0 {
            ops::forget(ops, ino, 1);
        }
    }
}
