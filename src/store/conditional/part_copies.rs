//! Copies of parts where the store has none: the bytes are read and sent.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use tokio::sync::Semaphore;

use crate::store::request::*;
use crate::store::{
    Affected, Body, BodySource, BodyStream, ETag, Key, ObjectStore, SkippedRequests, StoreError,
    StoreErrorKind, StoreOp, log_failure, pieces,
};

/// Most bytes of a part that are in memory; a longer one is read twice, the first time for
/// its checksum.
const IN_MEMORY_LIMIT_BYTES: u64 = 16 << 20;
/// Parts that are read and sent at once.
const AT_ONCE: usize = 4;

/// Copies ranges of objects into uploads.
#[derive(Debug)]
pub(super) struct PartCopies {
    store: Arc<dyn ObjectStore>,
    skipped: SkippedRequests,
    turns: Semaphore,
}

/// The bytes of one version of an object.
#[derive(Debug)]
struct Version {
    store: Arc<dyn ObjectStore>,
    key: Key,
    etag: ETag,
}

impl PartCopies {
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            skipped: SkippedRequests::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// Copies inside the store, or reads and sends where it refuses that.
    pub async fn copy(&self, request: UploadPartCopyRequest) -> Result<CompletedPart, StoreError> {
        if self.skipped.skips(&request.source) {
            return self.read_and_send(request).await;
        }
        let source = request.source.clone();
        let refusal = match self.store.upload_part_copy(request.clone()).await {
            Err(error) if may_be_missing(error.kind) => error,
            Ok(part) => {
                self.skipped.answered();
                return Ok(part);
            }
            Err(error) => return Err(error),
        };
        let part = self.read_and_send(request).await?;
        // Another refusal may be about this range: a copy of few bytes is none on AWS.
        if is_of_store(&refusal) {
            self.tell(&refusal, self.skipped.failed_for(&source));
        }
        Ok(part)
    }

    fn tell(&self, refusal: &StoreError, affected: Affected) {
        match affected {
            Affected::Object { is_first: true } => log_failure!(
                warn,
                refusal,
                [],
                "the store refused to copy a part: what stays of the file is read and sent again"
            ),
            Affected::Store { is_first: true } => log_failure!(
                warn,
                refusal,
                [],
                "this store has no UploadPartCopy: what stays of a long file is read and sent again"
            ),
            Affected::Object { .. } | Affected::Store { .. } => {}
        }
    }

    async fn read_and_send(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        // It is never closed; without a turn it is only more memory.
        let _turn = self.turns.acquire().await.ok();
        let version = Version {
            store: self.store.clone(),
            key: request.source,
            etag: request.source_if_match,
        };
        let range = request.range;
        let body = match range.end - range.start <= IN_MEMORY_LIMIT_BYTES {
            true => version.bytes(range).await?.into(),
            false => version.streamed(range).await?,
        };
        let part = UploadPartRequest {
            key: request.target,
            upload: request.upload,
            number: request.number,
            body,
        };
        self.store.upload_part(part).await
    }
}

/// Whether a store without these copies may answer so.
fn may_be_missing(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::Unsupported
            | StoreErrorKind::Rejected
            | StoreErrorKind::AccessDenied
            // It takes the request for the one that sends a part.
            | StoreErrorKind::Malformed
    )
}

fn is_of_store(refusal: &StoreError) -> bool {
    matches!(
        refusal.kind,
        StoreErrorKind::Unsupported | StoreErrorKind::Malformed
    )
}

impl Version {
    /// Exactly these bytes.
    async fn bytes(&self, range: Range<u64>) -> Result<Bytes, StoreError> {
        let len = range.end - range.start;
        let request = GetRequest {
            key: self.key.clone(),
            range: Some(range),
            if_match: Some(self.etag.clone()),
            sink: None,
        };
        let body = self.store.get(request).await?.body;
        if body.len() as u64 == len {
            return Ok(body);
        }
        let detail = format!("the server sent {} of {len} bytes", body.len());
        let (kind, op) = (StoreErrorKind::Corrupt, StoreOp::Get);
        Err(StoreError::new(kind, op, self.key.clone(), detail))
    }

    async fn streamed(self, range: Range<u64>) -> Result<Body, StoreError> {
        let mut sum = Digest::new(CrcAlgorithm::Crc64Nvme);
        for piece in pieces(range.clone()) {
            sum.update(&self.bytes(piece).await?);
        }
        Ok(Body::Stream(BodyStream {
            source: Arc::new(self),
            range,
            crc64nvme: BASE64.encode(sum.finalize().to_be_bytes()),
        }))
    }
}

#[async_trait]
impl BodySource for Version {
    async fn read(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.bytes(range).await.map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;

    /// An upload of one part, copied from an object of so many bytes but the first.
    async fn copied(kind: StoreErrorKind, len: usize) -> (Arc<Faulty>, PartCopies) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        for nth in 1..9 {
            faulty.plan(StoreOp::UploadPartCopy, nth, Fault::Before(kind));
        }
        let copies = PartCopies::new(faulty.clone());
        let bytes: Bytes = (0..len).map(|at| (at % 251) as u8).collect();
        let put = PutRequest {
            key: Key::new("source"),
            body: bytes.clone(),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        let etag = faulty.put(put).await.unwrap().etag;
        let target = Key::new("target");
        let create = CreateMultipartRequest {
            key: target.clone(),
            headers: ObjectHeaders::default(),
        };
        let upload = faulty.create_multipart(create).await.unwrap();
        let request = UploadPartCopyRequest {
            source: Key::new("source"),
            source_if_match: etag,
            range: 1..len as u64,
            target: target.clone(),
            upload: upload.clone(),
            number: PartNumber::new(1).unwrap(),
        };
        let mut part = None;
        for _ in 0..2 {
            part = Some(copies.copy(request.clone()).await.unwrap());
        }
        let complete = CompleteMultipartRequest {
            key: target.clone(),
            upload,
            parts: part.into_iter().collect(),
            condition: WriteCondition::Always,
        };
        faulty.complete_multipart(complete).await.unwrap();
        let get = GetRequest {
            key: target,
            range: None,
            if_match: None,
            sink: None,
        };
        let body = faulty.get(get).await.unwrap().body;
        assert!(body == bytes.slice(1..), "{kind:?} {len}");
        (faulty, copies)
    }

    #[tokio::test]
    async fn without_copies_of_parts_bytes_are_read_and_sent_and_the_store_is_not_asked_again() {
        for len in [5, (IN_MEMORY_LIMIT_BYTES + 7) as usize] {
            let (faulty, _) = copied(StoreErrorKind::Unsupported, len).await;
            assert_eq!(faulty.seen(StoreOp::UploadPartCopy), 1, "{len}");
        }
    }

    #[tokio::test]
    async fn a_refusal_that_may_be_about_the_object_is_not_remembered() {
        let (faulty, _) = copied(StoreErrorKind::Rejected, 5).await;
        assert_eq!(faulty.seen(StoreOp::UploadPartCopy), 2);
    }
}
