//! Holes of a file: zeros are sent once, as a scratch object, and copied from there
//! inside the store.
//!
//! A long run of zeros is parts of up to 5 GiB. An object as long as the longest is
//! made of copies of one part that is sent. Both objects are this mount's alone:
//! listings of it do not show them, and they go with the upload, or at the next
//! start after a crash. Where the store does not copy, zeros are sent like bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::abort_queue::AbortQueue;
use super::budget::Budget;
use super::byte_source::ByteSource;
use super::crc64nvme::Crc64Nvme;
use super::multipart::MultipartUpload;
use super::parts::{PartSize, are_zeros_copied, ranges};
use super::scratch::{Scratch, Zeros};
use crate::error::FsError;
use crate::store::{
    CompleteMultipartRequest, CompletedPart, CreateMultipartRequest, ETag, Key, ObjectHeaders,
    ObjectStore, PartNumber, Placement, PutRequest, StoreError, StoreErrorKind, UploadId,
    UploadPartCopyRequest, WriteCondition,
};

/// The longest of the parts that are all zeros; none where there are few.
pub fn longest_of_zeros(
    source: &Arc<dyn ByteSource>,
    part_ends: &[u64],
    part_size: PartSize,
) -> Option<u64> {
    let zeros = ranges(part_ends).filter(|part| source.is_zero(part.clone()));
    let lens: Vec<u64> = zeros.map(|part| part.end - part.start).collect();
    let longest = lens.iter().copied().max()?;
    are_zeros_copied(lens.iter().sum(), part_size).then_some(longest)
}

/// Copies the parts of one upload that are all zeros.
#[derive(Debug, Clone, Copy)]
pub struct ZeroCopier<'a> {
    /// The longest of those parts.
    pub longest: u64,
    pub scratch: &'a Scratch,
    pub store: &'a dyn ObjectStore,
    pub part_size: PartSize,
    pub concurrency: usize,
    pub budget: &'a Budget,
    pub aborts: &'a AbortQueue,
}

impl ZeroCopier<'_> {
    /// Copies a part from the zeros that were made for the upload. None where the
    /// store does not copy. Errors: the store's, the spool's.
    pub async fn copy(
        &self,
        upload: &MultipartUpload,
        (number, len): (PartNumber, u64),
    ) -> Result<Option<CompletedPart>, FsError> {
        let left = upload.left_part(number, len);
        let of_zeros = |part: &CompletedPart| {
            let theirs = part.crc64nvme.as_ref();
            theirs.is_some_and(|theirs| *theirs == Crc64Nvme::text_of_zeros(len))
        };
        if let Some(part) = left.filter(of_zeros) {
            return Ok(Some(part));
        }
        let making = upload.zeros().get_or_try_init(|| self.make_zeros(upload));
        let Some(zeros) = making.await? else {
            return Ok(None);
        };
        let copied = self.copy_part(zeros, 0..len, (upload.key(), upload.id()), number);
        match copied.await {
            Err(error) if is_refusal(&error) => {
                tracing::warn!(%error, "a hole of a file is not copied inside the store: its zeros are sent");
                Ok(None)
            }
            copied => Ok(copied.map(Some)?),
        }
    }

    /// None where the store does not take or copy a scratch object.
    async fn make_zeros(&self, upload: &MultipartUpload) -> Result<Option<Zeros>, FsError> {
        let headers = ObjectHeaders {
            // What is archived cannot be copied at once.
            placement: Placement {
                storage_class: None,
                encryption: upload.headers().placement.encryption.clone(),
            },
            ..ObjectHeaders::default()
        };
        let first = self.part_size.bytes().min(self.longest);
        let made = match self.put_zeros(first, &headers).await {
            Ok(zeros) if self.longest <= first => Ok(zeros),
            Ok(zeros) => self.join_zeros((zeros, first), headers).await,
            Err(error) => Err(error),
        };
        match made {
            Err(FsError::Store(error)) if is_refusal(&error) => {
                tracing::warn!(%error, "cannot copy holes inside the store: sending their zeros");
                Ok(None)
            }
            Err(error @ (FsError::AccessDenied(_) | FsError::NotFound(_) | FsError::Stale(_))) => {
                tracing::warn!(%error, "cannot copy holes inside the store: sending their zeros");
                Ok(None)
            }
            made => made.map(Some),
        }
    }

    async fn put_zeros(&self, len: u64, headers: &ObjectHeaders) -> Result<Zeros, FsError> {
        let key = self.scratch.key_of_zeros();
        let kept = self.scratch.store.scratch(key.clone())?;
        let _memory = self.budget.single(len).await;
        let request = PutRequest {
            key: key.clone(),
            body: Bytes::from(vec![0; len as usize]),
            headers: headers.clone(),
            condition: WriteCondition::Always,
        };
        let etag = self.store.put(request).await?.etag;
        Ok(Zeros::new(key, etag, kept))
    }

    /// Zeros as long as the longest part, of copies of what is there.
    async fn join_zeros(
        &self,
        (first, first_len): (Zeros, u64),
        headers: ObjectHeaders,
    ) -> Result<Zeros, FsError> {
        let len = self.longest;
        let key = self.scratch.key_of_zeros();
        let kept = self.scratch.store.scratch(key.clone())?;
        let create = CreateMultipartRequest {
            key: key.clone(),
            headers,
        };
        let id = self.store.create_multipart(create).await?;
        let copies = stream::iter(1..=len.div_ceil(first_len)).map(|number| {
            let (first, to) = (&first, (&key, &id));
            async move {
                let start = (number - 1) * first_len;
                let number = u16::try_from(number).ok().and_then(PartNumber::new);
                let number = number.ok_or(FsError::TOO_LARGE)?;
                let range = 0..first_len.min(len - start);
                Ok::<_, FsError>(self.copy_part(first, range, to, number).await?)
            }
        });
        let joined = async {
            let request = CompleteMultipartRequest {
                key: key.clone(),
                upload: id.clone(),
                parts: copies.buffered(self.concurrency).try_collect().await?,
                condition: WriteCondition::Always,
            };
            Ok(self.store.complete_multipart(request).await?.etag)
        };
        let joined: Result<ETag, FsError> = joined.await;
        if joined.is_err() {
            self.aborts.add(key.clone(), id);
        }
        Ok(Zeros::new(key, joined?, kept))
    }

    async fn copy_part(
        &self,
        zeros: &Zeros,
        range: Range<u64>,
        (key, upload): (&Key, &UploadId),
        number: PartNumber,
    ) -> Result<CompletedPart, StoreError> {
        let request = UploadPartCopyRequest {
            source: zeros.key.clone(),
            source_if_match: zeros.etag.clone(),
            range,
            target: key.clone(),
            upload: upload.clone(),
            number,
        };
        self.store.upload_part_copy(request).await
    }
}

/// Whether the store would refuse the same again, though the upload is fine.
fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error.kind,
        StoreErrorKind::Unsupported
            | StoreErrorKind::Rejected
            | StoreErrorKind::AccessDenied
            | StoreErrorKind::NotFound
            | StoreErrorKind::PreconditionFailed
            | StoreErrorKind::InvalidRange
            | StoreErrorKind::TooLarge
    )
}
