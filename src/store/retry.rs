//! Deadlines and retries: the one place that has them.

mod as_store;
mod changes;
mod step;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use step::{Step, Turn};

use super::change::{Change, Leaves, keys_of};
use super::hedge::Hedge;
use super::metered::RequestCounters;
use super::request::HeadRequest;
use super::unanswered::{AttemptGuard, Unanswered};
use super::{Key, ObjectStore, StoreError, StoreErrorKind, StoreHealth, StoreOp};

/// Pause before the second attempt; it doubles with each one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);
/// A request with a body gets this much longer for each byte: the slowest link that is served.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// An attempt without a body may use this share of the deadline, so that a
/// connection that hangs leaves time for another.
const ATTEMPTS_IN_DEADLINE: u32 = 3;
const ATTEMPT_LEAST: Duration = Duration::from_secs(1);
/// Attempts at bytes that arrive damaged: a line damages them now and then, a
/// damaged object always.
const DAMAGED_ATTEMPTS: u32 = 4;
/// Attempts at a question, or at a copy into an upload, whose answer is none of S3's.
const MALFORMED_ATTEMPTS: u32 = 6;
/// Attempts at a bulk delete that the store does not answer, or not so that it can be read.
const BULK_ATTEMPTS: u32 = 3;
/// A bulk delete has this part of the deadline: single deletes may follow and need the rest.
const BULKS_IN_DEADLINE: u32 = 2;
/// Attempts where nobody waits for a failing store.
const FEW_ATTEMPTS: u32 = 3;
/// Of the time that is left, the share that a server's wish for a pause may take:
/// the rest is for the last attempt.
const PAUSE_SHARE: f64 = 0.9;

/// What all attempts at one request have in common.
#[derive(Debug)]
struct Request<'a> {
    op: StoreOp,
    key: Key,
    body_bytes: u64,
    /// What it changes, as the store sees it.
    changes: &'a [Change],
}

/// How long transient failures are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryLimit {
    RequestTimeout,
    /// For what can be asked again later.
    FewAttempts,
}

/// Retries transient failures until a deadline.
#[derive(Debug)]
pub struct Retry {
    store: Arc<dyn ObjectStore>,
    request_timeout: Duration,
    limit: RetryLimit,
    health: StoreHealth,
    unanswered: Arc<Unanswered>,
    counters: Arc<RequestCounters>,
    heads: Hedge,
    small_gets: Hedge,
}

