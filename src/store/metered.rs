//! Counts requests: what S3 bills, how long each takes, and what tests compare.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use super::body::BodySink;
use super::pace::Pace;
use super::request::{
    CompleteMultipartRequest, CompletedPart, CopyRequest, CreateMultipartRequest, DeleteRequest,
    GetAnswer, GetRequest, HeadRequest, ListAnswer, ListPartsAnswer, ListPartsRequest, ListRequest,
    ObjectMeta, PutAnswer, PutRequest, UploadId, UploadPartCopyRequest, UploadPartRequest,
};
use super::{Key, ObjectChecksums, ObjectStore, StoreError, StoreErrorKind, StoreOp};
use crate::latency::{Latencies, Latency};

const OPS: [StoreOp; 14] = [
    StoreOp::Head,
    StoreOp::Tags,
    StoreOp::Get,
    StoreOp::Put,
    StoreOp::Copy,
    StoreOp::Delete,
    StoreOp::DeleteMany,
    StoreOp::List,
    StoreOp::CreateMultipart,
    StoreOp::UploadPart,
    StoreOp::UploadPartCopy,
    StoreOp::CompleteMultipart,
    StoreOp::AbortMultipart,
    StoreOp::ListParts,
];

/// Requests sent since the mount began, by kind; shared by whoever shows them.
#[derive(Debug, Default)]
pub struct RequestCounters {
    sent: [AtomicU64; OPS.len()],
    latencies: Arc<Latencies<{ OPS.len() }>>,
    /// Failures are few.
    failed: Mutex<HashMap<StoreErrorKind, u64>>,
    /// Sent since an earlier attempt had failed.
    retried: AtomicU64,
    /// Of bodies that S3 took.
    sent_bytes: AtomicU64,
    /// The same, of the last seconds.
    pace: Pace,
    /// Of bodies that S3 answered with.
    received_bytes: AtomicU64,
}

