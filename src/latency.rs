//! How long things take: counts in buckets, for whoever shows them.
//!
//! Locks: none. A count and a sum may differ by what is being counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets; what takes longer is in one beyond.
pub const BOUNDS: [Duration; 15] = [
    Duration::from_micros(100),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

#[derive(Debug, Default)]
struct Histogram {
    /// Each without those below it.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    total_ns: AtomicU64,
}

/// What was counted of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latency {
    /// One for each bound and one beyond, each without those below it.
    pub buckets: Vec<u64>,
    pub total: Duration,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let at = BOUNDS.partition_point(|bound| *bound < took);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.total_ns.fetch_add(ns, Ordering::Relaxed);
    }

    fn latency(&self) -> Latency {
        let buckets = self.buckets.iter();
        Latency {
            buckets: buckets.map(|it| it.load(Ordering::Relaxed)).collect(),
            total: Duration::from_nanos(self.total_ns.load(Ordering::Relaxed)),
        }
    }
}

/// Histograms of things of so many kinds.
#[derive(Debug)]
pub struct Latencies<const KINDS: usize>([Histogram; KINDS]);

impl<const KINDS: usize> Default for Latencies<KINDS> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Histogram::default()))
    }
}

impl<const KINDS: usize> Latencies<KINDS> {
    /// What was counted of one kind; none where nothing was.
    pub fn of(&self, kind: usize) -> Option<Latency> {
        let latency = self.0.get(kind)?.latency();
        let is_counted = latency.buckets.iter().any(|count| *count > 0);
        is_counted.then_some(latency)
    }

    /// Counts from now on until the answer is dropped.
    pub fn begin(self: &Arc<Self>, kind: usize) -> Stopwatch<KINDS> {
        Stopwatch {
            latencies: self.clone(),
            kind: Some(kind),
            began: Instant::now(),
        }
    }
}

/// Something that takes time; counted when it is dropped, however it ends.
#[derive(Debug)]
pub struct Stopwatch<const KINDS: usize> {
    latencies: Arc<Latencies<KINDS>>,
    /// None of what is not to be counted.
    kind: Option<usize>,
    began: Instant,
}

impl<const KINDS: usize> Stopwatch<KINDS> {
    /// It goes on elsewhere, and is counted there.
    pub fn discard(mut self) {
        self.kind = None;
    }
}

impl<const KINDS: usize> Drop for Stopwatch<KINDS> {
    fn drop(&mut self) {
        let Some(kind) = self.kind else { return };
        if let Some(histogram) = self.latencies.0.get(kind) {
            histogram.observe(self.began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_as_long_as_a_bound_is_in_its_bucket_and_the_longest_beyond() {
        let latencies = Latencies::<2>::default();
        let took = [
            Duration::ZERO,
            Duration::from_micros(100),
            Duration::from_micros(101),
            Duration::from_secs(3600),
        ];
        for took in took {
            latencies.0[1].observe(took);
        }
        assert_eq!(latencies.of(0), None);
        let latency = latencies.of(1).unwrap();
        assert_eq!(latency.buckets[..3], [2, 1, 0]);
        assert_eq!(latency.buckets[BOUNDS.len()], 1);
        assert_eq!(latency.total, took.iter().sum::<Duration>());
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn what_is_dropped_is_counted_once() {
        let latencies = Arc::new(Latencies::<1>::default());
        drop(latencies.begin(0));
        latencies.begin(0).discard();
        drop(latencies.begin(0));
        let latency = latencies.of(0).unwrap();
        assert_eq!(latency.buckets.iter().sum::<u64>(), 2);
    }
}
