//! A second request for a small read whose answer is late: the first answer counts.
//!
//! Owns: when the second one is sent, and how many may be.
//! Must not know: retries. Only for requests that change nothing.
//!
//! S3 answers most small reads in tens of milliseconds and a few of them in seconds; a
//! second request mostly meets a server that is not slow.
//! Source: J. Dean, L. A. Barroso, "The Tail at Scale", CACM 56(2), 2013, "hedged requests".

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::StoreError;

/// How many of the last reads tell what is late.
const WINDOW: usize = 256;
/// Of the reads in the window, so many took longer: the 99th percentile.
const SLOWER: usize = WINDOW / 100;
/// No answer is late before this.
const LATE_FROM: Duration = Duration::from_millis(200);
/// Of all reads, the share that may be sent twice: a store where all are slow is not asked more.
const SHARE: f64 = 0.02;
/// So many second requests at most in a row.
const BURST: f64 = 4.0;

/// Reads of one kind.
#[derive(Debug, Default)]
pub struct Hedge(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// How long the last reads took.
    took: VecDeque<Duration>,
    /// Second requests that may be sent.
    allowed: f64,
}

impl Hedge {
    /// The answer of `first`, or of what `second` sends where that is late.
    pub async fn run<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        first: impl Future<Output = Result<T, StoreError>>,
        second: impl FnOnce() -> F,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let outcome = self.race(first, second).await;
        self.0.lock().note(began.elapsed());
        outcome
    }

    async fn race<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        first: impl Future<Output = Result<T, StoreError>>,
        second: impl FnOnce() -> F,
    ) -> Result<T, StoreError> {
        let mut first = pin!(first);
        let Some(late) = self.0.lock().late() else {
            return first.await;
        };
        if let Ok(outcome) = timeout(late, first.as_mut()).await {
            return outcome;
        }
        if !self.0.lock().take_one() {
            return first.await;
        }
        let mut second = pin!(second());
        tokio::select! {
            outcome = first.as_mut() => match outcome {
                Err(error) if error.kind.is_transient() => second.await,
                outcome => outcome,
            },
            outcome = second.as_mut() => match outcome {
                Err(error) if error.kind.is_transient() => first.await,
                outcome => outcome,
            },
        }
    }
}

impl Seen {
    /// From when on an answer is late; none where too little is known.
    fn late(&self) -> Option<Duration> {
        if self.took.len() < WINDOW {
            return None;
        }
        let mut took: Vec<Duration> = self.took.iter().copied().collect();
        let (_, percentile, _) = took.select_nth_unstable(WINDOW - 1 - SLOWER);
        Some((*percentile).max(LATE_FROM))
    }

    fn note(&mut self, took: Duration) {
        if self.took.len() == WINDOW {
            self.took.pop_front();
        }
        self.took.push_back(took);
        self.allowed = (self.allowed + SHARE).min(BURST);
    }

    fn take_one(&mut self) -> bool {
        let has_one = self.allowed >= 1.0;
        if has_one {
            self.allowed -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;
    use crate::store::{Key, StoreErrorKind, StoreOp};

    const USUAL: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_secs(3);

    async fn answer(
        after: Duration,
        outcome: Result<u32, StoreErrorKind>,
    ) -> Result<u32, StoreError> {
        sleep(after).await;
        outcome.map_err(|kind| StoreError::new(kind, StoreOp::Get, Key::new("k"), "planned"))
    }

    async fn used() -> Hedge {
        let hedge = Hedge::default();
        for _ in 0..WINDOW {
            let nothing = || async { unreachable!("a second request before one is late") };
            hedge.run(answer(USUAL, Ok(1)), nothing).await.unwrap();
        }
        hedge
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_counts_whichever_request_it_is_to() {
        use StoreErrorKind::{NotFound, Server};
        // After how long each request is answered, and with what; when the caller has which.
        let cases = [
            ((SLOW, Ok(1)), (USUAL, Ok(2)), LATE_FROM + USUAL, Ok(2)),
            (
                (LATE_FROM + USUAL, Ok(1)),
                (SLOW, Ok(2)),
                LATE_FROM + USUAL,
                Ok(1),
            ),
            ((SLOW, Ok(1)), (USUAL, Err(Server)), SLOW, Ok(1)),
            (
                (LATE_FROM * 2, Err(Server)),
                (SLOW, Ok(2)),
                LATE_FROM + SLOW,
                Ok(2),
            ),
            (
                (SLOW, Ok(1)),
                (USUAL, Err(NotFound)),
                LATE_FROM + USUAL,
                Err(NotFound),
            ),
            ((SLOW, Err(Server)), (USUAL, Err(Server)), SLOW, Err(Server)),
        ];
        for (nth, (first, second, when, what)) in cases.into_iter().enumerate() {
            let hedge = used().await;
            let began = Instant::now();
            let outcome = hedge.run(answer(first.0, first.1), || answer(second.0, second.1));
            let outcome = outcome.await.map_err(|error| error.kind);
            assert_eq!(outcome, what, "case {nth}");
            let took = began.elapsed();
            assert!(
                took >= when && took < when + USUAL / 2,
                "case {nth}: {took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_slow_altogether_is_asked_two_in_a_hundred_more() {
        let hedge = used().await;
        let seconds = AtomicUsize::new(0);
        for _ in 0..2000 {
            let second = || {
                seconds.fetch_add(1, Ordering::Relaxed);
                answer(SLOW, Ok(2))
            };
            hedge.run(answer(SLOW, Ok(1)), second).await.unwrap();
        }
        let seconds = seconds.into_inner();
        assert!(seconds <= 2000 / 50 + BURST as usize, "{seconds}");
    }
}
