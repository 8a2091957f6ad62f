//! What went wrong, in the file system's own terms.
//!
//! `FsError` says what a failure *means*. Which errno an application sees is
//! decided in `fuse::errno` alone.

use std::io;
use std::sync::Arc;

use crate::store::{StoreError, StoreErrorKind, StoreOp};
use crate::task::Panicked;

/// Outcome of a file system operation that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
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
    /// The spool had no room for them.
    #[error(
        "these bytes are in an unfinished upload, since the spool had no room for them: they can be read and changed once the file is closed"
    )]
    Offloaded,
    #[error("the disk of the spool is read-only")]
    SpoolReadOnly,
    #[error("{OutOfDescriptors}")]
    TooManyOpenFiles,
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
    /// The spool had no room for them.
    #[error("parts of the file are gone with the unfinished upload that alone had them")]
    PartsLost,
    /// The application that called is being killed.
    #[error("nobody waits for the answer any more")]
    Interrupted,
    /// An operator, or a delete, can mend it.
    #[error("a quota in S3 is used up: {0}")]
    StoreQuota(#[source] StoreError),
    #[error("no space left in S3: {0}")]
    StoreFull(#[source] StoreError),
    #[error("no answer from S3 in time")]
    TimedOut,
    /// S3 failed in a way that no better variant tells.
    #[error("{0}")]
    Store(#[source] StoreError),
    /// A mistake of mediafs: the step is not done, or not all of it.
    #[error(transparent)]
    Panicked(#[from] Panicked),
    /// The local disk failed.
    #[error("spool: {0}")]
    Spool(#[source] Arc<io::Error>),
}

/// As many files are open as the process may have.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many files are open for the limit of the process (RLIMIT_NOFILE)")]
pub struct OutOfDescriptors;

impl OutOfDescriptors {
    /// Whether it is why something could not be opened.
    fn is_behind(error: &io::Error) -> bool {
        // The standard library has no kind for what the system says.
        let said = [libc::EMFILE, libc::ENFILE];
        let is_said = error.raw_os_error().is_some_and(|it| said.contains(&it));
        is_said || error.get_ref().is_some_and(|it| it.is::<Self>())
    }
}

impl FsError {
    /// Whether S3 did not serve, and so said nothing of what it was asked.
    pub fn is_no_answer(&self) -> bool {
        match self {
            Self::TimedOut => true,
            Self::Store(error) => error.kind.is_no_answer(),
            _ => false,
        }
    }
}

impl From<StoreError> for FsError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NotFound => Self::NotFound,
            StoreErrorKind::PreconditionFailed => Self::Stale,
            StoreErrorKind::AccessDenied => Self::AccessDenied,
            StoreErrorKind::Archived => Self::Archived,
            StoreErrorKind::TooLarge => Self::TooLarge,
            StoreErrorKind::Quota => Self::StoreQuota(error),
            StoreErrorKind::Full => Self::StoreFull(error),
            StoreErrorKind::Corrupt => Self::Corrupt,
            // A question without an answer: no bytes were at stake.
            StoreErrorKind::TimedOut | StoreErrorKind::Unreachable
                if matches!(error.op, StoreOp::Head | StoreOp::List) =>
            {
                Self::TimedOut
            }
            StoreErrorKind::NoSuchBucket
            | StoreErrorKind::NoSuchUpload
            | StoreErrorKind::InvalidRange
            | StoreErrorKind::Conflict
            | StoreErrorKind::Credentials
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::WrongRegion
            | StoreErrorKind::Unsupported
            | StoreErrorKind::Throttled
            | StoreErrorKind::Server
            | StoreErrorKind::TimedOut
            | StoreErrorKind::Unreachable
            | StoreErrorKind::Rejected => Self::Store(error),
        }
    }
}

impl From<io::Error> for FsError {
    /// An error of the local disk.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::ReadOnlyFilesystem => Self::SpoolReadOnly,
            io::ErrorKind::FileTooLarge => Self::TooLarge,
            _ if OutOfDescriptors::is_behind(&error) => Self::TooManyOpenFiles,
            _ => Self::Spool(Arc::new(error)),
        }
    }
}
