//! Panics: one ends the step that it comes about in, and nothing else.
//!
//! Where and why is in the log, by the hook of `telemetry`; here is said what it was about.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Before a task is begun again.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// A step panicked: it is not done, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}: a panic; the log has its message")]
pub struct Panicked(pub &'static str);

/// Runs a step to its end. Errors: it panicked.
pub async fn caught<T>(step: &'static str, future: impl Future<Output = T>) -> Result<T, Panicked> {
    let outcome = AssertUnwindSafe(future).catch_unwind().await;
    outcome.map_err(|_| panicked(step))
}

/// The same for one that does not wait.
pub fn caught_now<T>(step: &'static str, run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| panicked(step))
}

fn panicked(step: &'static str) -> Panicked {
    tracing::error!(step, "panicked");
    Panicked(step)
}

/// Runs a task to its end, and begins it again after a while each time it panics.
pub async fn kept_up<F>(task: &'static str, mut begin: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
    loop {
        let began = Instant::now();
        // What panics while its future is made counts too.
        if caught(task, async { begin().await }).await.is_ok() {
            return;
        }
        if began.elapsed() > PAUSE_LIMIT {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_begun_again_after_ever_longer_pauses() {
        let (mut times, began) = (Vec::new(), Instant::now());
        let task = kept_up("test", || {
            times.push(began.elapsed());
            let last = times.len() == 20;
            async move { assert!(last, "planned") }
        });
        task.await;
        assert_eq!(times.len(), 20);
        assert!(times[2] - times[1] >= PAUSE_FIRST);
        assert!(times[19] - times[18] >= PAUSE_LIMIT / 2);
    }

    #[test]
    fn a_step_that_panics_is_an_error() {
        assert_eq!(caught_now("test", || 1), Ok(1));
        let broken = caught_now("test", || panic!("planned"));
        assert_eq!(broken, Err::<(), _>(Panicked("test")));
    }
}