impl RequestCounters {
    pub fn sent(&self, op: StoreOp) -> u64 {
        self.sent
            .get(op as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Every kind of which some were sent, and how many.
    pub fn by_kind(&self) -> impl Iterator<Item = (StoreOp, u64)> {
        let all = OPS.into_iter().map(|op| (op, self.sent(op)));
        all.filter(|(_, sent)| *sent > 0)
    }

    /// How long those took that are over, by kind.
    pub fn latencies(&self) -> impl Iterator<Item = (StoreOp, Latency)> {
        let all = OPS.into_iter();
        all.filter_map(|op| Some((op, self.latencies.of(op as usize)?)))
    }

    pub fn failed(&self) -> u64 {
        self.failed.lock().values().sum()
    }

    /// What failed, by its reason.
    pub fn failed_by_kind(&self) -> Vec<(StoreErrorKind, u64)> {
        let failed = self.failed.lock();
        failed.iter().map(|(kind, count)| (*kind, *count)).collect()
    }

    pub fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }

    pub(super) fn note_failure(&self, kind: StoreErrorKind) {
        *self.failed.lock().entry(kind).or_default() += 1;
    }

    pub(super) fn note_retry(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub fn sent_bytes_per_second(&self) -> u64 {
        self.pace.bytes_per_second()
    }

    fn took(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.pace.add(bytes);
    }

    fn received(&self, bytes: usize) {
        self.received_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    fn count(&self, op: StoreOp) {
        if let Some(count) = self.sent.get(op as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Display for RequestCounters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (op, sent) in self.by_kind() {
            write!(f, "{op}={sent} ")?;
        }
        write!(f, "failed={}", self.failed())
    }
}

/// Counts and logs each request of a store.
#[derive(Debug)]
pub struct Metered {
    store: Arc<dyn ObjectStore>,
    counters: Arc<RequestCounters>,
}

impl Metered {
    pub fn new(store: Arc<dyn ObjectStore>, counters: Arc<RequestCounters>) -> Self {
        Self { store, counters }
    }

    async fn run<T>(
        &self,
        op: StoreOp,
        key: &str,
        request: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.counters.count(op);
        let began = Instant::now();
        // Also of one that is given up.
        let stopwatch = self.counters.latencies.begin(op as usize);
        let span = span(op, key);
        let outcome = request.instrument(span.clone()).await;
        drop(stopwatch);
        let ms = began.elapsed().as_millis() as u64;
        record(&span, &outcome);
        match &outcome {
            Ok(_) => tracing::debug!(target: "mediafs::requests", %op, key, ms),
            Err(error) => {
                self.counters.note_failure(error.kind);
                let (code, request_id) = (error.code.as_deref(), error.request_id.as_deref());
                tracing::debug!(target: "mediafs::requests", %op, key, ms, kind = ?error.kind, code, request_id);
            }
        }
        outcome
    }
}

fn span(op: StoreOp, key: &str) -> Span {
    tracing::debug_span!(
        target: "mediafs::requests",
        "request",
        otel.name = op.name(),
        otel.kind = "client",
        otel.status_code = Empty,
        %op,
        key,
        kind = Empty,
        code = Empty,
        request_id = Empty,
    )
}

fn record<T>(span: &Span, outcome: &Result<T, StoreError>) {
    if let Err(error) = outcome
        && !span.is_disabled()
    {
        span.record("kind", tracing::field::debug(error.kind));
        span.record("code", error.code.as_deref());
        span.record("request_id", error.request_id.as_deref());
        // That nothing is there is an answer.
        if error.kind != StoreErrorKind::NotFound {
            span.record("otel.status_code", "ERROR");
        }
    }
}

/// A sink whose bytes are counted.
#[derive(Debug)]
struct CountedSink {
    sink: Arc<dyn BodySink>,
    counters: Arc<RequestCounters>,
}

impl BodySink for CountedSink {
    fn begin(&self) {
        self.sink.begin();
    }

    fn take(&self, bytes: &[u8]) {
        self.counters.received(bytes.len());
        self.sink.take(bytes);
    }
}

#[async_trait]
impl ObjectStore for Metered {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let key = request.key.clone();
        self.run(StoreOp::Head, key.as_str(), self.store.head(request))
            .await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        let asked = self.store.checksums(key.clone());
        self.run(StoreOp::Head, key.as_str(), asked).await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let key = request.key.clone();
        let counted = |sink| -> Arc<dyn BodySink> {
            let counters = self.counters.clone();
            Arc::new(CountedSink { sink, counters })
        };
        let request = GetRequest {
            sink: request.sink.map(counted),
            ..request
        };
        let answer = self
            .run(StoreOp::Get, key.as_str(), self.store.get(request))
            .await?;
        self.counters.received(answer.body.len());
        Ok(answer)
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        let asked = self.store.tags(key.clone());
        self.run(StoreOp::Tags, key.as_str(), asked).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let (key, len) = (request.key.clone(), request.body.len() as u64);
        let putting = self.store.put(request);
        let answer = self.run(StoreOp::Put, key.as_str(), putting).await?;
        self.counters.took(len);
        Ok(answer)
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let key = request.target.clone();
        self.run(StoreOp::Copy, key.as_str(), self.store.copy(request))
            .await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = request.key.clone();
        self.run(StoreOp::Delete, key.as_str(), self.store.delete(request))
            .await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let first = requests.first().map(|first| first.key.clone());
        let first = first.as_ref().map_or("", Key::as_str);
        self.run(StoreOp::DeleteMany, first, self.store.delete_many(requests))
            .await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        let prefix = request.prefix.clone();
        self.run(StoreOp::List, &prefix, self.store.list(request))
            .await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        let key = request.key.clone();
        self.run(
            StoreOp::CreateMultipart,
            key.as_str(),
            self.store.create_multipart(request),
        )
        .await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        let (key, len) = (request.key.clone(), request.body.len_bytes());
        let sending = self.store.upload_part(request);
        let part = self.run(StoreOp::UploadPart, key.as_str(), sending).await?;
        self.counters.took(len);
        Ok(part)
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let key = request.target.clone();
        self.run(
            StoreOp::UploadPartCopy,
            key.as_str(),
            self.store.upload_part_copy(request),
        )
        .await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let key = request.key.clone();
        self.run(
            StoreOp::CompleteMultipart,
            key.as_str(),
            self.store.complete_multipart(request),
        )
        .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.run(
            StoreOp::AbortMultipart,
            key.clone().as_str(),
            self.store.abort_multipart(key, upload),
        )
        .await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        let key = request.key.clone();
        let listing = self.store.list_parts(request);
        self.run(StoreOp::ListParts, key.as_str(), listing).await
    }

    fn renew_connections(&self) {
        self.store.renew_connections();
    }
}
