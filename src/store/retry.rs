//! Deadlines and retries: the one place that has them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep, timeout};

use super::request::{
    CompleteMultipartRequest, CompletedPart, CopyRequest, CreateMultipartRequest, GetAnswer,
    GetRequest, HeadRequest, ListAnswer, ListPartsAnswer, ListPartsRequest, ListRequest,
    ObjectMeta, PutAnswer, PutRequest, UploadId, UploadPartCopyRequest, UploadPartRequest,
};
use super::{Key, ObjectStore, StoreError, StoreErrorKind, StoreOp};

/// Pause before the second attempt; it doubles with each one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);
/// A request with a body gets this much longer for each byte: the slowest link that is served.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// Copies move bytes inside the store, and long ones take it minutes.
const COPY_BYTES_PER_REQUEST: u64 = 64 << 20;
/// An attempt without a body may use this share of the deadline, so that a
/// connection that hangs leaves time for another.
const ATTEMPTS_IN_DEADLINE: u32 = 3;
const ATTEMPT_LEAST: Duration = Duration::from_secs(1);

/// Repeats what failed for a passing reason, until a deadline.
#[derive(Debug)]
pub struct Retry {
    store: Arc<dyn ObjectStore>,
    request_timeout: Duration,
}

impl Retry {
    /// A request is given up after `request_timeout`, and what its bytes take.
    pub fn new(store: Arc<dyn ObjectStore>, request_timeout: Duration) -> Self {
        Self {
            store,
            request_timeout,
        }
    }

    async fn run<T, F: Future<Output = Result<T, StoreError>>>(
        &self,
        op: StoreOp,
        key: Key,
        body_bytes: u64,
        attempt: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let extra = Duration::from_secs(body_bytes / SLOWEST_BYTES_PER_SECOND);
        let share = (self.request_timeout / ATTEMPTS_IN_DEADLINE).max(ATTEMPT_LEAST);
        // A long transfer that failed counts as one attempt; quick failures count their time.
        let mut left = self.request_timeout;
        let mut backoff = BACKOFF_FIRST;
        let mut maybe_applied = false;
        for attempts in 1.. {
            let attempted = Instant::now();
            let outcome = timeout(share.min(left) + extra, attempt()).await;
            let mut error = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => StoreError::new(
                    StoreErrorKind::TimedOut,
                    op,
                    key.clone(),
                    "no answer in time",
                ),
            };
            let pause = backoff.mul_f64(fastrand::f64());
            left = left.saturating_sub(attempted.elapsed().min(share) + pause);
            if !error.kind.is_transient() || left.is_zero() {
                error.maybe_applied |= maybe_applied;
                if error.kind.is_transient() {
                    let seconds = began.elapsed().as_secs_f32();
                    error.detail =
                        format!("{} ({attempts} attempts in {seconds:.1} s)", error.detail);
                    error.maybe_applied |= may_be_applied(error.kind);
                }
                return Err(error);
            }
            maybe_applied |= may_be_applied(error.kind);
            tracing::debug!(%op, %key, attempts, %error, "trying again");
            sleep(pause).await;
            backoff = (backoff * 2).min(BACKOFF_LIMIT);
        }
        Err(StoreError::new(
            StoreErrorKind::TimedOut,
            op,
            key,
            "out of attempts",
        ))
    }
}

/// Whether the server may have done what was asked before the failure.
fn may_be_applied(kind: StoreErrorKind) -> bool {
    kind.is_transient() && kind != StoreErrorKind::Throttled
}

#[async_trait]
impl ObjectStore for Retry {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let key = request.key.clone();
        self.run(StoreOp::Head, key, 0, || self.store.head(request.clone()))
            .await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let (key, bytes) = (
            request.key.clone(),
            request.range.as_ref().map_or(0, |r| r.end - r.start),
        );
        self.run(StoreOp::Get, key, bytes, || self.store.get(request.clone()))
            .await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let (key, bytes) = (request.key.clone(), request.body.len() as u64);
        self.run(StoreOp::Put, key, bytes, || self.store.put(request.clone()))
            .await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let key = request.target.clone();
        let attempt = || self.store.copy(request.clone());
        self.run(StoreOp::Copy, key, COPY_BYTES_PER_REQUEST, attempt)
            .await
    }

    async fn delete(&self, key: Key) -> Result<(), StoreError> {
        self.run(StoreOp::Delete, key.clone(), 0, || {
            self.store.delete(key.clone())
        })
        .await
    }

    async fn delete_many(&self, keys: Vec<Key>) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let Some(first) = keys.first().cloned() else {
            return Ok(Vec::new());
        };
        let attempt = || self.store.delete_many(keys.clone());
        self.run(StoreOp::DeleteMany, first, 0, attempt).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        let prefix = Key::new(request.prefix.as_str());
        self.run(StoreOp::List, prefix, 0, || {
            self.store.list(request.clone())
        })
        .await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        let key = request.key.clone();
        let attempt = || self.store.create_multipart(request.clone());
        self.run(StoreOp::CreateMultipart, key, 0, attempt).await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        let (key, bytes) = (request.key.clone(), request.body.len_bytes());
        let attempt = || self.store.upload_part(request.clone());
        self.run(StoreOp::UploadPart, key, bytes, attempt).await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let key = request.target.clone();
        let attempt = || self.store.upload_part_copy(request.clone());
        self.run(
            StoreOp::UploadPartCopy,
            key,
            COPY_BYTES_PER_REQUEST,
            attempt,
        )
        .await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let key = request.key.clone();
        let attempt = || self.store.complete_multipart(request.clone());
        self.run(
            StoreOp::CompleteMultipart,
            key,
            COPY_BYTES_PER_REQUEST,
            attempt,
        )
        .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        let attempt = || self.store.abort_multipart(key.clone(), upload.clone());
        self.run(StoreOp::AbortMultipart, key.clone(), 0, attempt)
            .await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        let key = request.key.clone();
        let attempt = || self.store.list_parts(request.clone());
        self.run(StoreOp::ListParts, key, 0, attempt).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{ETag, ObjectHeaders, WriteCondition};

    const LIMIT: Duration = Duration::from_secs(30);
    /// How much later than asked for a timer may end, over a few of them.
    const TICK: Duration = Duration::from_millis(10);

    fn stack() -> (Arc<Faulty>, Retry) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        (faulty.clone(), Retry::new(faulty, LIMIT))
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
        let request = CopyRequest {
            source: Key::new("k"),
            source_if_match: None,
            target: Key::new("l"),
            replace_headers: None,
        };
        let began = Instant::now();
        assert!(store.copy(request).await.is_err());
        assert!(began.elapsed() <= LIMIT + TICK, "{:?}", began.elapsed());
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
}
