//! Whether an application waits for a request: the import is then behind it.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// The import waits until no application has waited for so long.
const QUIET_FOR: Duration = Duration::from_millis(50);
/// But not longer than this: it comes to an end however busy the mount is.
const HELD_UP_AT_MOST: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub struct Foreground(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    under_way: usize,
    last_ended: Option<Instant>,
}

/// A request of an application, until it is dropped.
pub struct Busy<'a>(&'a Foreground);

impl Foreground {
    pub fn begin(&self) -> Busy<'_> {
        self.0.lock().under_way += 1;
        Busy(self)
    }

    fn is_quiet(&self) -> bool {
        let work = self.0.lock();
        let ended = work.last_ended.is_none_or(|at| at.elapsed() >= QUIET_FOR);
        work.under_way == 0 && ended
    }

    /// Returns when it is the import's turn.
    pub async fn quiet(&self) {
        let until = Instant::now() + HELD_UP_AT_MOST;
        while !self.is_quiet() && Instant::now() < until {
            sleep(QUIET_FOR / 2).await;
        }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut work = self.0.0.lock();
        work.under_way -= 1;
        work.last_ended = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_import_is_behind_applications_and_never_stands_still() {
        let foreground = Foreground::default();
        let began = Instant::now();
        foreground.quiet().await;
        assert!(began.elapsed().is_zero());
        let busy = foreground.begin();
        foreground.quiet().await;
        assert!(began.elapsed() >= HELD_UP_AT_MOST);
        drop(busy);
        let began = Instant::now();
        foreground.quiet().await;
        let waited = began.elapsed();
        assert!(
            waited >= QUIET_FOR && waited < HELD_UP_AT_MOST,
            "{waited:?}"
        );
    }
}
