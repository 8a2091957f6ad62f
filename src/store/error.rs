//! Errors of an object store.

use std::fmt;
use std::time::Duration;

use super::Key;

const OWN_CHECK: &str = "another version is there";

/// What a request's failure means, whatever server sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    NotFound,
    NoSuchBucket,
    /// The multipart upload, or a part of it, is not there (any more).
    NoSuchUpload,
    /// If-Match or If-None-Match did not hold.
    PreconditionFailed,
    /// Another conditional write of the key was under way (409): neither was decided.
    Conflict,
    /// The range starts at or after the end of the object.
    InvalidRange,
    AccessDenied,
    /// No credentials were found, or they have expired or are wrong.
    Credentials,
    /// The clock of this machine differs too much from the server's.
    ClockSkew,
    /// The bucket is in another region or behind another endpoint.
    WrongRegion,
    /// The object is in an archive class and must be restored first.
    Archived,
    TooLarge,
    /// A quota of the account or the bucket is used up.
    Quota,
    /// The store has no space left.
    Full,
    /// The bytes do not match their checksum.
    Corrupt,
    /// The server does not know this request (501).
    Unsupported,
    /// The server asks to slow down (503 SlowDown, 429).
    Throttled,
    /// The server failed (5xx).
    Server,
    /// The answer is none of S3's, or lacks what it must have.
    Malformed,
    /// No answer within the deadline.
    TimedOut,
    /// No connection: name, route, port or TLS.
    Unreachable,
    /// The certificate of the server is not trusted.
    Untrusted,
    /// The server refused the request for a reason of its own (other 4xx).
    Rejected,
}

impl StoreErrorKind {
    /// Whether the same request may succeed a moment later.
    pub fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Throttled | Self::Server | Self::Malformed | Self::TimedOut | Self::Unreachable
        )
    }

    /// Whether the store did not serve, and so said nothing of what it was asked.
    pub fn is_no_answer(self) -> bool {
        self.is_transient() || matches!(self, Self::Credentials | Self::ClockSkew | Self::Untrusted)
    }

    /// Whether the store would refuse a bulk delete again whatever is in it, or may.
    ///
    /// As a whole it has no version and nothing that may be missing.
    pub fn is_refusal_of_bulk(self) -> bool {
        !self.is_no_answer() && !matches!(self, Self::NoSuchBucket | Self::WrongRegion)
    }

    /// Whether the store would refuse the same request again, and may take another
    /// that comes to the same.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Unsupported | Self::Rejected | Self::AccessDenied | Self::Corrupt
        )
    }
}

/// The request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreOp {
    Head,
    Tags,
    Get,
    Put,
    Copy,
    Delete,
    DeleteMany,
    List,
    CreateMultipart,
    UploadPart,
    UploadPartCopy,
    CompleteMultipart,
    AbortMultipart,
    ListParts,
    ListUploads,
    GetVersioning,
    GetCors,
    /// Of a bucket itself, by whatever request.
    BucketSettings,
}

impl StoreOp {
    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "HeadObject",
            Self::Tags => "GetObjectTagging",
            Self::Get => "GetObject",
            Self::Put => "PutObject",
            Self::Copy => "CopyObject",
            Self::Delete => "DeleteObject",
            Self::DeleteMany => "DeleteObjects",
            Self::List => "ListObjectsV2",
            Self::CreateMultipart => "CreateMultipartUpload",
            Self::UploadPart => "UploadPart",
            Self::UploadPartCopy => "UploadPartCopy",
            Self::CompleteMultipart => "CompleteMultipartUpload",
            Self::AbortMultipart => "AbortMultipartUpload",
            Self::ListParts => "ListParts",
            Self::ListUploads => "ListMultipartUploads",
            Self::GetVersioning => "GetBucketVersioning",
            Self::GetCors => "GetBucketCors",
            Self::BucketSettings => "settings of the bucket",
        }
    }
}

impl StoreOp {
    /// Whether it asks for an object, or for what there is, and changes nothing.
    pub fn asks(self) -> bool {
        matches!(self, Self::Head | Self::Tags | Self::Get | Self::List)
    }
}

impl fmt::Display for StoreOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failed request: its meaning, which request, on which key (a prefix for
/// listings), and the server's or client's own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} {key}: {detail}")]
pub struct StoreError {
    pub kind: StoreErrorKind,
    pub op: StoreOp,
    pub key: Key,
    /// Server's code and message, or the client's reason. Never holds a secret.
    pub detail: String,
    /// An earlier attempt may have been applied though no answer came.
    pub maybe_applied: bool,
    /// When the same request may succeed, where that is known.
    pub retry_after: Option<Duration>,
    /// The region of the bucket, where the store named it.
    pub region: Option<Box<str>>,
    /// The code of the store's answer, such as `AccessDenied`.
    pub code: Option<Box<str>>,
    /// By which the store's own log knows the request.
    pub request_id: Option<Box<str>>,
}

impl StoreError {
    pub fn new(kind: StoreErrorKind, op: StoreOp, key: Key, detail: impl Into<String>) -> Self {
        Self {
            kind,
            op,
            key,
            detail: detail.into(),
            maybe_applied: false,
            retry_after: None,
            region: None,
            code: None,
            request_id: None,
        }
    }

    /// A condition failed in a check by mediafs itself: the change was not sent.
    pub(super) fn another_version(op: StoreOp, key: &Key) -> Self {
        let kind = StoreErrorKind::PreconditionFailed;
        Self::new(kind, op, key.clone(), OWN_CHECK)
    }

    /// Whether the store has no `CopyObject`.
    pub fn lacks_copy_object(&self) -> bool {
        self.kind == StoreErrorKind::Unsupported && self.op == StoreOp::Copy
    }

    /// Whether mediafs itself checked the condition.
    pub fn is_own_check(&self) -> bool {
        self.detail == OWN_CHECK
    }
}

/// What an answer tells of, and none where nothing is there.
pub fn if_there<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
