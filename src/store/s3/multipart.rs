//! Multipart uploads.

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload};

use super::S3Store;
use super::encoding::{copy_source, with_headers, with_placement};
use super::error::translate;
use super::object::{conditions, etag};
use super::stream::byte_stream;
use crate::store::{
    Body, CompleteMultipartRequest, CompletedPart, CreateMultipartRequest, ETag, Key,
    ListPartsAnswer, ListPartsRequest, ListedPart, PartNumber, PutAnswer, StoreError,
    StoreErrorKind, StoreOp, UploadId, UploadPartCopyRequest, UploadPartRequest,
};

/// Longest id of an upload that is taken; S3's have some 130 characters.
const UPLOAD_ID_LIMIT_BYTES: usize = 2048;

impl S3Store {
    pub(super) async fn create_upload(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        let key = request.key;
        let create = self
            .client()
            .create_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str());
        let create = with_placement!(create, request.headers.placement.clone());
        let create = create.set_tagging(request.headers.tags.clone());
        let answer = with_headers!(create, request.headers)
            .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(|error| translate(StoreOp::CreateMultipart, &key, error))?;
        // It goes into the journal, and from there into requests until one ends it.
        let usable = |id: &&str| {
            (1..=UPLOAD_ID_LIMIT_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
        };
        let id = answer.upload_id().filter(usable).ok_or_else(|| {
            let detail = "answer without a usable upload id";
            StoreError::new(
                StoreErrorKind::Server,
                StoreOp::CreateMultipart,
                key.clone(),
                detail,
            )
        })?;
        Ok(UploadId(id.to_owned()))
    }

    pub(super) async fn send_part(
        &self,
        request: UploadPartRequest,
    ) -> Result<CompletedPart, StoreError> {
        let key = request.key;
        let part = self
            .client()
            .upload_part()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(request.upload.0)
            .part_number(i32::from(request.number.get()));
        let part = match request.body {
            Body::Bytes(bytes) => part
                .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                .body(ByteStream::from(bytes)),
            // Its checksum is known before its bytes are here.
            Body::Stream(stream) => part
                .set_content_length(i64::try_from(stream.len_bytes()).ok())
                .checksum_crc64_nvme(&stream.crc64nvme)
                .body(byte_stream(stream)),
        };
        let answer = part
            .send()
            .await
            .map_err(|error| translate(StoreOp::UploadPart, &key, error))?;
        Ok(CompletedPart {
            number: request.number,
            etag: etag(StoreOp::UploadPart, &key, answer.e_tag())?,
            crc64nvme: answer.checksum_crc64_nvme().map(str::to_owned),
        })
    }

    pub(super) async fn copy_part(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        let key = request.target;
        let range = format!(
            "bytes={}-{}",
            request.range.start,
            request.range.end.saturating_sub(1)
        );
        let answer = self
            .client()
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(request.upload.0)
            .part_number(i32::from(request.number.get()))
            .copy_source(copy_source(&self.bucket, request.source.as_str()))
            .copy_source_range(range)
            .copy_source_if_match(request.source_if_match.quoted())
            .send()
            .await
            .map_err(|error| translate(StoreOp::UploadPartCopy, &key, error))?;
        let made = answer.copy_part_result();
        Ok(CompletedPart {
            number: request.number,
            etag: etag(
                StoreOp::UploadPartCopy,
                &key,
                made.and_then(|part| part.e_tag()),
            )?,
            crc64nvme: made
                .and_then(|part| part.checksum_crc64_nvme())
                .map(str::to_owned),
        })
    }

    pub(super) async fn complete_upload(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let key = request.key;
        let (if_match, if_none_match) = conditions(&request.condition);
        let parts = request.parts.iter().map(|part| {
            aws_sdk_s3::types::CompletedPart::builder()
                .part_number(i32::from(part.number.get()))
                .e_tag(part.etag.quoted())
                .set_checksum_crc64_nvme(part.crc64nvme.clone())
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let answer = self
            .client()
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(request.upload.0)
            .multipart_upload(parts)
            .checksum_type(ChecksumType::FullObject)
            .set_if_match(if_match)
            .set_if_none_match(if_none_match)
            .send()
            .await
            .map_err(|error| translate(StoreOp::CompleteMultipart, &key, error))?;
        Ok(PutAnswer {
            etag: etag(StoreOp::CompleteMultipart, &key, answer.e_tag())?,
        })
    }

    pub(super) async fn abort_upload(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        let answer = self
            .client()
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(upload.0)
            .send()
            .await;
        match answer.map_err(|error| translate(StoreOp::AbortMultipart, &key, error)) {
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
            Err(error) if error.kind == StoreErrorKind::NoSuchUpload => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    pub(super) async fn parts_of_upload(
        &self,
        request: ListPartsRequest,
    ) -> Result<ListPartsAnswer, StoreError> {
        let key = request.key;
        let after = request.after.map(|number| number.get().to_string());
        let answer = self
            .client()
            .list_parts()
            .bucket(&self.bucket)
            .key(key.as_str())
            .upload_id(request.upload.0)
            .set_part_number_marker(after)
            .send()
            .await
            .map_err(|error| translate(StoreOp::ListParts, &key, error))?;
        let missing = |field: &str| {
            let detail = format!("the listing of parts lacks {field}");
            let (kind, op) = (StoreErrorKind::Rejected, StoreOp::ListParts);
            StoreError::new(kind, op, key.clone(), detail)
        };
        let mut parts = Vec::with_capacity(answer.parts().len());
        for part in answer.parts() {
            let number = part.part_number().and_then(|it| u16::try_from(it).ok());
            let number = number.and_then(PartNumber::new);
            let number = number.ok_or_else(|| missing("a PartNumber"))?;
            let size = part.size().and_then(|size| u64::try_from(size).ok());
            parts.push(ListedPart {
                part: CompletedPart {
                    number,
                    etag: ETag::new(part.e_tag().ok_or_else(|| missing("an ETag"))?),
                    crc64nvme: part.checksum_crc64_nvme().map(str::to_owned),
                },
                size_bytes: size.ok_or_else(|| missing("a Size"))?,
            });
        }
        let goes_on = answer.is_truncated();
        let goes_on = goes_on.ok_or_else(|| missing("IsTruncated"))?;
        let named = answer.next_part_number_marker();
        let named = named.and_then(|next| PartNumber::new(next.parse().ok()?));
        let last = parts.last().map(|last| last.part.number);
        let next = named.or(last).filter(|_| goes_on);
        if goes_on && next <= request.after {
            return Err(missing("what comes after the page before"));
        }
        Ok(ListPartsAnswer { parts, next })
    }
}
