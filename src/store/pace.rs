//! How many bytes a second were sent lately.

use parking_lot::Mutex;
use tokio::time::Instant;

/// A part is counted when it is over: a shorter look back would jump.
const LOOK_BACK_SECONDS: usize = 15;

/// Bytes of the last seconds.
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// Each with the second that it is of.
    seconds: Mutex<[(u64, u64); LOOK_BACK_SECONDS]>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            seconds: Mutex::default(),
        }
    }
}

impl Pace {
    pub fn add(&self, bytes: u64) {
        let now = self.began.elapsed().as_secs();
        let mut seconds = self.seconds.lock();
        let slots = seconds.len() as u64;
        let slot = usize::try_from(now % slots).unwrap_or(0);
        if let Some((second, sent)) = seconds.get_mut(slot) {
            if *second != now {
                (*second, *sent) = (now, 0);
            }
            *sent += bytes;
        }
    }

    /// Over the seconds that are looked back to, or since the beginning.
    pub fn bytes_per_second(&self) -> u64 {
        let now = self.began.elapsed().as_secs();
        let seconds = self.seconds.lock();
        let span = (seconds.len() as u64).min(now + 1);
        let is_recent = |(second, _): &&(u64, u64)| now.saturating_sub(*second) < span;
        let sent: u64 = seconds.iter().filter(is_recent).map(|(_, sent)| sent).sum();
        sent / span
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_that_of_the_last_seconds() {
        let pace = Pace::default();
        assert_eq!(pace.bytes_per_second(), 0);
        pace.add(30);
        assert_eq!(pace.bytes_per_second(), 30);
        tokio::time::advance(Duration::from_secs(2)).await;
        pace.add(30);
        assert_eq!(pace.bytes_per_second(), 20);
        tokio::time::advance(Duration::from_secs(13)).await;
        // The first second is not looked back to any more.
        assert_eq!(pace.bytes_per_second(), 30 / LOOK_BACK_SECONDS as u64);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(pace.bytes_per_second(), 0);
    }
}
