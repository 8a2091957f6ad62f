//! Multipart uploads.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadOutput;
use aws_sdk_s3::operation::create_multipart_upload::CreateMultipartUploadOutput;
use aws_sdk_s3::operation::upload_part::UploadPartOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumType, CompletedMultipartUpload};

use super::S3Store;
use super::answer::root_of_whole;
use super::checksum::{PayloadSigning, StreamSums, UploadChecksum, with_this_alone};
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
/// How rclone calls the document that S3 calls `InitiateMultipartUploadResult`, and which
/// the SDK does not read therefore. Source: rclone 1.75, `serve s3`.
const BEGUN_BY_RCLONE: &str = "InitiateMultipartUpload";

pub(super) async fn create(
    store: &S3Store,
    request: CreateMultipartRequest,
) -> Result<UploadId, StoreError> {
    let key = &request.key;
    let send = |checksum| send_create(store, &request, checksum);
    let answer = store.checksums.with_checksum(send).await?;
    // It goes into the journal, and from there into requests until one ends it.
    let usable = |id: &&str| {
        (1..=UPLOAD_ID_LIMIT_BYTES).contains(&id.len()) && !id.chars().any(char::is_control)
    };
    let id = answer.upload_id().filter(usable).ok_or_else(|| {
        let detail = "answer without a usable upload id";
        StoreError::new(
            StoreErrorKind::Malformed,
            StoreOp::CreateMultipart,
            key.clone(),
            detail,
        )
    })?;
    Ok(UploadId(id.to_owned()))
}

async fn send_create(
    store: &S3Store,
    request: &CreateMultipartRequest,
    checksum: UploadChecksum,
) -> Result<CreateMultipartUploadOutput, StoreError> {
    let (key, headers) = (&request.key, request.headers.clone());
    let create = store
        .client()
        .create_multipart_upload()
        .bucket(&store.bucket)
        .key(key.as_str());
    let create = with_placement!(create, headers.placement.clone());
    let create = create.set_tagging(headers.tags.clone());
    let algorithm = checksum.algorithm();
    with_headers!(create, headers)
        .set_checksum_type(of_all(checksum))
        .set_checksum_algorithm(algorithm)
        .send()
        .await
        .or_else(|error| match error.raw_response().and_then(id_of_rclone) {
            Some(id) => Ok(CreateMultipartUploadOutput::builder().upload_id(id).build()),
            None => Err(translate(StoreOp::CreateMultipart, key, error)),
        })
}

pub(super) async fn upload_part(
    store: &S3Store,
    request: UploadPartRequest,
) -> Result<CompletedPart, StoreError> {
    let key = &request.key;
    let send = |checksum| send_part(store, &request, checksum);
    let answer = store.checksums.with_checksum(send).await?;
    Ok(CompletedPart {
        number: request.number,
        etag: etag(StoreOp::UploadPart, key, answer.e_tag())?,
        crc64nvme: answer.checksum_crc64_nvme().map(str::to_owned),
    })
}

async fn send_part(
    store: &S3Store,
    request: &UploadPartRequest,
    checksum: UploadChecksum,
) -> Result<UploadPartOutput, StoreError> {
    let key = &request.key;
    let part = store
        .client()
        .upload_part()
        .bucket(&store.bucket)
        .key(key.as_str())
        .upload_id(&request.upload.0)
        .part_number(i32::from(request.number.get()));
    let part = match &request.body {
        Body::Bytes(bytes) => part
            .set_checksum_algorithm(checksum.algorithm())
            .set_content_md5(checksum.md5_of(bytes))
            .body(ByteStream::from(bytes.clone())),
        Body::Summed(summed) => {
            let known = checksum == UploadChecksum::Crc64Nvme;
            let sum = summed.crc64nvme.clone();
            part.set_checksum_algorithm(checksum.algorithm().filter(|_| !known))
                .set_checksum_crc64_nvme(known.then_some(sum))
                .set_content_md5(checksum.md5_of(&summed.bytes))
                .body(ByteStream::from(summed.bytes.clone()))
        }
        // Its checksum is known before its bytes are here.
        Body::Stream(stream) => {
            let sums = StreamSums::of(stream, checksum).await.map_err(|error| {
                let (kind, op) = (StoreErrorKind::Rejected, StoreOp::UploadPart);
                StoreError::new(kind, op, key.clone(), error.to_string())
            })?;
            part.set_content_length(i64::try_from(stream.len_bytes()).ok())
                .set_checksum_crc64_nvme(sums.crc64nvme)
                .set_checksum_crc32_c(sums.crc32c)
                .set_content_md5(sums.md5)
                .body(byte_stream(stream.clone()))
        }
    };
    let part = part.customize().config_override(with_this_alone(checksum));
    let part = match store.transport.signing(checksum) {
        PayloadSigning::Signed => part,
        PayloadSigning::Unsigned => part.disable_payload_signing(),
    };
    part.send()
        .await
        .map_err(|error| translate(StoreOp::UploadPart, key, error))
}

