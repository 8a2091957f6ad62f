//! Requests on whole objects.

use std::ops::Range;
use std::time::SystemTime;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, MetadataDirective};
use aws_smithy_runtime_api::http::Headers;
use bytes::{Bytes, BytesMut};

use super::S3Store;
use super::answer::{AnswerDate, ErrorIn200};
use super::checksum::{PayloadSigning, UploadChecksum, with_this_alone};
use super::encoding::{
    copy_source, headers_of, tagging, whole_seconds, with_headers, with_placement,
};
use super::error::{kind_of_broken_body, of_error_in_200, translate};
use super::list;
use super::malformed::described;
use crate::store::{
    BodySink, CopyRequest, ETag, FoldDirectories, GetAnswer, GetRequest, HeadRequest, Key,
    ListRequest, ObjectMeta, PutAnswer, PutRequest, StoreError, StoreErrorKind, StoreOp,
    WriteCondition,
};

/// Most bytes taken of one answer whose length was not asked for.
const WHOLE_BODY_LIMIT_BYTES: u64 = 64 << 20;
/// Most bytes that are read of what is no object, to tell what it is.
const NO_OBJECT_LIMIT_BYTES: u64 = 64 << 10;

pub(super) async fn head(store: &S3Store, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
    let key = request.key;
    let sent_with = store.renewal.generation();
    let date = AnswerDate::default();
    let answer = store
        .client()
        .head_object()
        .bucket(&store.bucket)
        .key(key.as_str())
        .customize()
        .interceptor(date.clone())
        .send()
        .await;
    let answer = match answer.map_err(|error| translate(StoreOp::Head, &key, error)) {
        Ok(answer) => answer,
        Err(error) => return Err(explain_refusal(store, error, sent_with).await),
    };
    Ok(ObjectMeta {
        etag: etag(StoreOp::Head, &key, answer.e_tag())?,
        size_bytes: length(answer.content_length())
            .ok_or_else(|| missing(StoreOp::Head, &key, "a Content-Length"))?,
        last_modified: answer
            .last_modified()
            .map(|time| whole_seconds(Some(time)))
            .ok_or_else(|| missing(StoreOp::Head, &key, "a Last-Modified"))?,
        answered_at: date.get().unwrap_or_else(SystemTime::now),
        tag_count: count(answer.tag_count()),
        headers: headers_of!(answer),
    })
}

