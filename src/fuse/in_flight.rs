//! Which requests are under way, and which of them nobody waits for any more.
//!
//! A request whose caller is being killed is answered with EINTR at once, and its
//! operation goes on detached. Until that is over, it keeps other requests away
//! from its directories or its file, as the kernel does while a caller waits.
//! Kernels that do not send requests again when the daemon dies have the next
//! one answer them: for these, each is recorded.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::FsError;
use crate::files::{PendingCall, Thread};
use crate::session_state::{Record, SessionLog};
use crate::vocabulary::Ino;

/// Most threads remembered for being killed: the numbers are given to others in time.
const KILLED_LIMIT: usize = 256;

/// What the kernel locks against other changes while a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locked {
    Nothing,
    /// A directory in which a name changes, or a file.
    One(Ino),
    /// The two directories of a rename, or one twice.
    Two(Ino, Ino),
}

impl Locked {
    fn inodes(self) -> impl Iterator<Item = Ino> {
        let (first, second) = match self {
            Self::Nothing => (None, None),
            Self::One(ino) => (Some(ino), None),
            Self::Two(one, other) => (Some(one), Some(other).filter(|other| *other != one)),
        };
        first.into_iter().chain(second)
    }
}

/// An answer that can be given before the operation has come to its end.
pub trait Interruptible: PendingCall {
    /// False where the answer was given.
    fn interrupt(&self) -> bool;
}

#[derive(Debug)]
pub struct InFlight {
    session_log: Arc<SessionLog>,
    /// The kernel is older than Linux 6.9.
    recorded: AtomicBool,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Requests were added where none waited.
    came: Notify,
    /// Threads that were being killed when they were looked at last.
    killed: Mutex<HashSet<Thread>>,
    /// One of them has called again.
    killed_waits: Notify,
    detached: Mutex<HashMap<Ino, usize>>,
    /// Of the requests that are detached and lock something.
    detached_count: AtomicUsize,
    ended: Notify,
}

/// A request that could not be answered at once.
struct Waiting {
    thread: Thread,
    since: Instant,
    locked: Locked,
    is_detached: bool,
    reply: Arc<dyn Interruptible>,
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting")
            .field("thread", &self.thread)
            .field("since", &self.since)
            .finish_non_exhaustive()
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub struct InFlightGuard {
    session_log: Arc<SessionLog>,
    request: u64,
}

/// A request that waits, until its operation is over.
#[derive(Debug)]
pub struct WaitingGuard {
    in_flight: Arc<InFlight>,
    request: u64,
}

impl InFlight {
    pub fn new(session_log: Arc<SessionLog>) -> Self {
        Self {
            session_log,
            recorded: AtomicBool::new(false),
            waiting: Mutex::default(),
            came: Notify::new(),
            killed: Mutex::default(),
            killed_waits: Notify::new(),
            detached: Mutex::default(),
            detached_count: AtomicUsize::new(0),
            ended: Notify::new(),
        }
    }

    /// The kernel is older than Linux 6.9.
    pub fn record(&self) {
        self.recorded.store(true, Ordering::Relaxed);
    }

    pub fn begin(&self, request: u64) -> Option<InFlightGuard> {
        let recorded = self.recorded.load(Ordering::Relaxed);
        let session_log = recorded.then(|| self.session_log.clone())?;
        session_log.record(|| Record::Began { request });
        Some(InFlightGuard {
            session_log,
            request,
        })
    }

    /// A request that cannot be answered at once.
    pub fn wait(
        self: &Arc<Self>,
        request: u64,
        thread: Thread,
        locked: Locked,
        reply: Arc<dyn Interruptible>,
    ) -> WaitingGuard {
        if self.killed.lock().contains(&thread) {
            self.killed_waits.notify_one();
        }
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.came.notify_one();
        }
        waiting.insert(
            request,
            Waiting {
                thread,
                since: Instant::now(),
                locked,
                is_detached: false,
                reply,
            },
        );
        WaitingGuard {
            in_flight: self.clone(),
            request,
        }
    }

    /// Returns once no detached operation changes what a request is about.
    ///
    /// Errors: `Interrupted`, when the request's own caller is killed meanwhile.
    pub async fn detached_ended(
        &self,
        locked: Locked,
        call: &dyn PendingCall,
    ) -> Result<(), FsError> {
        while self.detached_count.load(Ordering::Acquire) > 0 {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let is_free = {
                let detached = self.detached.lock();
                locked.inodes().all(|ino| !detached.contains_key(&ino))
            };
            if is_free {
                break;
            }
            // It would wait for itself.
            if !call.is_awaited() {
                return Err(FsError::Interrupted);
            }
            ended.await;
        }
        Ok(())
    }

    /// Returns once a request waits.
    pub async fn some_wait(&self) {
        while self.waiting.lock().is_empty() {
            self.came.notified().await;
        }
    }

    /// The threads that have waited so long for an answer.
    pub fn threads_waiting(&self, at_least: Duration) -> Vec<Thread> {
        let waiting = self.waiting.lock();
        let long = waiting
            .values()
            .filter(|waiting| !waiting.is_detached && waiting.since.elapsed() >= at_least);
        let mut threads: Vec<_> = long.map(|waiting| waiting.thread).collect();
        threads.sort_unstable_by_key(|thread| thread.0);
        threads.dedup();
        threads
    }

    /// Returns once a thread waits that was being killed before: one that is
    /// killed closes what it has open.
    pub async fn some_killed_waits(&self) {
        self.killed_waits.notified().await;
    }

    /// Those that were being killed before, and wait.
    pub fn killed_waiting(&self) -> Vec<Thread> {
        let killed = self.killed.lock();
        let mut threads = self.threads_waiting(Duration::ZERO);
        threads.retain(|thread| killed.contains(thread));
        threads
    }

