//! Bytes of an old file on their way into the bucket: one PUT, or parts.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::core::{Core, of_old};
use super::interrupted_uploads::{ResumeUploads, UploadedParts};
use super::old_directory::OldFile;
use super::reading::Reading;
use super::versions::Versions;
use crate::store::{
    CompleteMultipartRequest, CompletedPart, CreateMultipartRequest, ETag, Key, ObjectHeaders,
    PART_COUNT_LIMIT, PartNumber, PutAnswer, PutRequest, StoreError, StoreErrorKind, StoreOp,
    UploadId, UploadPartRequest, WriteCondition,
};

/// Parts of one file that are under way at once.
const PARTS_AT_ONCE: usize = 4;

/// An object to make of an old file.
pub struct Sent<'a> {
    pub key: &'a Key,
    pub file: &'a Arc<OldFile>,
    pub headers: ObjectHeaders,
}

/// What is left to do: one request, which makes the object. Until then nobody sees it.
pub enum LastStep {
    Put(Box<PutRequest>),
    Complete(CompleteMultipartRequest),
}

impl LastStep {
    /// The version that it makes, where the store names versions by their bytes.
    pub fn made(&self) -> Option<ETag> {
        match self {
            Self::Put(request) => Some(ETag::of_bytes(&request.body)),
            Self::Complete(request) => request.expected_etag(),
        }
    }
}

/// How long the parts are of a file that is too long for one request.
pub fn part_bytes_of(core: &Core, size_bytes: u64) -> u64 {
    let least = size_bytes.div_ceil(u64::from(PART_COUNT_LIMIT));
    core.parts.part_bytes.max(least)
}

/// Makes objects of old files.
#[derive(Debug)]
pub struct OldFileSender {
    pub core: Arc<Core>,
    pub versions: Arc<Versions>,
    pub reading: Arc<Reading>,
}

impl OldFileSender {
    /// Reads a short file, or sends the parts of a long one.
    ///
    /// Errors: `PreconditionFailed` where it is another version by now; the disk's; the store's.
    pub async fn prepare(&self, sent: Sent<'_>) -> Result<LastStep, StoreError> {
        let Sent { key, file, headers } = sent;
        let size = file.stat.size_bytes;
        if size <= self.core.parts.part_bytes {
            let request = PutRequest {
                key: key.clone(),
                body: self
                    .reading
                    .bytes_of(StoreOp::Put, key, file, 0..size)
                    .await?,
                headers,
                condition: WriteCondition::IfAbsent,
            };
            return Ok(LastStep::Put(Box::new(request)));
        }
        let (upload, there) = self.begun(key, headers).await?;
        match self.send_parts(key, file, (&upload, &there)).await {
            Ok(parts) => Ok(LastStep::Complete(CompleteMultipartRequest {
                key: key.clone(),
                upload,
                parts,
                condition: WriteCondition::IfAbsent,
            })),
            Err(error) => {
                self.interrupted_uploads(key, upload, &error).await;
                Err(error)
            }
        }
    }

    /// An upload that was cut off, with the parts that it has, or a new one. Errors: the
    /// store's.
    async fn begun(
        &self,
        key: &Key,
        headers: ObjectHeaders,
    ) -> Result<(UploadId, UploadedParts), StoreError> {
        if let Some(upload) = self.core.interrupted_uploads.take(key) {
            match UploadedParts::ask(&*self.core.parts.store, key, &upload).await {
                Ok(there) => {
                    tracing::info!(%key, "going on with an upload that was cut off");
                    return Ok((upload, there));
                }
                Err(error) => {
                    let is_left = error.kind.is_no_answer();
                    self.interrupted_uploads(key, upload, &error).await;
                    if is_left {
                        return Err(error);
                    }
                }
            }
        }
        let create = CreateMultipartRequest {
            key: key.clone(),
            headers,
        };
        let upload = self.core.parts.store.create_multipart(create).await?;
        let uploads = &self.core.parts.uploads;
        uploads.upload_begun(key.clone(), upload.clone());
        Ok((upload, UploadedParts::default()))
    }

    /// What ends for want of an answer goes on with the next walk; all else is aborted.
    async fn interrupted_uploads(&self, key: &Key, upload: UploadId, error: &StoreError) {
        let is_resumed = self.core.parts.cut_off_uploads == ResumeUploads::Yes
            && error.kind.is_no_answer()
            && self
                .core
                .interrupted_uploads
                .add(key.clone(), upload.clone());
        if !is_resumed {
            self.abort(key, upload).await;
        }
    }