impl Retry {
    /// A request is given up after `request_timeout`, and what its bytes take;
    /// `health` learns what comes of each attempt.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        request_timeout: Duration,
        health: StoreHealth,
    ) -> Self {
        Self {
            store,
            request_timeout,
            limit: RetryLimit::RequestTimeout,
            health,
            unanswered: Arc::default(),
            counters: Arc::default(),
            heads: Hedge::default(),
            small_gets: Hedge::default(),
        }
    }

    /// Counts retries, and attempts without an answer, with the rest of what is sent.
    pub fn counted_by(self, counters: Arc<RequestCounters>) -> Self {
        Self { counters, ..self }
    }

    /// Gives up after a few failures, and after an attempt without an answer in time; only a
    /// store that asks for a pause gets it.
    pub fn with_few_attempts(self) -> Self {
        Self {
            limit: RetryLimit::FewAttempts,
            ..self
        }
    }

    /// Changes that got no answer.
    pub fn unanswered(&self) -> &Arc<Unanswered> {
        &self.unanswered
    }

    fn as_sent(&self, op: StoreOp, change: Change) -> Change {
        self.unanswered.as_sent(op, change)
    }

    /// Returns once no late change can undo one of these, which wait together.
    ///
    /// Errors: `TimedOut` where the store does not answer.
    async fn wait_for_late(
        &self,
        op: StoreOp,
        changes: &[Change],
        leaves: &Leaves,
    ) -> Result<(), StoreError> {
        let ask = |key: Key| async { self.head(HeadRequest { key }).await.map(drop) };
        self.unanswered
            .wait_for_late(op, (changes, leaves), ask)
            .await
    }

    /// What an attempt tells of what the store may still do with these keys.
    fn note(&self, keys: &[&Key], sent: Instant, failed: Option<StoreErrorKind>) {
        match failed {
            Some(kind) if may_be_applied(kind) => self.unanswered.silent(keys, sent),
            Some(kind) if kind.is_no_answer() => {}
            Some(_) | None => self.unanswered.heard(keys, sent),
        }
    }

    /// Sends a request that changes nothing.
    async fn run<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        op: StoreOp,
        key: Key,
        body_bytes: u64,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let look = |_| ready(Ok(Step::Send(())));
        let request = Request {
            op,
            key,
            body_bytes,
            changes: &[],
        };
        self.run_changing(request, look, |()| attempt()).await
    }

    /// Before each attempt, `look` tells what is to be sent, if anything.
    async fn run_changing<S, T, L, F>(
        &self,
        request: Request<'_>,
        look: impl Fn(Turn) -> L,
        send: impl Fn(S) -> F,
    ) -> Result<T, StoreError>
    where
        L: Future<Output = Result<Step<S, T>, StoreError>>,
        F: Future<Output = Result<T, StoreError>>,
    {
        let began = Instant::now();
        let share = self.attempt_limit();
        let extra = Duration::from_secs(request.body_bytes / SLOWEST_BYTES_PER_SECOND);
        // A long transfer that failed counts as one attempt; quick failures count their time.
        let mut left = match request.op {
            StoreOp::DeleteMany => self.request_timeout / BULKS_IN_DEADLINE,
            _ => self.request_timeout,
        };
        let mut backoff = BACKOFF_FIRST;
        let mut maybe_applied = false;
        for attempts in 1.. {
            let attempted = Instant::now();
            let outcome = match look(Turn::of(attempts)).await {
                Ok(Step::Send(what)) => {
                    let limit = share.min(left) + extra;
                    let sent = self.attempt(&request, attempts, limit, send(what)).await;
                    let unknown = |error: &StoreError| may_be_applied(error.kind);
                    maybe_applied |= sent.as_ref().is_err_and(unknown);
                    sent
                }
                Ok(Step::Done(answer)) => Ok(answer),
                Err(error) => Err(error),
            };
            let mut error = match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            left = left.saturating_sub(attempted.elapsed().min(share));
            let pause = pause(backoff, error.retry_after, left);
            left = left.saturating_sub(pause);
            if !self.is_retryable(&error, attempts) || left.is_zero() {
                error.maybe_applied |= maybe_applied;
                if error.kind.is_transient() || error.kind == StoreErrorKind::Credentials {
                    let seconds = began.elapsed().as_secs_f32();
                    error.detail =
                        format!("{} ({attempts} attempts in {seconds:.1} s)", error.detail);
                }
                return Err(error);
            }
            let Request { op, key, .. } = &request;
            tracing::debug!(%op, %key, attempts, %error, "trying again");
            sleep(pause).await;
            self.counters.note_retry();
            backoff = (backoff * 2).min(BACKOFF_LIMIT);
        }
        let (timed_out, what) = (StoreErrorKind::TimedOut, "out of attempts");
        Err(StoreError::new(timed_out, request.op, request.key, what))
    }

    /// Without the time that its bytes take.
    fn attempt_limit(&self) -> Duration {
        (self.request_timeout / ATTEMPTS_IN_DEADLINE).max(ATTEMPT_LEAST)
    }

    /// Sends once, and notes what comes of it.
    async fn attempt<T>(
        &self,
        request: &Request<'_>,
        attempts: u32,
        limit: Duration,
        sent: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let Request { op, key, .. } = request;
        let keys = keys_of(key, request.changes);
        let attempted = Instant::now();
        let guard = AttemptGuard::new(&self.unanswered, request.changes);
        let timed_out = StoreErrorKind::TimedOut;
        let outcome = timeout(limit, sent).await;
        if outcome.is_err() {
            self.counters.note_failure(timed_out);
            self.no_answer(*op, key, attempts, attempted.elapsed());
        }
        let silent = || StoreError::new(timed_out, *op, key.clone(), "no answer in time");
        let outcome = outcome.unwrap_or_else(|_| Err(silent()));
        self.health.note(*op, &outcome);
        let failed = outcome.as_ref().err().map(|error| error.kind);
        self.note(&keys, attempted, failed);
        if !failed.is_some_and(may_be_applied) {
            guard.answered();
        }
        outcome
    }

    /// The connection may have died without a word, and others with it.
    fn no_answer(&self, op: StoreOp, key: &Key, attempts: u32, waited: Duration) {
        self.store.renew_connections();
        // In an outage everybody knows.
        if attempts == 1 && self.health.outage().is_none() {
            let seconds = waited.as_secs_f32();
            tracing::warn!(%op, %key, "no answer from S3 after {seconds:.1} s: the next attempt has a new connection");
        }
    }

    /// Whether the same request may succeed if it is sent again.
    fn is_retryable(&self, error: &StoreError, attempts: u32) -> bool {
        if self.limit == RetryLimit::FewAttempts && may_be_applied(error.kind) {
            return error.kind != StoreErrorKind::TimedOut && attempts < FEW_ATTEMPTS;
        }
        match error.kind {
            // Those that were good may be about to be replaced.
            StoreErrorKind::Credentials => error.retry_after.is_some() || self.health.has_served(),
            // Requests go to the region that was named, from now on.
            StoreErrorKind::WrongRegion => error.retry_after.is_some(),
            StoreErrorKind::Corrupt => attempts < DAMAGED_ATTEMPTS,
            // Objects can be deleted one by one too, and that tells an outage from a store
            // without bulk deletes: `Conditional` asks.
            StoreErrorKind::Server
            | StoreErrorKind::Malformed
            | StoreErrorKind::Unreachable
            | StoreErrorKind::Conflict
                if error.op == StoreOp::DeleteMany =>
            {
                attempts < BULK_ATTEMPTS
            }
            StoreErrorKind::TimedOut if error.op == StoreOp::DeleteMany => false,
            // The next answer may be whole; that of a store of another kind never is.
            StoreErrorKind::Malformed if error.op.asks() || error.op == StoreOp::UploadPartCopy => {
                attempts < MALFORMED_ATTEMPTS
            }
            // A refused completion ends the upload: its parts have to be sent again.
            StoreErrorKind::Conflict => error.op != StoreOp::CompleteMultipart,
            kind => kind.is_transient(),
        }
    }
}

