//! Uploads: one PUT for small files, parts in parallel for longer ones; what an
//! edit left alone is copied inside the store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

use super::copier::CopyPartSize;
use super::parts::{Part, PartSize, StoredRange, plan_parts};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::store::{
    CompleteMultipartRequest, CompletedPart, CreateMultipartRequest, ETag, GetRequest, HeadRequest,
    Key, ObjectHeaders, ObjectStore, PartNumber, PutRequest, StoreError, StoreErrorKind, StoreOp,
    UploadId, UploadPartCopyRequest, UploadPartRequest, WriteCondition,
};

/// Uploads of one file in parts that may meet another conditional write of its
/// key when they are completed.
const CONFLICTS_LIMIT: usize = 3;

/// Bytes to upload.
#[async_trait]
pub trait ByteSource: Send + Sync {
    /// Exactly the bytes of a range.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, FsError>;

    /// Where in the store exactly the bytes of a range are, if they are.
    fn stored(&self, range: Range<u64>) -> Option<StoredRange>;

    /// All parts are in the store; the next request makes this version of them.
    fn completes_as(&self, version: ETag);

    /// The version that an earlier attempt was about to make.
    fn completed_as(&self) -> Option<ETag>;
}

/// What an upload makes.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    pub key: Key,
    pub headers: ObjectHeaders,
    pub condition: WriteCondition,
    pub len: u64,
    pub earlier: Earlier,
}

/// Whether an earlier upload of the same bytes to the same key may have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    None,
    Maybe,
}

/// Why an upload failed.
#[derive(Debug)]
struct Failed {
    error: FsError,
    /// The store may have applied it all the same.
    in_doubt: bool,
}

impl Failed {
    /// Whether the upload was to be completed while another write of the key was under way.
    fn met_another(&self) -> bool {
        match &self.error {
            FsError::Store(error) => {
                error.kind == StoreErrorKind::Conflict && error.op == StoreOp::CompleteMultipart
            }
            _ => false,
        }
    }
}

impl From<FsError> for Failed {
    fn from(error: FsError) -> Self {
        Self {
            error,
            in_doubt: false,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self {
            in_doubt: error.maybe_applied,
            error: error.into(),
        }
    }
}

/// Sends files to the store, with a bound on the memory of all uploads together.
#[derive(Debug)]
pub struct Uploader {
    store: Arc<dyn ObjectStore>,
    part_size: PartSize,
    copy_part_size: CopyPartSize,
    concurrency: usize,
    /// One permit a MiB of parts in memory.
    memory: Semaphore,
    memory_mib: u32,
}

impl Uploader {
    /// At most `concurrency` parts of `part_size` are in memory at once; what
    /// the store has already is copied there in parts of up to `copy_part_size`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        part_size: PartSize,
        copy_part_size: CopyPartSize,
        concurrency: usize,
    ) -> Self {
        let memory_mib =
            u32::try_from(mib(part_size.bytes()) * concurrency as u64).unwrap_or(u32::MAX >> 4);
        Self {
            store,
            part_size,
            copy_part_size,
            concurrency,
            memory: Semaphore::new(memory_mib as usize),
            memory_mib,
        }
    }

    /// Whether a file of this length in bytes is one request.
    pub fn sends_at_once(&self, len: u64) -> bool {
        len <= self.part_size.bytes()
    }

    /// Stores the bytes as one object and returns its version.
    ///
    /// Where the store refuses a condition though an earlier attempt may have been
    /// applied, the bytes under the key decide.
    /// A store that does not know conditional writes gets an unconditional one.
    /// Errors: `Exists` when the target had to be absent and is not, `Stale`
    /// when it changed, `TooLarge`, the source's and the store's.
    pub async fn upload(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
    ) -> Result<ETag, FsError> {
        let failed = match self.upload_unopposed(target, source).await {
            Ok(etag) => return Ok(etag),
            Err(failed) => failed,
        };
        let in_doubt = failed.in_doubt || target.earlier == Earlier::Maybe;
        match failed.error {
            FsError::Store(error)
                if error.kind == StoreErrorKind::Unsupported
                    && target.condition != WriteCondition::Always =>
            {
                tracing::warn!(key = %target.key, "this store has no conditional writes: written without");
                let target = UploadTarget {
                    condition: WriteCondition::Always,
                    ..target.clone()
                };
                let outcome = self.upload_once(&target, source).await;
                outcome.map_err(|failed| failed.error)
            }
            // Not what it was, or gone: by our own doing, whose answer was lost?
            FsError::Stale | FsError::NotFound => {
                if in_doubt && let Some(etag) = self.find_own(target, source).await? {
                    tracing::info!(key = %target.key, "an earlier attempt had been applied");
                    return Ok(etag);
                }
                Err(if target.condition == WriteCondition::IfAbsent {
                    FsError::Exists
                } else {
                    FsError::Stale
                })
            }
            error => Err(error),
        }
    }

