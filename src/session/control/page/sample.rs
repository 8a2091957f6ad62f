//! What the page's script plots, as an attribute of a mount's section.

use serde::Serialize;

use crate::session::control::answers::{Amount, LatencyStatus, Status};

#[derive(Debug, Serialize)]
pub struct Sample<'a> {
    at_ms: u64,
    /// Another one's counters begin anew.
    pid: u32,
    read_bytes: u64,
    written_bytes: u64,
    received_bytes: u64,
    sent_bytes: u64,
    bounds: &'a [f64],
    calls: Vec<u64>,
    requests: Vec<u64>,
    hits: u64,
    misses: u64,
    unsent_bytes: u64,
    serves: bool,
    failed: u64,
    usd: f64,
}

impl<'a> Sample<'a> {
    pub fn of(status: &'a Status, at_ms: u64) -> Self {
        let requests = &status.requests;
        Self {
            at_ms,
            pid: status.health.pid,
            read_bytes: status.calls.read_bytes,
            written_bytes: status.calls.written_bytes,
            received_bytes: requests.received_bytes,
            sent_bytes: requests.sent_bytes,
            bounds: &status.latency_bounds_seconds,
            calls: together(status.calls.latency.values()),
            requests: together(requests.latency.values()),
            hits: status.cache.hits,
            misses: status.cache.misses,
            unsent_bytes: Amount::from(&status.uploads).bytes,
            serves: status.s3.serves,
            failed: requests.failures(),
            usd: status.cost.requests_usd,
        }
    }
}

/// The buckets of all kinds.
pub fn together<'a>(latencies: impl Iterator<Item = &'a LatencyStatus>) -> Vec<u64> {
    let mut sums = Vec::new();
    for latency in latencies {
        sums.resize(latency.buckets.len().max(sums.len()), 0);
        for (sum, count) in sums.iter_mut().zip(&latency.buckets) {
            *sum += count;
        }
    }
    sums
}

/// The bound that so many per cent stay within; none where nothing is counted, or the
/// answer is beyond the last.
pub fn within(buckets: &[u64], bounds: &[f64], per_cent: u64) -> Option<f64> {
    let count: u64 = buckets.iter().sum();
    let wanted = (count.saturating_mul(per_cent)).div_ceil(100).max(1);
    let mut seen = 0;
    let reached = buckets.iter().position(|bucket| {
        seen += bucket;
        seen >= wanted
    });
    bounds.get(reached?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_within_the_bound_of_its_bucket() {
        let bounds = [0.1, 1.0];
        assert_eq!(within(&[0, 0, 0], &bounds, 50), None);
        assert_eq!(within(&[98, 1, 1], &bounds, 50), Some(0.1));
        assert_eq!(within(&[98, 1, 1], &bounds, 99), Some(1.0));
        assert_eq!(within(&[98, 1, 1], &bounds, 100), None);
        let latency = |buckets: [u64; 2]| LatencyStatus {
            buckets: buckets.to_vec(),
            ..LatencyStatus::default()
        };
        let both = [latency([1, 2]), latency([3, 4])];
        assert_eq!(together(both.iter()), [4, 6]);
    }
}
