//! Requests to an object store and their answers: plain data.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Body, BodySink, ETag, Key};

/// Most keys in one `delete_many`. Source: S3 API `DeleteObjects`.
pub const DELETE_MANY_LIMIT: usize = 1000;
/// Most keys and prefixes in one page of `list`. Source: S3 API `ListObjectsV2`.
pub const LIST_PAGE_LIMIT: u16 = 1000;
/// Smallest part but the last, in bytes. Source: S3 User Guide, "Multipart upload limits".
pub const PART_MIN_BYTES: u64 = 5 << 20;
/// Largest part, in bytes. Source: S3 User Guide, "Multipart upload limits".
pub const PART_LIMIT_BYTES: u64 = 5 << 30;
/// Largest object that one `copy` takes, in bytes. Source: S3 API `CopyObject`.
pub const COPY_LIMIT_BYTES: u64 = 5 << 30;
/// Most parts of one upload. Source: S3 User Guide, "Multipart upload limits".
pub const PART_COUNT_LIMIT: u16 = 10_000;

/// User metadata (`x-amz-meta-*`), names in lower case without the prefix.
pub type UserMetadata = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub struct HeadRequest {
    pub key: Key,
}

/// Attributes of one object version.
#[derive(Debug, Clone)]
pub struct ObjectMeta {
    pub etag: ETag,
    pub size_bytes: u64,
    /// Whole seconds: listings carry more digits than HEAD, so they are cut to agree.
    pub last_modified: SystemTime,
    /// When the store answered, by its own clock where it told that.
    pub answered_at: SystemTime,
    /// As far as the store tells.
    pub tag_count: u32,
    pub headers: ObjectHeaders,
}

#[derive(Debug, Clone)]
pub struct GetRequest {
    pub key: Key,
    /// Byte range; the whole object when absent.
    pub range: Option<Range<u64>>,
    pub if_match: Option<ETag>,
    /// Gets the bytes of a range as they arrive, where no checksum of them comes along
    /// that is to be compared first and the answer is of the version of `if_match`.
    pub sink: Option<Arc<dyn BodySink>>,
}

#[derive(Debug, Clone)]
pub struct GetAnswer {
    pub meta: ObjectMeta,
    /// Empty where the sink of the request has taken them.
    pub body: Bytes,
}

/// When a write may take effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WriteCondition {
    #[default]
    Always,
    /// `If-None-Match: *`
    IfAbsent,
    /// `If-Match: <etag>`
    IfMatch(ETag),
}

impl WriteCondition {
    /// Whether it holds for what is there.
    pub fn holds(&self, there: Option<&ETag>) -> bool {
        match self {
            Self::Always => true,
            Self::IfAbsent => there.is_none(),
            Self::IfMatch(wanted) => there == Some(wanted),
        }
    }

    /// The version that has to be there.
    pub fn etag(&self) -> Option<&ETag> {
        match self {
            Self::Always | Self::IfAbsent => None,
            Self::IfMatch(etag) => Some(etag),
        }
    }
}

/// What is stored with an object besides its bytes. Source: S3 API `PutObject`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectHeaders {
    pub content_type: Option<String>,
    pub cache_control: Option<String>,
    pub content_disposition: Option<String>,
    pub content_encoding: Option<String>,
    pub content_language: Option<String>,
    /// Seconds since 1970.
    pub expires: Option<i64>,
    pub website_redirect: Option<String>,
    pub placement: Placement,
    /// As in the query of a URL. Asked for by itself; a copy in one request takes
    /// them along without.
    pub tags: Option<String>,
    pub user_metadata: UserMetadata,
}

/// How an object is stored, where it is not as the bucket does by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    pub storage_class: Option<String>,
    pub encryption: Option<Encryption>,
}

/// Source: S3 User Guide, "Protecting data with server-side encryption".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    pub algorithm: String,
    pub kms_key: Option<String>,
    pub bucket_key: Option<bool>,
}

#[derive(Debug, Clone)]
pub struct PutRequest {
    pub key: Key,
    pub body: Bytes,
    pub headers: ObjectHeaders,
    pub condition: WriteCondition,
}

impl PutRequest {
    /// The object that makes a directory persist.
    pub fn marker(key: Key, headers: ObjectHeaders) -> Self {
        Self {
            key,
            body: Bytes::new(),
            headers: ObjectHeaders {
                content_type: Some("application/x-directory".to_owned()),
                ..headers
            },
            condition: WriteCondition::Always,
        }
    }
}

/// The version that a write made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutAnswer {
    pub etag: ETag,
}

/// What is stored with a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopyHeaders {
    /// The source's.
    #[default]
    Same,
    /// The source's, but for the content type.
    ContentType(String),
    /// These alone.
    Replace(Box<ObjectHeaders>),
}