pub(super) async fn copy_part(
    store: &S3Store,
    request: UploadPartCopyRequest,
) -> Result<CompletedPart, StoreError> {
    let key = request.target;
    let range = format!(
        "bytes={}-{}",
        request.range.start,
        request.range.end.saturating_sub(1)
    );
    let answer = store
        .client()
        .upload_part_copy()
        .bucket(&store.bucket)
        .key(key.as_str())
        .upload_id(request.upload.0)
        .part_number(i32::from(request.number.get()))
        .copy_source(copy_source(&store.copied_from, request.source.as_str()))
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

pub(super) async fn complete(
    store: &S3Store,
    request: CompleteMultipartRequest,
) -> Result<PutAnswer, StoreError> {
    let key = &request.key;
    let send = |checksum| send_complete(store, &request, checksum);
    let answer = store.checksums.with_checksum(send).await?;
    Ok(PutAnswer {
        etag: etag(StoreOp::CompleteMultipart, key, answer.e_tag())?,
    })
}

async fn send_complete(
    store: &S3Store,
    request: &CompleteMultipartRequest,
    checksum: UploadChecksum,
) -> Result<CompleteMultipartUploadOutput, StoreError> {
    let key = &request.key;
    let (if_match, if_none_match) = conditions(&request.condition);
    let has_sums = checksum == UploadChecksum::Crc64Nvme;
    let parts = request.parts.iter().map(|part| {
        aws_sdk_s3::types::CompletedPart::builder()
            .part_number(i32::from(part.number.get()))
            .e_tag(part.etag.quoted())
            .set_checksum_crc64_nvme(part.crc64nvme.clone().filter(|_| has_sums))
            .build()
    });
    let parts = CompletedMultipartUpload::builder()
        .set_parts(Some(parts.collect()))
        .build();
    store
        .client()
        .complete_multipart_upload()
        .bucket(&store.bucket)
        .key(key.as_str())
        .upload_id(&request.upload.0)
        .multipart_upload(parts)
        .set_checksum_type(of_all(checksum))
        .set_if_match(if_match)
        .set_if_none_match(if_none_match)
        .send()
        .await
        .map_err(|error| translate(StoreOp::CompleteMultipart, key, error))
}

pub(super) async fn abort(store: &S3Store, key: Key, upload: UploadId) -> Result<(), StoreError> {
    let answer = store
        .client()
        .abort_multipart_upload()
        .bucket(&store.bucket)
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

pub(super) async fn list_parts(
    store: &S3Store,
    request: ListPartsRequest,
) -> Result<ListPartsAnswer, StoreError> {
    let key = request.key;
    let after = request.after.map(|number| number.get().to_string());
    let answer = store
        .client()
        .list_parts()
        .bucket(&store.bucket)
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

/// A checksum of all parts together is of the whole object.
fn of_all(checksum: UploadChecksum) -> Option<ChecksumType> {
    checksum.algorithm().map(|_| ChecksumType::FullObject)
}

/// The id of an upload that was begun, where the answer is called as rclone calls it.
fn id_of_rclone(answer: &HttpResponse) -> Option<String> {
    let body = answer.body().bytes()?;
    if !answer.status().is_success() || root_of_whole(body) != Some(BEGUN_BY_RCLONE) {
        return None;
    }
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once("<UploadId>")?;
    Some(rest.split_once("</UploadId>")?.0.to_owned())
}
