//! How long each request may take, and what is looked at before it.

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Request, Retry};
use crate::store::change::{Change, Leaves};
use crate::store::request::*;
use crate::store::{Key, ObjectChecksums, ObjectStore, StoreError, StoreOp};

/// Copies move bytes inside the store, and long ones take it minutes; a longer one gets
/// no more time than this many bytes.
const COPY_BYTES_LIMIT: u64 = 64 << 20;
/// The store joins parts before it answers: as many bytes of a copy for each.
const JOIN_BYTES_PER_PART: u64 = 1 << 20;
/// A longer read is not sent a second time when its answer is late: its bytes cost more
/// than the wait.
const HEDGED_BYTES_LIMIT: u64 = 1 << 20;

#[async_trait]
impl ObjectStore for Retry {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        let key = request.key.clone();
        let ask = || self.store.head(request.clone());
        self.run(StoreOp::Head, key, 0, || self.heads.run(ask(), ask))
            .await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        let ask = || self.store.checksums(key.clone());
        self.run(StoreOp::Head, key.clone(), 0, ask).await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        let (key, bytes) = (
            request.key.clone(),
            request.range.as_ref().map_or(0, |r| r.end - r.start),
        );
        let ask = || self.store.get(request.clone());
        // Whole objects whose bytes are wanted as they arrive are small.
        let is_small = match request.range {
            Some(_) => bytes <= HEDGED_BYTES_LIMIT,
            None => request.sink.is_some(),
        };
        if !is_small {
            return self.run(StoreOp::Get, key, bytes, ask).await;
        }
        // The sink is the first request's: two would give it their bytes in turn.
        let again = GetRequest {
            sink: None,
            ..request.clone()
        };
        let attempt = || {
            let second = || self.store.get(again.clone());
            self.small_gets.run(ask(), second)
        };
        self.run(StoreOp::Get, key, bytes, attempt).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        let ask = || self.store.tags(key.clone());
        self.run(StoreOp::Tags, key.clone(), 0, ask).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let (key, bytes) = (request.key.clone(), request.body.len() as u64);
        let changes = [self.as_sent(StoreOp::Put, Change::from(&request))];
        if self.unanswered.has(&key) {
            let left = Leaves::from(&request);
            self.wait_for_late(StoreOp::Put, &changes, &left).await?;
        }
        let look = |turn| self.look_before_put(turn, &request);
        let all = Request {
            op: StoreOp::Put,
            key,
            body_bytes: bytes,
            changes: &changes,
        };
        self.run_changing(all, look, |sent| self.store.put(sent))
            .await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        let key = request.target.clone();
        let left = Leaves::from(&request);
        let changes = [self.as_sent(StoreOp::Copy, Change::from(&request))];
        self.wait_for_late(StoreOp::Copy, &changes, &left).await?;
        let look = |turn| self.look_before_copy(turn, &request);
        let all = Request {
            op: StoreOp::Copy,
            key,
            body_bytes: request.size_bytes.min(COPY_BYTES_LIMIT),
            changes: &changes,
        };
        self.run_changing(all, look, |sent| self.store.copy(sent))
            .await
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = request.key.clone();
        let changes = [self.as_sent(StoreOp::Delete, Change::from(&request))];
        let (op, left) = (StoreOp::Delete, Leaves::Nothing);
        self.wait_for_late(op, &changes, &left).await?;
        let look = |turn| self.look_before_delete(op, turn, &request);
        let all = Request {
            op,
            key,
            body_bytes: 0,
            changes: &changes,
        };
        self.run_changing(all, look, |sent| self.store.delete(sent))
            .await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let Some(first) = requests.first().map(|first| first.key.clone()) else {
            return Ok(Vec::new());
        };
        let changes = requests.iter().map(Change::from);
        let changes = changes.map(|change| self.as_sent(StoreOp::DeleteMany, change));
        let changes: Vec<Change> = changes.collect();
        let (op, left) = (StoreOp::DeleteMany, Leaves::Nothing);
        self.wait_for_late(op, &changes, &left).await?;
        // Those that another version has refused, by the last look.
        let refused = Mutex::default();
        let (to_delete, noted) = (&requests, &refused);
        let look = |turn| async move {
            let (step, found) = self.look_before_deletes(turn, to_delete).await?;
            *noted.lock() = found;
            Ok(step)
        };
        let all = Request {
            op,
            key: first,
            body_bytes: 0,
            changes: &changes,
        };
        let send = |sent| self.store.delete_many(sent);
        let mut failed = self.run_changing(all, look, send).await?;
        failed.extend(refused.into_inner());
        Ok(failed)
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
        let bytes = request.range.end.saturating_sub(request.range.start);
        let bytes = bytes.min(COPY_BYTES_LIMIT);
        self.run(StoreOp::UploadPartCopy, key, bytes, attempt).await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let key = request.key.clone();
        let left = Leaves::from(&request);
        let op = StoreOp::CompleteMultipart;
        let changes = [self.as_sent(op, Change::from(&request))];
        self.wait_for_late(op, &changes, &left).await?;
        let look = |turn| self.look_before_complete(turn, &request);
        let bytes = request.parts.len() as u64 * JOIN_BYTES_PER_PART;
        let all = Request {
            op,
            key,
            body_bytes: bytes.min(COPY_BYTES_LIMIT),
            changes: &changes,
        };
        let send = |sent| self.store.complete_multipart(sent);
        self.run_changing(all, look, send).await
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
