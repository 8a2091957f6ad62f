//! Pauses between attempts that grow, and differ from one daemon to the next.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Each pause is twice the one before, up to a limit, less a random share of up to half.
#[derive(Debug)]
pub struct Backoff {
    policy: ExponentialBuilder,
    limit: Duration,
    pauses: ExponentialBackoff,
}

impl Backoff {
    pub fn new(first: Duration, limit: Duration) -> Self {
        // The crate adds a random share to what it is told.
        let policy = ExponentialBuilder::new()
            .with_min_delay(first / 2)
            .with_max_delay(limit / 2)
            .with_factor(2.0)
            .with_jitter()
            .without_max_times();
        Self {
            policy,
            limit,
            pauses: policy.build(),
        }
    }

    /// How long to wait before the next attempt.
    pub fn next_pause(&mut self) -> Duration {
        self.pauses.next().unwrap_or(self.limit).min(self.limit)
    }

    /// An attempt has done its work: the next pause is the first one again.
    pub fn reset(&mut self) {
        self.pauses = self.policy.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_begin_anew_after_a_reset() {
        let (first, limit) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, limit);
        let at_most = |doublings: u32| (first * 2_u32.pow(doublings)).min(limit);
        for doublings in 0..20 {
            let pause = backoff.next_pause();
            assert!(pause <= at_most(doublings), "{doublings}: {pause:?}");
            assert!(pause >= at_most(doublings) / 2, "{doublings}: {pause:?}");
        }
        backoff.reset();
        assert!(backoff.next_pause() <= first);
    }
}
