//! The store's clock, as its answers tell it: times of objects are compared with it,
//! never with the clock of this host.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What is cut off the time of an answer at most. Source: RFC 9110, "Date".
const DATE_STEP: Duration = Duration::from_secs(1);
/// Of the time that has passed, what this host may count too much.
const DRIFT_SHARE: u32 = 4096;

/// A lower bound: the store's clock has certainly reached this time.
///
/// It counts on by the monotonic clock, which nobody sets, from the answer that told
/// most. With answers at all times of a second the bound is as close as the network is fast.
#[derive(Debug, Default)]
pub struct StoreClock(Mutex<Option<ClockReading>>);

/// What the clock showed.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    time: SystemTime,
    at: Instant,
}

impl ClockReading {
    /// A time that the store had reached at this moment.
    fn reached(&self, moment: Instant) -> SystemTime {
        let passed = moment.saturating_duration_since(self.at);
        let since = self.at.saturating_duration_since(moment);
        self.time + (passed - passed / DRIFT_SHARE) - since
    }
}

impl StoreClock {
    /// The answer to a request that was sent at this moment has come now, and was made at
    /// `date`.
    pub fn note(&self, date: SystemTime, sent: Instant) {
        let now = Instant::now();
        let mut told = self.0.lock();
        // Another server of the store is behind, or its clock was set.
        let is_behind = |told: &ClockReading| told.reached(sent) > date + DATE_STEP;
        let is_known = |told: &ClockReading| told.reached(now) >= date;
        if !told.is_some_and(|told| is_known(&told) && !is_behind(&told)) {
            *told = Some(ClockReading {
                time: date,
                at: now,
            });
        }
    }

    /// A time that has come in the store; none before its first answer.
    pub fn now(&self) -> Option<SystemTime> {
        let told = *self.0.lock();
        told.map(|told| told.reached(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use tokio::time::advance;

    use super::*;

    fn second(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn millis(time: SystemTime) -> u128 {
        time.duration_since(UNIX_EPOCH).unwrap().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn it_counts_on_from_the_answer_that_tells_most() {
        let clock = StoreClock::default();
        assert!(clock.now().is_none());
        // The store's time is 100.9 s, then 101.1 s, then 101.9 s.
        clock.note(second(100), Instant::now());
        advance(Duration::from_millis(200)).await;
        clock.note(second(101), Instant::now());
        advance(Duration::from_millis(800)).await;
        clock.note(second(101), Instant::now());
        assert!((101_795..=101_800).contains(&millis(clock.now().unwrap())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_long_under_way_sets_nothing_back() {
        let clock = StoreClock::default();
        clock.note(second(100), Instant::now());
        let sent = Instant::now();
        advance(Duration::from_secs(30)).await;
        clock.note(second(100), sent);
        assert!(clock.now().unwrap() >= second(129));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_behind_is_believed() {
        let clock = StoreClock::default();
        clock.note(second(100), Instant::now());
        clock.note(second(40), Instant::now());
        assert_eq!(clock.now(), Some(second(40)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_this_host_counts_too_fast_counts_less() {
        let clock = StoreClock::default();
        clock.note(second(0), Instant::now());
        advance(Duration::from_secs(40_960)).await;
        assert_eq!(clock.now(), Some(second(40_950)));
    }
}