/// The refusal of a HEAD has no body to say why: a listing of the key has.
async fn explain_refusal(store: &S3Store, refused: StoreError, sent_with: u64) -> StoreError {
    if !matches!(
        refused.kind,
        StoreErrorKind::AccessDenied | StoreErrorKind::Rejected
    ) {
        return refused;
    }
    let question = ListRequest {
        prefix: refused.key.as_str().to_owned(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 1,
    };
    match list::list(store, question).await {
        Err(error)
            if matches!(
                error.kind,
                StoreErrorKind::Credentials | StoreErrorKind::ClockSkew
            ) =>
        {
            StoreError {
                op: refused.op,
                ..error
            }
        }
        // Replaced meanwhile: what is granted now says nothing of those before.
        _ if store.renewal.generation() > sent_with => StoreError {
            kind: StoreErrorKind::Credentials,
            ..refused
        },
        _ => refused,
    }
}

pub(super) async fn get(store: &S3Store, request: GetRequest) -> Result<GetAnswer, StoreError> {
    let key = request.key;
    if request.range.as_ref().is_some_and(Range::is_empty) {
        let (kind, op) = (StoreErrorKind::InvalidRange, StoreOp::Get);
        return Err(StoreError::new(kind, op, key, "an empty range"));
    }
    let range = request
        .range
        .as_ref()
        .map(|range| format!("bytes={}-{}", range.start, range.end - 1));
    let (key, if_match) = (&key, request.if_match.as_ref());
    let range = &range;
    let send = |checksum_mode: Option<ChecksumMode>| async move {
        // Some stores answer a part with the checksum of the whole.
        let checksum_mode = checksum_mode.filter(|_| range.is_none());
        let sent = store
            .client()
            .get_object()
            .bucket(&store.bucket)
            .key(key.as_str())
            .set_range(range.clone())
            // The body is compared where the answer carries a checksum of it.
            .set_checksum_mode(checksum_mode)
            .set_if_match(if_match.map(ETag::quoted))
            .send();
        sent.await
            .map_err(|error| translate(StoreOp::Get, key, error))
    };
    let answer = store.checksums.with_checksum_of_read(send).await?;
    if answer.e_tag().and_then(ETag::parse).is_none() {
        return Err(no_object(key, answer).await);
    }
    let told = length_told(&answer);
    if told.is_none() && range.is_some() {
        let what = "a Content-Range or Content-Length";
        return Err(missing(StoreOp::Get, key, what));
    }
    let meta = ObjectMeta {
        etag: etag(StoreOp::Get, key, answer.e_tag())?,
        size_bytes: told.unwrap_or(0),
        last_modified: whole_seconds(answer.last_modified()),
        answered_at: store.clock().now().unwrap_or_else(SystemTime::now),
        tag_count: count(answer.tag_count()),
        headers: headers_of!(answer),
    };
    let limit = request
        .range
        .as_ref()
        .map_or(WHOLE_BODY_LIMIT_BYTES, |range| range.end - range.start);
    let is_wanted_version = request.if_match.as_ref() == Some(&meta.etag);
    let sink = request
        .sink
        .filter(|_| is_wanted_version && is_of_range(&request.range, &answer));
    let expected = length(answer.content_length()).unwrap_or(0).min(limit);
    let body = match sink {
        Some(sink) => {
            hand_over(key, answer.body, limit, &*sink).await?;
            Bytes::new()
        }
        None => collect(key, answer.body, limit, expected).await?,
    };
    let size_bytes = told.unwrap_or(body.len() as u64);
    let meta = ObjectMeta { size_bytes, ..meta };
    Ok(GetAnswer { meta, body })
}

/// How long an object is, by its answer. A body in chunks tells that by its end alone, and
/// of a part the range does.
fn length_told(answer: &GetObjectOutput) -> Option<u64> {
    let total = answer.content_range();
    let total = total.and_then(|range| range.rsplit('/').next()?.parse().ok());
    total.or_else(|| length(answer.content_length()))
}

/// Why an answer of status 200 names no version: it may be an error, or a page.
async fn no_object(key: &Key, answer: GetObjectOutput) -> StoreError {
    let lacks = missing(StoreOp::Get, key, "a usable ETag");
    let limit = NO_OBJECT_LIMIT_BYTES;
    let Ok(body) = collect(key, answer.body, limit, 0).await else {
        return lacks;
    };
    if let Some(error) = ErrorIn200::parse(&body) {
        return of_error_in_200(StoreOp::Get, key, &error);
    }
    match described(&Headers::new(), &body).filter(|what| what.contains("HTML")) {
        Some(what) => StoreError {
            detail: format!("the answer is {what}"),
            ..lacks
        },
        None => lacks,
    }
}

pub(super) async fn put(store: &S3Store, request: PutRequest) -> Result<PutAnswer, StoreError> {
    let answer = store
        .checksums
        .with_checksum(|checksum| send_put(store, request.clone(), checksum))
        .await?;
    Ok(PutAnswer {
        etag: etag(StoreOp::Put, &request.key, answer.e_tag())?,
    })
}

async fn send_put(
    store: &S3Store,
    request: PutRequest,
    checksum: UploadChecksum,
) -> Result<PutObjectOutput, StoreError> {
    let key = request.key;
    let (if_match, if_none_match) = conditions(&request.condition);
    let put = store
        .client()
        .put_object()
        .bucket(&store.bucket)
        .key(key.as_str());
    let put = with_placement!(put, request.headers.placement.clone());
    let put = put.set_tagging(request.headers.tags.clone());
    let put = with_headers!(put, request.headers)
        .set_checksum_algorithm(checksum.algorithm())
        .set_content_md5(checksum.md5_of(&request.body))
        .set_if_match(if_match)
        .set_if_none_match(if_none_match)
        .body(ByteStream::from(request.body))
        .customize()
        .config_override(with_this_alone(checksum));
    let put = match store.transport.signing(checksum) {
        PayloadSigning::Signed => put,
        PayloadSigning::Unsigned => put.disable_payload_signing(),
    };
    put.send()
        .await
        .map_err(|error| translate(StoreOp::Put, &key, error))
}

pub(super) async fn copy(store: &S3Store, request: CopyRequest) -> Result<PutAnswer, StoreError> {
    let key = request.target;
    let (if_match, if_none_match) = conditions(&request.condition);
    let mut copy = store
        .client()
        .copy_object()
        .bucket(&store.bucket)
        .key(key.as_str())
        .copy_source(copy_source(&store.copied_from, request.source.as_str()))
        .set_copy_source_if_match(request.source_if_match.as_ref().map(ETag::quoted))
        .set_if_match(if_match)
        .set_if_none_match(if_none_match);
    copy = with_placement!(copy, request.placement);
    if let Some(headers) = request.replace_headers {
        copy = with_headers!(copy, headers).metadata_directive(MetadataDirective::Replace);
    }
    let answer = copy
        .send()
        .await
        .map_err(|error| translate(StoreOp::Copy, &key, error))?;
    let made = answer
        .copy_object_result()
        .and_then(|result| result.e_tag());
    Ok(PutAnswer {
        etag: etag(StoreOp::Copy, &key, made)?,
    })
}

pub(super) async fn tags(store: &S3Store, key: Key) -> Result<Option<String>, StoreError> {
    let asked = store
        .client()
        .get_object_tagging()
        .bucket(&store.bucket)
        .key(key.as_str())
        .send();
    let answer = asked.await;
    let answer = answer.map_err(|error| translate(StoreOp::Tags, &key, error))?;
    let tags = answer.tag_set().iter().map(|tag| (tag.key(), tag.value()));
    Ok(tagging(tags))
}

/// `If-Match` and `If-None-Match` of a write.
pub(super) fn conditions(condition: &WriteCondition) -> (Option<String>, Option<String>) {
    match condition {
        WriteCondition::Always => (None, None),
        WriteCondition::IfAbsent => (None, Some("*".to_owned())),
        WriteCondition::IfMatch(etag) => (Some(etag.quoted()), None),
    }
}

/// Errors: `Malformed` when the answer names no version.
pub(super) fn etag(op: StoreOp, key: &Key, header: Option<&str>) -> Result<ETag, StoreError> {
    let etag = header.and_then(ETag::parse);
    etag.ok_or_else(|| missing(op, key, "a usable ETag"))
}

/// An answer that lacks what it is asked for; another one may have it.
fn missing(op: StoreOp, key: &Key, what: &str) -> StoreError {
    let detail = format!("answer without {what}");
    StoreError::new(StoreErrorKind::Malformed, op, key.clone(), detail)
}

fn count(header: Option<i32>) -> u32 {
    header.and_then(|count| count.try_into().ok()).unwrap_or(0)
}

fn length(header: Option<i64>) -> Option<u64> {
    header.and_then(|length| u64::try_from(length).ok())
}

/// Whether the answer says that its body is exactly this range.
fn is_of_range(range: &Option<Range<u64>>, answer: &GetObjectOutput) -> bool {
    let Some(range) = range else {
        return false;
    };
    let begin = format!("bytes {}-{}/", range.start, range.end - 1);
    let told = answer.content_range();
    told.is_some_and(|told| told.starts_with(&begin))
        && length(answer.content_length()) == Some(range.end - range.start)
}

/// Reads a body to its end, whose length in bytes is expected to be so, but never more
/// than was asked for, whatever the server sends.
async fn collect(
    key: &Key,
    body: ByteStream,
    limit: u64,
    expected: u64,
) -> Result<Bytes, StoreError> {
    let mut bytes = BytesMut::with_capacity(expected as usize);
    read_body(key, body, limit, |chunk| bytes.extend_from_slice(chunk)).await?;
    Ok(bytes.freeze())
}

/// The same, each piece of it to a sink.
async fn hand_over(
    key: &Key,
    body: ByteStream,
    limit: u64,
    sink: &dyn BodySink,
) -> Result<(), StoreError> {
    sink.begin();
    let read = read_body(key, body, limit, |chunk| sink.take(chunk)).await?;
    if read == limit {
        return Ok(());
    }
    let detail = format!("the server sent {read} of the {limit} bytes asked for");
    let kind = StoreErrorKind::Corrupt;
    Err(StoreError::new(kind, StoreOp::Get, key.clone(), detail))
}

/// Returns how many bytes there were.
async fn read_body(
    key: &Key,
    mut body: ByteStream,
    limit: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<u64, StoreError> {
    let broken = |kind, detail: String| StoreError::new(kind, StoreOp::Get, key.clone(), detail);
    let mut read = 0;
    loop {
        match body.next().await {
            None => return Ok(read),
            Some(Ok(chunk)) if read + chunk.len() as u64 <= limit => {
                take(&chunk);
                read += chunk.len() as u64;
            }
            Some(Ok(_)) => {
                let detail = format!("the server sent more than the {limit} bytes asked for");
                return Err(broken(StoreErrorKind::Corrupt, detail));
            }
            Some(Err(error)) => {
                let text = format!("body broke off after {read} bytes: {error}");
                return Err(broken(kind_of_broken_body(&error), text));
            }
        }
    }
}