    /// Answers what a thread waits for, which is being killed.
    pub fn interrupt(&self, thread: Thread) {
        {
            let mut killed = self.killed.lock();
            if killed.len() >= KILLED_LIMIT {
                killed.clear();
            }
            killed.insert(thread);
        }
        let mut replies = Vec::new();
        for (request, waiting) in self.waiting.lock().iter_mut() {
            if waiting.thread == thread && !waiting.is_detached {
                // Before the answer: who comes after it waits.
                self.detach(waiting.locked);
                waiting.is_detached = true;
                replies.push((*request, waiting.reply.clone()));
            }
        }
        for (request, reply) in replies {
            if reply.interrupt() {
                tracing::debug!(request, thread = thread.0, "answered: the caller is killed");
            }
        }
        self.ended.notify_waiters();
    }

    fn detach(&self, locked: Locked) {
        if locked == Locked::Nothing {
            return;
        }
        let mut detached = self.detached.lock();
        for ino in locked.inodes() {
            *detached.entry(ino).or_default() += 1;
        }
        self.detached_count.fetch_add(1, Ordering::Release);
    }

    fn end(&self, request: u64) {
        let ended = self.waiting.lock().remove(&request);
        let Some(ended) = ended.filter(|ended| ended.is_detached) else {
            return;
        };
        if ended.locked == Locked::Nothing {
            return;
        }
        let mut detached = self.detached.lock();
        for ino in ended.locked.inodes() {
            if let Some(count) = detached.get_mut(&ino) {
                *count -= 1;
                if *count == 0 {
                    detached.remove(&ino);
                }
            }
        }
        self.detached_count.fetch_sub(1, Ordering::Release);
        self.ended.notify_waiters();
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let request = self.request;
        self.session_log.record(|| Record::Answered { request });
    }
}

impl Drop for WaitingGuard {
    fn drop(&mut self) {
        self.in_flight.end(self.request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[derive(Debug, Default)]
    struct Reply(AtomicUsize);

    impl PendingCall for Reply {
        fn is_awaited(&self) -> bool {
            self.0.load(Ordering::Relaxed) == 0
        }
    }

    impl Interruptible for Reply {
        fn interrupt(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) == 0
        }
    }

    const KILLED: Thread = Thread(7);
    const OTHER: Thread = Thread(8);
    const DIRS: [Ino; 3] = [Ino(1), Ino(2), Ino(3)];

    fn free(in_flight: &InFlight, locked: Locked) -> bool {
        let reply = Reply::default();
        let ended = in_flight.detached_ended(locked, &reply);
        ended.now_or_never().is_some()
    }

    #[test]
    fn only_what_the_killed_thread_waits_for_is_answered_and_once() {
        let in_flight = Arc::new(InFlight::new(Arc::default()));
        let replies: [Arc<Reply>; 3] = Default::default();
        let wait = |request: usize, thread| {
            let reply = replies[request].clone();
            in_flight.wait(request as u64, thread, Locked::Nothing, reply)
        };
        let guards = [wait(0, KILLED), wait(1, OTHER), wait(2, KILLED)];
        let threads = in_flight.threads_waiting(Duration::ZERO);
        assert_eq!(threads, [KILLED, OTHER]);
        assert_eq!(in_flight.threads_waiting(Duration::from_secs(9)), []);
        in_flight.interrupt(KILLED);
        in_flight.interrupt(KILLED);
        let interrupted = replies.each_ref().map(|r| r.0.load(Ordering::Relaxed));
        assert_eq!(interrupted, [1, 0, 1]);
        assert_eq!(in_flight.threads_waiting(Duration::ZERO), [OTHER]);
        drop(guards);
        assert!(in_flight.waiting.lock().is_empty() && in_flight.detached.lock().is_empty());
    }

    #[tokio::test]
    async fn a_detached_change_keeps_others_from_what_it_changes_until_it_ends() {
        let in_flight = Arc::new(InFlight::new(Arc::default()));
        let [a, b, c] = DIRS;
        let wait =
            |request, locked| in_flight.wait(request, KILLED, locked, Arc::<Reply>::default());
        let rename = wait(1, Locked::Two(a, b));
        let within = wait(2, Locked::Two(a, a));
        assert!(
            free(&in_flight, Locked::One(a)),
            "the kernel keeps others away"
        );
        in_flight.interrupt(KILLED);
        for held in [Locked::One(a), Locked::One(b), Locked::Two(c, a)] {
            assert!(!free(&in_flight, held), "{held:?}");
        }
        assert!(free(&in_flight, Locked::One(c)) && free(&in_flight, Locked::Nothing));
        let reply = Reply::default();
        let waiting = in_flight.detached_ended(Locked::One(b), &reply);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(rename);
        waiting.await.unwrap();
        assert!(!free(&in_flight, Locked::One(a)));
        drop(within);
        assert!(free(&in_flight, Locked::Two(a, b)));
        assert_eq!(in_flight.detached_count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn one_that_is_killed_while_it_waits_for_a_detached_change_waits_no_more() {
        let in_flight = Arc::new(InFlight::new(Arc::default()));
        let locked = Locked::One(DIRS[0]);
        let _first = in_flight.wait(1, KILLED, locked, Arc::<Reply>::default());
        in_flight.interrupt(KILLED);
        let reply = Arc::<Reply>::default();
        let second = in_flight.wait(2, OTHER, locked, reply.clone());
        let waiting = in_flight.detached_ended(locked, &*reply);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        in_flight.interrupt(OTHER);
        assert!(matches!(waiting.await, Err(FsError::Interrupted)));
        drop(second);
        assert_eq!(in_flight.detached_count.load(Ordering::Relaxed), 1);
    }
}