    /// Aborts what was cut off and is not needed: the old file does not count any more.
    pub async fn abort_left(&self) {
        for (key, upload) in self.core.interrupted_uploads.take_all() {
            self.abort(&key, upload).await;
        }
    }

    async fn send_parts(
        &self,
        key: &Key,
        file: &Arc<OldFile>,
        (upload, there): (&UploadId, &UploadedParts),
    ) -> Result<Vec<CompletedPart>, StoreError> {
        let size = file.stat.size_bytes;
        let part_bytes = part_bytes_of(&self.core, size);
        let part = |index: u64| async move {
            let number = u16::try_from(index + 1).ok().and_then(PartNumber::new);
            let start = index * part_bytes;
            let range = start..size.min(start + part_bytes);
            let too_long = || {
                let (kind, op) = (StoreErrorKind::TooLarge, StoreOp::UploadPart);
                StoreError::new(kind, op, key.clone(), "more than 10,000 parts")
            };
            let number = number.ok_or_else(too_long)?;
            let read = self.reading.bytes_of(StoreOp::UploadPart, key, file, range);
            let body = read.await?;
            if let Some(part) = there.part(number, &body) {
                return Ok(part);
            }
            let request = UploadPartRequest {
                key: key.clone(),
                upload: upload.clone(),
                number,
                body: body.into(),
            };
            self.core.parts.store.upload_part(request).await
        };
        let parts = stream::iter(0..size.div_ceil(part_bytes)).map(part);
        parts.buffered(PARTS_AT_ONCE).try_collect().await
    }

    /// Makes the object. Errors: the store's.
    pub async fn make(
        &self,
        step: &LastStep,
        condition: WriteCondition,
    ) -> Result<PutAnswer, StoreError> {
        match step {
            LastStep::Put(request) => {
                let request = PutRequest {
                    condition,
                    ..(**request).clone()
                };
                self.core.parts.store.put(request).await
            }
            LastStep::Complete(request) => {
                let request = CompleteMultipartRequest {
                    condition,
                    ..request.clone()
                };
                let (key, upload) = (request.key.clone(), request.upload.clone());
                let answer = self.core.parts.store.complete_multipart(request).await?;
                self.core.parts.uploads.upload_ended(key, upload);
                Ok(answer)
            }
        }
    }

    /// The object is not to be made, or is there already.
    pub async fn drop_step(&self, step: LastStep) {
        if let LastStep::Complete(request) = step {
            self.abort(&request.key, request.upload).await;
        }
    }

    /// What is not aborted now, the next mount aborts.
    async fn abort(&self, key: &Key, upload: UploadId) {
        let aborted = self
            .core
            .parts
            .store
            .abort_multipart(key.clone(), upload.clone());
        match aborted.await {
            Ok(()) => self.core.parts.uploads.upload_ended(key.clone(), upload),
            Err(error) => {
                tracing::warn!(%key, %error, "an upload of an old file is not aborted: the next mount does it");
            }
        }
    }

    /// Puts the bytes of an old file under another key.
    pub async fn copy_old(
        &self,
        sent: Sent<'_>,
        condition: &WriteCondition,
    ) -> Result<PutAnswer, StoreError> {
        let (key, of) = (sent.key.clone(), sent.file.stat.etag());
        let step = self.prepare(sent).await?;
        let expected = step.made();
        // Not after the request: whoever is killed then finds the copy for what it is.
        if let Some(made) = &expected {
            let noted = self.versions.note_copy(&key, made, &of).await;
            noted.map_err(|error| of_old(StoreOp::Copy, &key, &error))?;
        }
        let made = self
            .versions
            .change(StoreOp::Copy, &key, condition, |condition| {
                self.make(&step, condition)
            });
        let etag = match made.await {
            Ok(answer) => answer.etag,
            // Of an attempt whose answer was lost?
            Err(error) => match self.versions.head_above(&key).await {
                Ok(Some(there)) if error.maybe_applied && Some(&there) == expected.as_ref() => {
                    there
                }
                _ => {
                    self.drop_step(step).await;
                    return Err(error);
                }
            },
        };
        if Some(&etag) != expected.as_ref() {
            let noted = self.versions.note_copy(&key, &etag, &of).await;
            noted.map_err(|error| of_old(StoreOp::Copy, &key, &error))?;
        }
        // It is shown as what it is a copy of.
        Ok(PutAnswer { etag: of })
    }
}