/// How long to wait: a random share of `backoff`, or what the server wishes,
/// as far as the time that is left lets it.
fn pause(backoff: Duration, wish: Option<Duration>, left: Duration) -> Duration {
    let own = backoff.mul_f64(fastrand::f64());
    match wish {
        Some(wish) if wish > own => wish.min(left.mul_f64(PAUSE_SHARE)),
        _ => own,
    }
}

/// Whether the server may have done what was asked before the failure.
fn may_be_applied(kind: StoreErrorKind) -> bool {
    kind.is_transient() && kind != StoreErrorKind::Throttled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::request::*;

    const LIMIT: Duration = Duration::from_secs(30);
    /// How much later than asked for a timer may end, over a few of them.
    const TICK: Duration = Duration::from_millis(10);

    fn stack() -> (Arc<Faulty>, Retry) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let health = StoreHealth::default();
        (faulty.clone(), Retry::new(faulty, LIMIT, health))
    }

    fn put(condition: WriteCondition) -> PutRequest {
        let body = bytes::Bytes::from_static(b"x");
        PutRequest {
            key: Key::new("k"),
            body,
            headers: ObjectHeaders::default(),
            condition,
        }
    }

    fn copy(size_bytes: u64) -> CopyRequest {
        CopyRequest {
            source: Key::new("k"),
            source_if_match: None,
            size_bytes,
            target: Key::new("l"),
            condition: WriteCondition::Always,
            replace_headers: None,
            placement: Default::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_that_is_not_answered_has_the_time_that_its_bytes_take() {
        for (size_bytes, at_most) in [(1, 30), (8 << 20, 30 + 3 * 32), (5 << 30, 30 + 3 * 256)] {
            let (faulty, store) = stack();
            for nth in 1..100 {
                faulty.plan(StoreOp::Copy, nth, Fault::Stall);
            }
            let began = Instant::now();
            assert!(store.copy(copy(size_bytes)).await.is_err());
            let at_most = Duration::from_secs(at_most) + TICK;
            assert!(began.elapsed() <= at_most, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_for_a_passing_reason_is_tried_again() {
        let (faulty, store) = stack();
        let passing = [
            StoreErrorKind::Throttled,
            StoreErrorKind::Server,
            StoreErrorKind::Unreachable,
        ];
        for (nth, kind) in (1..).zip(passing) {
            faulty.plan(StoreOp::Put, nth, Fault::Before(kind));
        }
        assert!(store.put(put(WriteCondition::Always)).await.is_ok());
        assert_eq!(faulty.seen(StoreOp::Put), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_pass_is_not_tried_again() {
        let (faulty, store) = stack();
        faulty.plan(StoreOp::Put, 1, Fault::Before(StoreErrorKind::AccessDenied));
        let error = store.put(put(WriteCondition::Always)).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::AccessDenied);
        assert!(!error.maybe_applied);
        assert_eq!(faulty.seen(StoreOp::Put), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_request_that_fails_at_once_is_given_up_as_soon_as_a_short_one() {
        let (faulty, store) = stack();
        for nth in 1..1000 {
            faulty.plan(StoreOp::Copy, nth, Fault::Before(StoreErrorKind::Server));
        }
        let request = copy(1 << 30);
        let began = Instant::now();
        assert!(store.copy(request).await.is_err());
        assert!(began.elapsed() <= LIMIT + TICK, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_completion_that_hangs_has_the_time_that_its_parts_take() {
        for (parts, attempt_seconds) in [(2, 10 + 8), (10_000, 10 + 256)] {
            let (faulty, store) = stack();
            for nth in 1..10 {
                faulty.plan(StoreOp::CompleteMultipart, nth, Fault::Stall);
            }
            let part = |number| CompletedPart {
                number: PartNumber::new(number).unwrap(),
                etag: ETag::new("e"),
                crc64nvme: None,
            };
            let complete = CompleteMultipartRequest {
                key: Key::new("k"),
                upload: UploadId("u".to_owned()),
                parts: (1..=parts).map(part).collect(),
                condition: WriteCondition::Always,
            };
            let began = Instant::now();
            let error = store.complete_multipart(complete).await.unwrap_err();
            assert_eq!(error.kind, StoreErrorKind::TimedOut);
            let longest = ATTEMPTS_IN_DEADLINE * Duration::from_secs(attempt_seconds) + TICK;
            assert!(began.elapsed() <= longest, "{:?}", began.elapsed());
            assert!(began.elapsed() > Duration::from_secs(attempt_seconds));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_given_up_soon_by_who_can_ask_again_later() {
        let faults = [
            (Fault::Before(StoreErrorKind::Server), 3, 1),
            (Fault::Before(StoreErrorKind::Unreachable), 3, 1),
            (Fault::Stall, 1, 10),
        ];
        for (fault, attempts, at_most_seconds) in faults {
            let (faulty, store) = stack();
            let store = store.with_few_attempts();
            for nth in 1..100 {
                faulty.plan(StoreOp::Put, nth, fault);
            }
            let began = Instant::now();
            assert!(store.put(put(WriteCondition::Always)).await.is_err());
            assert_eq!(faulty.seen(StoreOp::Put), attempts, "{fault:?}");
            let at_most = Duration::from_secs(at_most_seconds) + TICK;
            assert!(began.elapsed() <= at_most, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_bulk_deletes_without_an_answer_take_no_longer_than_the_deadline() {
        for fault in [Fault::Stall, Fault::Before(StoreErrorKind::Server)] {
            let (faulty, store) = stack();
            for nth in 1..100 {
                faulty.plan(StoreOp::DeleteMany, nth, fault);
            }
            let began = Instant::now();
            for _ in 0..BULKS_IN_DEADLINE {
                let bulk = vec![DeleteRequest::any(Key::new("k"))];
                drop(store.delete_many(bulk).await);
            }
            assert!(began.elapsed() <= LIMIT + TICK, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_request_outlives_its_deadline() {
        let (faulty, store) = stack();
        for nth in 1..100 {
            faulty.plan(StoreOp::Head, nth, Fault::Stall);
        }
        let began = Instant::now();
        let error = store
            .head(HeadRequest { key: Key::new("k") })
            .await
            .unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::TimedOut);
        assert!(began.elapsed() <= LIMIT + TICK, "{:?}", began.elapsed());
        assert!(
            faulty.seen(StoreOp::Head) >= 3,
            "a stall leaves time for another attempt"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_our_own_lost_attempt_broke_is_told_as_such() {
        let (faulty, store) = stack();
        faulty.plan(StoreOp::Put, 1, Fault::After(StoreErrorKind::Server));
        let error = store.put(put(WriteCondition::IfAbsent)).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::PreconditionFailed);
        assert!(error.maybe_applied);
        let foreign = store
            .put(put(WriteCondition::IfMatch(ETag::new("other"))))
            .await
            .unwrap_err();
        assert!(!foreign.maybe_applied);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_as_far_as_the_deadline_lets_it() {
        for (wish, waited) in [(7, 7), (3600, 27)] {
            let (faulty, store) = stack();
            let wish = Some(Duration::from_secs(wish));
            faulty.plan(
                StoreOp::Put,
                1,
                Fault::Wish(StoreErrorKind::Throttled, wish),
            );
            let began = Instant::now();
            store.put(put(WriteCondition::Always)).await.unwrap();
            let took = began.elapsed();
            let waited = Duration::from_secs(waited);
            assert!(took >= waited && took <= waited + TICK, "{took:?}");
            assert_eq!(faulty.seen(StoreOp::Put), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_were_never_good_fail_at_once_and_others_may_be_replaced() {
        let (faulty, store) = stack();
        faulty.plan(StoreOp::Put, 1, Fault::Before(StoreErrorKind::Credentials));
        assert!(store.put(put(WriteCondition::Always)).await.is_err());
        assert_eq!(faulty.seen(StoreOp::Put), 1);
        store.put(put(WriteCondition::Always)).await.unwrap();
        for nth in 3..10 {
            faulty.plan(
                StoreOp::Put,
                nth,
                Fault::Before(StoreErrorKind::Credentials),
            );
        }
        store.put(put(WriteCondition::Always)).await.unwrap();
        assert_eq!(faulty.seen(StoreOp::Put), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn damaged_bytes_are_asked_for_again_but_not_for_ever() {
        let (faulty, store) = stack();
        for nth in 1..100 {
            faulty.plan(StoreOp::Head, nth, Fault::Before(StoreErrorKind::Corrupt));
        }
        let head = HeadRequest { key: Key::new("k") };
        let error = store.head(head).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Corrupt);
        assert_eq!(faulty.seen(StoreOp::Head), u64::from(DAMAGED_ATTEMPTS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_conflicts_is_sent_again_but_not_a_completion() {
        let (faulty, store) = stack();
        faulty.plan(StoreOp::Put, 1, Fault::Before(StoreErrorKind::Conflict));
        store.put(put(WriteCondition::IfAbsent)).await.unwrap();
        let conflict = Fault::Before(StoreErrorKind::Conflict);
        faulty.plan(StoreOp::CompleteMultipart, 1, conflict);
        let complete = CompleteMultipartRequest {
            key: Key::new("k"),
            upload: UploadId("u".to_owned()),
            parts: Vec::new(),
            condition: WriteCondition::Always,
        };
        let error = store.complete_multipart(complete).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Conflict);
        assert_eq!(faulty.seen(StoreOp::CompleteMultipart), 1);
    }
}
