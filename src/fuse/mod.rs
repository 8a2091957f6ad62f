//! The FUSE adapter: decode, call an operation, encode.
//!
//! Owns: the protocol's types, errno, what is agreed with the kernel.
//! Must not know: S3, the spool, how names map to keys.
//! Locks: none.
//!
//! A request is polled once on the thread that read it, so what is known
//! locally is answered at once; what has to wait goes on as a task that owns
//! the reply. No FUSE thread waits for S3.

mod convert;
mod errno;
mod filesystem;
mod in_flight;
mod loops;
mod negotiate;
mod notify;
mod reply;

pub use in_flight::InFlight;
pub use loops::LoopWatch;
pub use notify::pass_on;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use fuser::{Request, RequestId};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::error::FsError;
use crate::ops::Ops;
use in_flight::InFlightGuard;

/// Answers the kernel's requests with operations.
#[derive(Debug)]
pub struct Adapter {
    ops: Arc<Ops>,
    runtime: Handle,
    /// Owns the requests that wait; shutdown waits for them.
    tasks: TaskTracker,
    loops: Arc<LoopWatch>,
    requests: InFlight,
}

impl Adapter {
    pub fn new(ops: Arc<Ops>, runtime: Handle, tasks: TaskTracker, requests: InFlight) -> Self {
        Self {
            requests,
            ops,
            runtime,
            tasks,
            loops: Arc::default(),
        }
    }

    /// How the threads do that take this adapter's requests.
    pub fn loops(&self) -> &Arc<LoopWatch> {
        &self.loops
    }

    /// To be kept until the request is answered.
    fn in_flight(&self, request: &Request) -> Option<InFlightGuard> {
        let RequestId(number) = request.unique();
        self.requests.begin(number)
    }

    /// Runs a request to its end, here as far as it need not wait.
    fn answer(&self, request: &Request, answer: impl Future<Output = ()> + Send + 'static) {
        let _at_work = self.loops.at_work();
        let _runtime = self.runtime.enter();
        let in_flight = self.in_flight(request);
        // A reply dropped by a panic answers EIO: the request ends, the mount goes on.
        let guarded = AssertUnwindSafe(answer).catch_unwind().map(move |outcome| {
            drop(in_flight);
            if outcome.is_err() {
                tracing::error!("a request panicked; answered with EIO");
            }
        });
        let mut guarded = Box::pin(guarded);
        if guarded.as_mut().now_or_never().is_none() {
            self.tasks.spawn(guarded);
        }
    }
}

/// Errno of a failed request, logged here and nowhere else.
fn refuse(operation: &'static str, ino: u64, error: &FsError) -> fuser::Errno {
    match error {
        FsError::Store(_)
        | FsError::Spool(_)
        | FsError::SpoolReadOnly
        | FsError::Corrupt
        | FsError::Archived
        | FsError::TimedOut => {
            tracing::error!(operation, ino, %error, "failed");
        }
        _ => tracing::debug!(operation, ino, %error, "refused"),
    }
    errno::errno(error)
}
