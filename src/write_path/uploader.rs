//! Uploads: one PUT for small files, parts in parallel for longer ones; what an
//! edit left alone is copied inside the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::abort_queue::Aborter;
use super::budget::Budget;
use super::byte_source::ByteSource;
use super::copier::CopyPartSize;
use super::failed::Failed;
use super::multipart::MultipartUpload;
use super::own_version::find_own;
use super::part_sender::PartSender;
use super::parts::{Origin, PartSize, Run};
use super::scratch::Scratch;
use super::upload_target::{PriorAttempt, UploadTarget, Uploaded};
use super::written_headers::WrittenHeaders;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::journal::{Offloaded, UploadStart};
use crate::store::{
    ETag, HeadRequest, Key, ObjectStore, PutRequest, StoreError, StoreErrorKind, StoreOp, UploadId,
    WriteCondition,
};

/// Uploads of one file in parts that may meet another conditional write of its
/// key when they are completed.
const CONFLICTS_LIMIT: usize = 3;
/// Time for the other write to end, where the upload is not started again.
const CONFLICT_PAUSE: Duration = Duration::from_secs(1);
/// Attempts of a whole replacement whose key other clients replace meanwhile.
const REPLACE_TRIES: usize = 8;

/// Sends files to the store, and sees to conditions and lost answers.
#[derive(Debug)]
pub struct Uploader {
    parts: PartSender,
    written: Arc<WrittenHeaders>,
    aborter: Aborter,
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
        let (aborts, aborter) = Aborter::new();
        let parts = PartSender {
            store,
            part_size,
            copy_part_size,
            concurrency,
            budget: Budget::new(part_size.bytes(), concurrency as u64),
            aborts,
            scratch: None,
        };
        Self {
            parts,
            written: Arc::new(WrittenHeaders::new(Duration::ZERO)),
            aborter,
        }
    }

    /// What it stores with objects is known for a moment, within the `ttl`.
    pub fn with_known_headers(mut self, ttl: Duration) -> Self {
        self.written = Arc::new(WrittenHeaders::new(ttl));
        self
    }

    /// What it has stored with objects a moment ago.
    pub fn written_headers(&self) -> Arc<WrittenHeaders> {
        self.written.clone()
    }

    /// Parts of zeros are copied from scratch objects from now on.
    pub fn with_scratch(mut self, scratch: Scratch) -> Self {
        self.parts.scratch = Some(scratch);
        self
    }

    /// What sends files in parts, also before they are closed.
    pub fn parts(&self) -> &PartSender {
        &self.parts
    }

    /// Has an upload aborted that nobody completes.
    pub fn abort_later(&self, key: Key, upload: UploadId) {
        self.parts.aborts.add(key, upload);
    }

    /// Aborts uploads that nobody completes, as long as the run time lasts.
    pub async fn abort_queued(&self) {
        self.aborter.run(&*self.parts.store).await;
    }

    /// Returns once every upload that nobody completes is aborted.
    pub async fn aborts_settled(&self) {
        self.aborter.settled().await;
    }

    /// An upload that a predecessor began.
    pub fn take_over(&self, sending: UploadStart) -> Arc<MultipartUpload> {
        Arc::new(MultipartUpload::resumed(sending, self.parts.aborts.clone()))
    }

    /// The same of a stage of which that upload alone has parts.
    pub fn take_over_offloaded(
        &self,
        offloaded: Offloaded,
        sending: Option<UploadStart>,
    ) -> Arc<MultipartUpload> {
        let of_it = sending.filter(|sending| sending.upload == offloaded.upload);
        let part_ends = of_it.map(|sending| sending.part_ends);
        let aborts = self.parts.aborts.clone();
        Arc::new(MultipartUpload::with_offloaded(
            offloaded, part_ends, aborts,
        ))
    }

    /// Whether a file of this length in bytes is one request.
    pub fn sends_at_once(&self, len: u64) -> bool {
        self.parts.sends_at_once(len)
    }

    /// Stores the bytes as one object and returns its version.
    ///
    /// Where the store refuses a condition though an earlier attempt may have been
    /// applied, the bytes under the key decide.
    /// Errors: `Exists` when the target had to be absent and is not, `Stale`
    /// when it changed, `TooLarge`, the source's and the store's.
    pub async fn upload(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<Uploaded, FsError> {
        match target.condition {
            WriteCondition::Always => self.replace(target, source).await,
            WriteCondition::IfAbsent | WriteCondition::IfMatch(_) => {
                self.upload_on_condition(target, source).await
            }
        }
    }

    /// Takes the place of whatever version is there, which is named in each
    /// attempt: one that the store carries out late finds another version.
    async fn replace(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<Uploaded, FsError> {
        let mut condition = match &target.known {
            WriteCondition::Always => self.current(&target.key).await?,
            known => known.clone(),
        };
        let mut refused_though_it_holds = false;
        for _ in 0..REPLACE_TRIES {
            let attempt = UploadTarget {
                condition,
                ..target.clone()
            };
            let outcome = self.upload_on_condition(&attempt, source).await;
            if !matches!(outcome, Err(FsError::Stale(_) | FsError::Exists(_))) {
                return outcome;
            }
            condition = self.current(&target.key).await?;
            // Once is a race. Twice, versions are not what the store refuses it for.
            if condition == attempt.condition {
                if refused_though_it_holds {
                    return outcome.map_err(FsError::into_stale);
                }
                refused_though_it_holds = true;
            }
            tracing::info!(key = %target.key, "another version is there: replacing it");
        }
        let detail = format!("replaced by other clients in each of {REPLACE_TRIES} attempts");
        let (kind, key) = (StoreErrorKind::Conflict, target.key.clone());
        Err(FsError::Store(StoreError::new(
            kind,
            StoreOp::Put,
            key,
            detail,
        )))
    }

    /// The condition that holds for the key now.
    async fn current(&self, key: &Key) -> Result<WriteCondition, FsError> {
        match self
            .parts
            .store
            .head(HeadRequest { key: key.clone() })
            .await
        {
            Ok(meta) => Ok(WriteCondition::IfMatch(meta.etag)),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(WriteCondition::IfAbsent),
            Err(error) => Err(error.into()),
        }
    }

    async fn upload_on_condition(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<Uploaded, FsError> {
        let began = (target.prior != PriorAttempt::Maybe).then(Instant::now);
        let mut failed = match self.upload_unopposed(target, source).await {
            Ok(etag) => return Ok(etag.into()),
            Err(failed) => failed,
        };
        if is_gone(&failed.error) {
            // Completed by an attempt whose answer was lost, aborted by someone else, or
            // of other parts: then it is there, and is aborted.
            source.set_multipart(None);
            let outcome_unknown = failed.outcome_unknown || target.prior == PriorAttempt::Maybe;
            if outcome_unknown
                && let Some(found) = find_own(&self.parts, target, source, began).await?
            {
                tracing::info!(key = %target.key, "an earlier attempt had succeeded");
                return Ok(found);
            }
            if source.offloaded_end() > 0 {
                tracing::error!(key = %target.key, error = %failed.error, "an unfinished multipart upload is gone, and with it parts of the file that were nowhere else");
                return Err(FsError::PartsLost);
            }
            tracing::info!(key = %target.key, error = %failed.error, "an unfinished multipart upload is gone: starting again");
            failed = match self.upload_unopposed(target, source).await {
                Ok(etag) => return Ok(etag.into()),
                Err(again) => again,
            };
        }
        let outcome_unknown = failed.outcome_unknown || target.prior == PriorAttempt::Maybe;
        match failed.error {
            // Not what it was, or gone: by our own doing, whose answer was lost?
            error @ (FsError::Stale(_) | FsError::NotFound(_)) => {
                if outcome_unknown
                    && let Some(found) = find_own(&self.parts, target, source, began).await?
                {
                    tracing::info!(key = %target.key, "an earlier attempt had succeeded");
                    // It may be of another client, with the same bytes: then this upload is
                    // left, and is aborted. Of one that was completed, nothing is.
                    source.set_multipart(None);
                    return Ok(found);
                }
                Err(if target.condition == WriteCondition::IfAbsent {
                    error.into_exists()
                } else {
                    error.into_stale()
                })
            }
            error => Err(error),
        }
    }

    /// A completion that met another conditional write of the key ends its
    /// upload: it is started again, and then the condition holds or does not.
    ///
    /// Source: S3 User Guide, on 409 Conflict in "How to prevent object overwrites
    /// with conditional writes".
    async fn upload_unopposed(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<ETag, Failed> {
        let mut outcome_unknown = false;
        let mut conflicts = 0;
        loop {
            let mut failed = match self.upload_once(target, source).await {
                Ok(etag) => return Ok(etag),
                Err(failed) => failed,
            };
            // The one that it met may have been an attempt of its own.
            failed.outcome_unknown |= outcome_unknown;
            if conflicts == CONFLICTS_LIMIT || !failed.is_write_conflict() {
                return Err(failed);
            }
            outcome_unknown = failed.outcome_unknown;
            conflicts += 1;
            if source.offloaded_end() > 0 {
                // No other one can have its parts: where the store has it still, it is completed.
                tracing::info!(key = %target.key, "another write of this key is in progress: completing again");
                sleep(CONFLICT_PAUSE).await;
                continue;
            }
            source.set_multipart(None);
            tracing::info!(key = %target.key, "another client wrote this key meanwhile: uploading again");
        }
    }

    async fn upload_once(
        &self,
        target: &UploadTarget,
        source: &Arc<dyn ByteSource>,
    ) -> Result<ETag, Failed> {
        if self.sends_at_once(target.len) {
            source.set_multipart(None);
            let _memory = self.parts.budget.single(target.len).await;
            let body = source.read(0..target.len).await?;
            let shows_object = |run: &Run| matches!(run.origin, Origin::Object(..));
            if source.runs().iter().any(shows_object) {
                // Once it is applied, not all of its bytes are anywhere to compare.
                source.completes_as(ETag::of_bytes(&body));
            }
            let request = PutRequest {
                key: target.key.clone(),
                body,
                headers: target.headers.clone(),
                condition: target.condition.clone(),
            };
            failpoint::at(Point::PutBegins);
            let etag = self.parts.store.put(request).await?.etag;
            failpoint::at(Point::PutAnswered);
            self.written.note(&target.key, &etag, &target.headers);
            return Ok(etag);
        }
        self.parts.upload_in_parts(target, source).await
    }
}

/// Whether the store does not know the multipart upload, or not all of its parts.
fn is_gone(error: &FsError) -> bool {
    matches!(error, FsError::Store(error) if error.kind == StoreErrorKind::NoSuchUpload)
}