    /// The version under the key, if it is the one that an attempt was about to make,
    /// or has exactly the bytes of this upload.
    async fn find_own(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
    ) -> Result<Option<ETag>, FsError> {
        let head = HeadRequest {
            key: target.key.clone(),
        };
        let meta = match self.store.head(head).await {
            Ok(meta) if meta.size_bytes == target.len => meta,
            Ok(_) => return Ok(None),
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if source.completed_as().as_ref() == Some(&meta.etag) {
            return Ok(Some(meta.etag));
        }
        let mut at = 0;
        while at < target.len {
            let range = at..target.len.min(at + self.part_size.bytes());
            at = range.end;
            let _memory = self.reserve(2 * self.part_size.bytes()).await;
            let request = GetRequest {
                key: target.key.clone(),
                range: Some(range.clone()),
                if_match: Some(meta.etag.clone()),
            };
            let stored = match self.store.get(request).await {
                Ok(answer) => answer.body,
                Err(error)
                    if matches!(
                        error.kind,
                        StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            if stored != source.read(range).await? {
                return Ok(None);
            }
        }
        Ok(Some(meta.etag))
    }

    /// A completion that met another conditional write of the key ends its
    /// upload: it is begun anew, and then the condition holds or does not.
    ///
    /// Source: S3 User Guide, on 409 Conflict in "How to prevent object overwrites
    /// with conditional writes".
    async fn upload_unopposed(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
    ) -> Result<ETag, Failed> {
        let mut in_doubt = false;
        let mut conflicts = 0;
        loop {
            let mut failed = match self.upload_once(target, source).await {
                Ok(etag) => return Ok(etag),
                Err(failed) => failed,
            };
            // The one that it met may have been an attempt of its own.
            failed.in_doubt |= in_doubt;
            if conflicts == CONFLICTS_LIMIT || !failed.met_another() {
                return Err(failed);
            }
            in_doubt = failed.in_doubt;
            conflicts += 1;
            tracing::info!(key = %target.key, "met another write of the key: uploaded anew");
        }
    }

    async fn upload_once(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
    ) -> Result<ETag, Failed> {
        if self.sends_at_once(target.len) {
            let _memory = self.reserve(target.len).await;
            let request = PutRequest {
                key: target.key.clone(),
                body: source.read(0..target.len).await?,
                headers: target.headers.clone(),
                condition: target.condition.clone(),
            };
            failpoint::at(Point::PutBegins);
            let etag = self.store.put(request).await?.etag;
            failpoint::at(Point::PutAnswered);
            return Ok(etag);
        }
        let part_bytes = self.part_size.for_len(target.len)?;
        let create = CreateMultipartRequest {
            key: target.key.clone(),
            headers: target.headers.clone(),
        };
        let upload = self.store.create_multipart(create).await?;
        failpoint::at(Point::PartsBegin);
        let outcome = self.upload_parts(target, source, &upload, part_bytes).await;
        if outcome.is_err()
            && let Err(error) = self.store.abort_multipart(target.key.clone(), upload).await
        {
            tracing::warn!(%error, "multipart upload not aborted");
        }
        outcome
    }

    async fn upload_parts(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
        upload: &UploadId,
        part_bytes: u64,
    ) -> Result<ETag, Failed> {
        let plan = plan_parts(target.len, part_bytes, self.copy_part_size, |range| {
            source.stored(range)
        });
        let parts: Vec<CompletedPart> = stream::iter((1..).zip(plan))
            .map(|(number, part)| self.upload_part(target, source, upload, number, part))
            .buffered(self.concurrency)
            .try_collect()
            .await?;
        let request = CompleteMultipartRequest {
            key: target.key.clone(),
            upload: upload.clone(),
            parts,
            condition: target.condition.clone(),
        };
        if let Some(version) = request.expected_etag() {
            source.completes_as(version);
        }
        failpoint::at(Point::CompleteBegins);
        let etag = self.store.complete_multipart(request).await?.etag;
        failpoint::at(Point::CompleteAnswered);
        Ok(etag)
    }

    async fn upload_part(
        &self,
        target: &UploadTarget,
        source: &dyn ByteSource,
        upload: &UploadId,
        number: u16,
        part: Part,
    ) -> Result<CompletedPart, FsError> {
        let number = PartNumber::new(number).ok_or(FsError::TooLarge)?;
        let (key, upload) = (target.key.clone(), upload.clone());
        failpoint::at(Point::PartBegins);
        let done = match part {
            Part::Send(range) => {
                let _memory = self.reserve(range.end - range.start).await;
                let request = UploadPartRequest {
                    key,
                    upload,
                    number,
                    body: source.read(range).await?,
                };
                self.store.upload_part(request).await?
            }
            Part::Copy(stored) => {
                let request = UploadPartCopyRequest {
                    source: stored.key,
                    source_if_match: stored.etag,
                    range: stored.range,
                    target: key,
                    upload,
                    number,
                };
                self.store.upload_part_copy(request).await?
            }
        };
        failpoint::at(Point::PartAnswered);
        Ok(done)
    }

    async fn reserve(&self, bytes: u64) -> Option<tokio::sync::SemaphorePermit<'_>> {
        let permits = u32::try_from(mib(bytes))
            .unwrap_or(u32::MAX)
            .min(self.memory_mib);
        self.memory.acquire_many(permits).await.ok()
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
