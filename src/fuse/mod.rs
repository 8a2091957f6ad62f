//! The FUSE adapter: decode, call an operation, encode.
//!
//! Owns: the protocol's types, errno, what is agreed with the kernel.
//! Must not know: S3, the spool, how names map to keys.
//! Locks: none.
//!
//! A request is polled once on the thread that read it, so what is known
//! locally is answered at once; what has to wait goes on as a task that owns
//! the reply. No FUSE thread waits for S3.

mod barrier;
mod call;
mod call_counters;
mod convert;
mod errno;
mod filesystem;
mod in_flight;
mod killed;
mod negotiate;
mod notify;
mod pending;
mod reply;
mod thread_watch;

pub use barrier::WriteBarrier;
pub use call_counters::CallCounters;
pub use in_flight::InFlight;
pub use killed::interrupt_killed;
pub use negotiate::Agreement;
pub use notify::{MayWait, forward_invalidations};
pub use thread_watch::ThreadWatch;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use call::{Call, Effect};
use fuser::{Request, RequestId};
use futures::FutureExt;
use in_flight::{InFlightGuard, Interruptible};
use pending::{Outcome, PendingReply};
use reply::{Refusable, ReplyOf, reply_or_error};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::error::FsError;
use crate::files::run_for;
use crate::ops::{Ops, is_by_writer};

/// Answers the kernel's requests with operations.
#[derive(Debug)]
pub struct Adapter {
    ops: Arc<Ops>,
    runtime: Handle,
    /// Owns the requests that wait; shutdown waits for them.
    tasks: TaskTracker,
    watched: WatchedAdapter,
    requests: Arc<InFlight>,
}

/// What others see of an adapter, and hold it back by.
#[derive(Debug, Clone, Default)]
pub struct WatchedAdapter {
    /// How the threads do that take requests.
    pub threads: Arc<ThreadWatch>,
    /// What the requests come to.
    pub calls: Arc<CallCounters>,
    /// Holds back calls that change something.
    pub barrier: Arc<WriteBarrier>,
}

impl Adapter {
    pub fn new(
        ops: Arc<Ops>,
        runtime: Handle,
        tasks: TaskTracker,
        requests: Arc<InFlight>,
    ) -> Self {
        Self {
            requests,
            ops,
            runtime,
            tasks,
            watched: WatchedAdapter::default(),
        }
    }

    /// For those who watch it and hold it back.
    pub fn watched(&self) -> WatchedAdapter {
        self.watched.clone()
    }

    /// To be kept until the request is answered.
    fn in_flight(&self, request: &Request) -> Option<InFlightGuard> {
        let RequestId(number) = request.unique();
        self.requests.begin(number)
    }

    /// Runs an operation and answers with what it comes to; earlier, where the
    /// caller is killed meanwhile.
    fn answer<R: ReplyOf<T>, T: Outcome>(
        &self,
        request: &Request,
        call: Call,
        reply: R,
        operation: impl Future<Output = Result<T, FsError>> + Send + 'static,
    ) {
        let reply = Arc::new(PendingReply::new(reply));
        self.answer_filled(request, call, reply, operation);
    }

    /// The same for an operation that fills its reply.
    fn answer_filled<R: ReplyOf<T>, T: Outcome>(
        &self,
        request: &Request,
        call: Call,
        reply: Arc<PendingReply<R>>,
        operation: impl Future<Output = Result<T, FsError>> + Send + 'static,
    ) {
        // It is long: what is around it moves a pointer.
        let operation = Box::pin(operation);
        let (ops, requests, pending) = (self.ops.clone(), self.requests.clone(), reply.clone());
        let barrier = self.watched.barrier.clone();
        let thread = convert::caller(request).thread;
        let answer = async move {
            let executed = async {
                let _passing = match call.effect {
                    Effect::ChangesByPath => {
                        let by_writer = || is_by_writer(&ops, thread, call.changed_by_writer());
                        Some(barrier.pass(by_writer).await?)
                    }
                    Effect::None => None,
                };
                requests.detached_ended(call.locked, &*pending).await?;
                operation.await
            };
            let outcome = executed.await;
            match (pending.take(), outcome) {
                (Some(reply), outcome) => reply_or_error(reply, call, outcome),
                (None, Ok(given)) => given.give_back(&ops).await,
                (None, Err(error)) => {
                    tracing::debug!(%error, "ended after its caller was killed");
                }
            }
        };
        let answer = run_for(reply.clone(), answer);
        self.run(request, call, Some(reply), answer);
    }

    /// Answers with an operation that waits for nothing.
    fn answer_at_once<T>(
        &self,
        request: &Request,
        call: Call,
        reply: impl ReplyOf<T>,
        operation: impl FnOnce() -> Result<T, FsError>,
    ) {
        self.answer_unless_it_waits(request, call, reply, || Some(operation()));
    }

    /// Returns the reply of an operation that has to wait after all.
    fn answer_unless_it_waits<T, R: ReplyOf<T>>(
        &self,
        request: &Request,
        call: Call,
        reply: R,
        operation: impl FnOnce() -> Option<Result<T, FsError>>,
    ) -> Option<R> {
        let _in_flight = self.in_flight(request);
        let stopwatch = self.watched.calls.begin(call.operation);
        let span = call.span().entered();
        let mut waits = None;
        self.contained(call, || match operation() {
            Some(outcome) => reply_or_error(reply, call, outcome),
            None => waits = Some(reply),
        });
        if waits.is_some() {
            stopwatch.discard();
            span.record("discarded", true);
        }
        waits
    }

    /// Answers what is not asked for in a way that can be served.
    fn refuse(&self, request: &Request, call: Call, reply: impl Refusable, error: &FsError) {
        let _in_flight = self.in_flight(request);
        let _stopwatch = self.watched.calls.begin(call.operation);
        let _span = call.span().entered();
        reply.refuse(call.errno_logged(error));
    }

    /// Runs what a panic does not lead out of.
    fn contained(&self, call: Call, run: impl FnOnce()) {
        let _busy = self.watched.threads.busy();
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            panicked(call);
        }
    }

    /// Runs a request to its end, here as far as it need not wait.
    fn run(
        &self,
        request: &Request,
        call: Call,
        reply: Option<Arc<dyn Interruptible>>,
        answer: impl Future<Output = ()> + Send + 'static,
    ) {
        let _busy = self.watched.threads.busy();
        let _runtime = self.runtime.enter();
        let in_flight = self.in_flight(request);
        let stopwatch = self.watched.calls.begin(call.operation);
        // A reply that a panic drops answers EIO: the request ends, the mount goes on.
        let guarded = AssertUnwindSafe(answer).catch_unwind().map(move |outcome| {
            drop((in_flight, stopwatch));
            if outcome.is_err() {
                panicked(call);
            }
        });
        let mut guarded = Box::pin(guarded.instrument(call.span()));
        if guarded.as_mut().now_or_never().is_some() {
            return;
        }
        let RequestId(number) = request.unique();
        let thread = convert::caller(request).thread;
        let waiting = reply.map(|reply| self.requests.wait(number, thread, call.locked, reply));
        self.tasks.spawn(async move {
            guarded.await;
            drop(waiting);
        });
    }
}

fn panicked(call: Call) {
    let (operation, ino) = (call.operation.name(), call.ino);
    tracing::error!(operation, ino, "panicked: answered with EIO");
}
