//! Object stores: one trait, one production implementation, decorators around it.
//!
//! Owns: keys, ETags, the requests that mediafs sends and what their answers mean.
//! Must not know: files, inodes, paths, FUSE. Only `s3` knows the AWS SDK.
//! Production stack: `DeleteQueue(Conditional(Retry(Metered(S3))))`; tests put `Faulty` innermost.
//! Locks: none is held across a request.

mod abilities;
mod access_keys;
mod age;
mod body;
mod change;
mod checksums;
mod clock;
mod conditional;
mod delete_queue;
mod endpoint;
mod error;
mod etag;
mod failure_log;
#[cfg(test)]
pub mod faulty;
mod health;
mod hedge;
mod key;
mod late_changes;
mod late_until;
#[cfg(test)]
pub mod memory;
mod metered;
mod pace;
pub mod permissions;
mod progress;
mod proxy_url;
mod request;
mod retry;
pub mod s3;
mod skipped_requests;
mod unanswered;

pub use abilities::{
    Ability, BulkDeletes, Copies, KnownAbilities, MarkerKeys, StoreAbilities, warn_no_bulk_deletes,
    warn_no_copies,
};
pub use access_keys::{AccessKeys, GivenKeys, KeySource};
pub use body::{Body, BodySink, BodySource, BodyStream, SummedBytes, pieces};
pub use change::{Change, Leaves};
pub use checksums::{CustomerKeyed, ObjectChecksums};
pub use clock::StoreClock;
pub use conditional::Conditional;
#[cfg(test)]
pub use delete_queue::memory_log::MemoryLog;
pub use delete_queue::{
    DeletePending, DeleteQueue, Held, Kept, LateObject, LateObjects, RecoveredWork, StoreLog,
};
pub use endpoint::Endpoint;
pub use error::{StoreError, StoreErrorKind, StoreOp, if_there};
pub use etag::ETag;
pub use failure_log::FailureFacts;
pub(crate) use failure_log::log_failure;
pub use health::{Outage, OutageCause, StoreFailure, StoreHealth};
pub use key::{KEY_LIMIT_BYTES, Key};
pub use late_changes::LateChanges;
pub use late_until::LATE_LIMIT;
pub use metered::{Metered, RequestCounters};
pub use progress::ListProgress;
pub use proxy_url::ProxyUrl;
pub use request::*;
pub use retry::Retry;
pub use skipped_requests::{Affected, SKIPPED_FOR, SkippedRequests};
pub use unanswered::{ChangeLog, LeftByPredecessor, LeftUnanswered, Unanswered};

use async_trait::async_trait;

/// A bucket.
///
/// Every method sends one logical request and is safe to send again: a
/// conditional one reports `PreconditionFailed` when its condition no longer holds.
#[async_trait]
pub trait ObjectStore: Send + Sync + std::fmt::Debug {
    /// Attributes of one object.
    ///
    /// Errors: `NotFound`. Source: S3 API `HeadObject`.
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError>;

    /// What is known of the bytes of one object without reading them.
    ///
    /// Errors: `NotFound`. Source: `HeadObject` with `x-amz-checksum-mode`.
    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        self.head(HeadRequest { key }).await.map(Into::into)
    }

    /// Bytes of one object, whole or a range.
    ///
    /// The body is exactly the part of the range that lies in the object.
    /// Errors: `NotFound`; `PreconditionFailed` when `if_match` no longer holds;
    /// `InvalidRange` when the range starts at or after the end. Source: `GetObject`.
    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError>;

    /// Tags of one object, as in the query of a URL; none where it has none.
    ///
    /// Source: `GetObjectTagging`.
    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError>;

    /// Stores one object from memory, replacing what is there.
    ///
    /// Errors: `PreconditionFailed`, `TooLarge`. Source: `PutObject`.
    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError>;

    /// Copies inside the bucket, at most 5 GiB.
    ///
    /// Errors: `NotFound`, `PreconditionFailed` when source or target is another
    /// version. A 200 answer that carries an error body is that error.
    /// Source: `CopyObject`.
    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError>;

    /// Deletes one object; succeeds when there is none.
    ///
    /// Errors: `PreconditionFailed` when it is another version. Source: `DeleteObject`.
    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError>;

    /// Deletes up to `DELETE_MANY_LIMIT` objects; returns those that failed, each
    /// with an error as of `delete`.
    ///
    /// Source: `DeleteObjects`.
    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError>;

    /// One page of keys in ascending UTF-8 byte order. Source: `ListObjectsV2`.
    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError>;

    /// Begins a multipart upload. Source: `CreateMultipartUpload`.
    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError>;

    /// Uploads one part. Source: `UploadPart`.
    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError>;

    /// Makes one part out of a range of an existing object. Source: `UploadPartCopy`.
    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError>;

    /// Joins the parts into the object. A 200 answer that carries an error body
    /// is that error. Source: `CompleteMultipartUpload`.
    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError>;

    /// Drops a multipart upload and its parts; succeeds when there is none.
    ///
    /// Source: `AbortMultipartUpload`.
    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError>;

    /// One page of the parts that the store has of a multipart upload.
    ///
    /// Errors: `NoSuchUpload`. Source: `ListParts`.
    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError>;

    /// An attempt got no answer: its connection may be dead, and others that are as
    /// old. None of them is used for the next request.
    fn renew_connections(&self) {}
}
