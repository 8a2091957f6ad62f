//! --bwlimit: bytes a second, of all transfers together.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// What may be moved at once after a pause.
const BURST: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub struct Throttle {
    /// None: no limit.
    bytes_per_second: Option<u64>,
    /// When all that was taken so far is through.
    through_at: Mutex<Instant>,
}

impl Throttle {
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second: bytes_per_second.filter(|limit| *limit > 0),
            through_at: Mutex::new(Instant::now()),
        }
    }

    /// Returns when so many bytes more may be moved.
    pub async fn take(&self, bytes: u64) {
        let Some(limit) = self.bytes_per_second else {
            return;
        };
        let lasts = Duration::from_secs_f64(bytes as f64 / limit as f64);
        let until = {
            let mut through_at = self.through_at.lock();
            let now = Instant::now();
            *through_at = (*through_at).max(now - BURST.min(lasts)) + lasts;
            *through_at
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_no_faster_than_the_limit() {
        let throttle = Throttle::new(Some(1000));
        let began = Instant::now();
        for _ in 0..20 {
            throttle.take(500).await;
        }
        let took = began.elapsed().as_secs_f64();
        assert!((9.5..10.5).contains(&took), "{took}");
        Throttle::new(None).take(u64::MAX).await;
        assert!(began.elapsed().as_secs_f64() < 10.5);
    }
}
