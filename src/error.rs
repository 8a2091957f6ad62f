//! What went wrong, in the file system's own terms.
//!
//! `FsError` says what a failure *means*. Which errno an application sees is
//! decided in `fuse::errno` alone.

use crate::store::StoreError;

/// Outcome of a file system operation that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("no such file or directory")]
    NotFound,
    #[error("already exists")]
    Exists,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("directory is not empty")]
    NotEmpty,
    /// The object changed or went under a reader or an editor.
    #[error("the object was changed by another client")]
    Stale,
    #[error("access denied")]
    AccessDenied,
    /// The object is in an archive class and cannot be read before it is restored.
    #[error("object is archived: restore it first (S3 RestoreObject), then read again")]
    Archived,
    #[error("operation not permitted")]
    NotPermitted,
    #[error("mounted read-only")]
    ReadOnly,
    #[error("no space left in the spool")]
    NoSpace,
    /// A path component over 255 bytes, or a key over 1,024 bytes.
    #[error("name too long")]
    NameTooLong,
    /// A name that cannot be part of an S3 key (not UTF-8).
    #[error("name is not valid UTF-8")]
    IllegalName,
    #[error("file too large for one object")]
    TooLarge,
    #[error("invalid argument")]
    InvalidArgument,
    #[error("not on the same file system")]
    CrossDevice,
    #[error("operation not supported")]
    Unsupported,
    /// The kernel should not ask again, and fall back to its own way.
    #[error("operation not implemented")]
    NotImplemented,
    #[error("not a terminal")]
    NotATty,
    #[error("bad file handle")]
    BadHandle,
    #[error("no such attribute")]
    NoAttribute,
    #[error("attribute does not fit the buffer")]
    AttributeTooBig,
    #[error("bytes do not match their checksum")]
    Corrupt,
    #[error("no answer from S3 in time")]
    TimedOut,
    /// S3 failed in a way that no better variant tells.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// The local disk failed.
    #[error("spool: {0}")]
    Spool(#[source] std::io::Error),
}
