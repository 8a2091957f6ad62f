//! A stop that is asked for at the control socket, and how long the end of the mount may
//! take: its drain timeout, or less where whoever ends it has said so.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// An announced limit counts for a stop within this time.
const COUNTS_FOR: Duration = Duration::from_secs(10);

/// Between the control socket and whoever stops.
#[derive(Debug, Default)]
pub struct StopRequest {
    asked: Notify,
    announced: Mutex<Option<Announced>>,
}

#[derive(Debug, Clone, Copy)]
struct Announced {
    at: Instant,
    by: Instant,
}

impl StopRequest {
    /// Asks for a stop. One that comes before anybody waits is not lost.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// A stop is about to come, and is to wait no longer than that.
    pub fn announce(&self, within: Duration) {
        let at = Instant::now();
        let by = at + within;
        *self.announced.lock() = Some(Announced { at, by });
    }

    /// Until when a stop waits that has come now.
    pub fn deadline(&self, drain_timeout: Duration) -> Instant {
        let now = Instant::now();
        let by = now + drain_timeout;
        let announced = self.announced.lock().take();
        let announced = announced.filter(|it| now.duration_since(it.at) <= COUNTS_FOR);
        announced.map_or(by, |it| it.by.min(by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_counts_for_the_next_stop_and_only_shortens_it() {
        let stop = StopRequest::default();
        let waits = || stop.deadline(DRAIN).duration_since(Instant::now());
        assert_eq!(waits(), DRAIN);
        stop.announce(Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(waits(), Duration::from_secs(2));
        assert_eq!(waits(), DRAIN, "of the next one");
        stop.announce(Duration::from_secs(300));
        assert_eq!(waits(), DRAIN);
        stop.announce(Duration::from_secs(3));
        tokio::time::advance(COUNTS_FOR + Duration::from_secs(1)).await;
        assert_eq!(waits(), DRAIN, "it never came");
    }
}