#[derive(Debug, Clone)]
pub struct CopyRequest {
    pub source: Key,
    /// The copy fails when the source is no longer this version.
    pub source_if_match: Option<ETag>,
    /// Of the source.
    pub size_bytes: u64,
    pub target: Key,
    /// What is under the target's key when the copy takes its place.
    pub condition: WriteCondition,
    /// Headers of the target; those of the source when absent.
    pub replace_headers: Option<ObjectHeaders>,
    pub placement: Placement,
}

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteRequest {
    pub key: Key,
    /// The delete fails when the object is another version; any where absent.
    pub if_match: Option<ETag>,
}

impl DeleteRequest {
    /// Whatever version there is.
    pub fn any(key: Key) -> Self {
        Self {
            key,
            if_match: None,
        }
    }

    pub fn condition(&self) -> WriteCondition {
        match &self.if_match {
            Some(etag) => WriteCondition::IfMatch(etag.clone()),
            None => WriteCondition::Always,
        }
    }
}

#[derive(Debug, Clone)]
pub struct ListRequest {
    /// Every key begins with it.
    pub prefix: String,
    /// Fold what follows the next `/` into common prefixes.
    pub fold_directories: FoldDirectories,
    pub token: Option<ListToken>,
    /// At most `LIST_PAGE_LIMIT`.
    pub max_keys: u16,
}

impl ListRequest {
    /// A page as long as the store gives it; of the first one when `token` is none.
    pub fn page(
        prefix: impl Into<String>,
        fold_directories: FoldDirectories,
        token: Option<ListToken>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            fold_directories,
            token,
            max_keys: LIST_PAGE_LIMIT,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoldDirectories {
    Yes,
    No,
}

/// Where the next page starts; opaque.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListToken(pub String);

impl ListToken {
    /// A page that starts behind a key, whether or not that is there.
    pub fn after(key: &str) -> Self {
        Self(format!("a{key}"))
    }
}

#[derive(Debug, Clone)]
pub struct ListedObject {
    pub key: Key,
    pub etag: ETag,
    pub size_bytes: u64,
    /// Whole seconds, as in `ObjectMeta`.
    pub last_modified: SystemTime,
}

/// A listed object whose key or version cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableKey {
    /// As far as it is text.
    pub key: String,
    pub why: String,
}

#[derive(Debug, Clone, Default)]
pub struct ListAnswer {
    pub objects: Vec<ListedObject>,
    /// Common prefixes, each ending in `/`.
    pub prefixes: Vec<String>,
    /// What no request can name.
    pub unusable: Vec<UnusableKey>,
    /// Absent on the last page.
    pub next: Option<ListToken>,
}

#[derive(Debug, Clone)]
pub struct CreateMultipartRequest {
    pub key: Key,
    pub headers: ObjectHeaders,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UploadId(pub String);

/// 1 to `PART_COUNT_LIMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(NonZeroU16);

impl PartNumber {
    pub fn new(number: u16) -> Option<Self> {
        if number > PART_COUNT_LIMIT {
            return None;
        }
        NonZeroU16::new(number).map(Self)
    }

    pub fn get(self) -> u16 {
        self.0.get()
    }
}

#[derive(Debug, Clone)]
pub struct UploadPartRequest {
    pub key: Key,
    pub upload: UploadId,
    pub number: PartNumber,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub struct UploadPartCopyRequest {
    pub source: Key,
    pub source_if_match: ETag,
    pub range: Range<u64>,
    pub target: Key,
    pub upload: UploadId,
    pub number: PartNumber,
}

#[derive(Debug, Clone)]
pub struct ListPartsRequest {
    pub key: Key,
    pub upload: UploadId,
    /// Tell of those behind it.
    pub after: Option<PartNumber>,
}

#[derive(Debug, Clone, Default)]
pub struct ListPartsAnswer {
    /// In ascending order of number.
    pub parts: Vec<ListedPart>,
    /// Where the next page starts; absent on the last one.
    pub next: Option<PartNumber>,
}

/// A part as a listing tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    pub part: CompletedPart,
    pub size_bytes: u64,
}

/// A part that the store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    pub number: PartNumber,
    pub etag: ETag,
    /// Base64 of the part's CRC-64/NVME where the store gave one.
    pub crc64nvme: Option<String>,
}

#[derive(Debug, Clone)]
pub struct CompleteMultipartRequest {
    pub key: Key,
    pub upload: UploadId,
    /// In ascending order of number.
    pub parts: Vec<CompletedPart>,
    pub condition: WriteCondition,
}

impl CompleteMultipartRequest {
    /// The version that this makes, where the store names versions as S3 does: by
    /// the MD5 of the parts' MD5s and their number. None for a store, or an
    /// encryption, whose ETags are no MD5.
    /// Source: S3 User Guide, "Checking object integrity", on multipart ETags.
    pub fn expected_etag(&self) -> Option<ETag> {
        ETag::of_parts(self.parts.iter().map(|part| &part.etag))
    }
}
