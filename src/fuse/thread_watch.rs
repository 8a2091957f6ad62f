//! How the threads that take requests from the kernel are doing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Most threads that are watched; those beyond it are taken for well.
const WATCHED_LIMIT: usize = 64;

/// Since when each thread has been at the request that it took last.
///
/// A thread only does what needs no S3, and hands the rest to a task: one that
/// is at the same request for long waits for a lock that nobody gives back.
#[derive(Debug)]
pub struct ThreadWatch {
    began: Instant,
    /// Milliseconds since `began`, plus one; 0 while the thread waits for a request.
    busy_since: [AtomicU64; WATCHED_LIMIT],
}

/// A thread is at work on a request until this is dropped.
#[derive(Debug)]
pub struct BusyGuard<'a>(Option<&'a AtomicU64>);

impl Default for ThreadWatch {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            busy_since: [const { AtomicU64::new(0) }; WATCHED_LIMIT],
        }
    }
}

impl ThreadWatch {
    pub(super) fn busy(&self) -> BusyGuard<'_> {
        let slot = self.busy_since.get(own_number());
        if let Some(slot) = slot {
            slot.store(self.now_ms() + 1, Ordering::Relaxed);
        }
        BusyGuard(slot)
    }

    /// How many threads have been at one request for longer than `limit`.
    pub fn stuck(&self, limit: Duration) -> usize {
        let limit_ms = limit.as_millis() as u64;
        let now_ms = self.now_ms();
        let is_stuck = |slot: &&AtomicU64| match slot.load(Ordering::Relaxed) {
            0 => false,
            since => now_ms.saturating_sub(since - 1) > limit_ms,
        };
        self.busy_since.iter().filter(is_stuck).count()
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

impl Drop for BusyGuard<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

/// Of this thread among those that ever took a request.
fn own_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    OWN.with(|own| *own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stays_at_one_request_is_stuck_and_one_that_waits_is_not() {
        let watch = ThreadWatch::default();
        assert_eq!(watch.stuck(Duration::ZERO), 0);
        let busy = watch.busy();
        let deadline = Instant::now() + Duration::from_secs(10);
        while watch.stuck(Duration::from_millis(5)) == 0 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        assert_eq!(watch.stuck(Duration::from_secs(3600)), 0);
        drop(busy);
        assert_eq!(watch.stuck(Duration::ZERO), 0);
    }
}
