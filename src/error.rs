//! What went wrong, in the file system's own terms.
//!
//! `FsError` says what a failure *means*. Which errno an application sees is
//! decided in `fuse::errno` alone.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::store::{FailureFacts, StoreError, StoreErrorKind, StoreOp};
use crate::task::Panicked;

/// Outcome of a file system operation that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FsError {
    #[error("no such file or directory{0}")]
    NotFound(Cause),
    #[error("already exists{0}")]
    Exists(Cause),
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    #[error("directory is not empty")]
    NotEmpty,
    /// The object changed or went under a reader or an editor.
    #[error("the object was changed by another client{0}")]
    Stale(Cause),
    #[error("access denied{0}")]
    AccessDenied(Cause),
    /// The object is in an archive class and cannot be read before it is restored.
    #[error("object is archived: restore it first (S3 RestoreObject), then read again{0}")]
    Archived(Cause),
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
    #[error("file too large for one object{0}")]
    TooLarge(Cause),
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
    #[error("bytes do not match their checksum{0}")]
    Corrupt(Cause),
    /// The spool had no room for them.
    #[error("parts of the file were only in an unfinished upload, which is gone")]
    PartsLost,
    /// The application that called is being killed.
    #[error("the caller was killed")]
    Interrupted,
    #[error("no answer from S3 in time{0}")]
    TimedOut(Cause),
    /// An operator, or a delete, can mend it.
    #[error("a quota in S3 is used up: {0}")]
    StoreQuota(#[source] StoreError),
    #[error("no space left in S3: {0}")]
    StoreFull(#[source] StoreError),
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

/// The answer of the store behind a failure, for the log; none where mediafs found it itself.
#[derive(Debug, Clone, Default)]
pub struct Cause(Option<Arc<StoreError>>);

impl Cause {
    const NONE: Self = Self(None);

    fn store_error(&self) -> Option<&StoreError> {
        self.0.as_deref()
    }

    /// Whether the store said it.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Self(Some(Arc::new(error)))
    }
}

impl fmt::Display for Cause {
    /// As the end of a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
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

/// Whether a path was not opened since a part of it is a symlink.
pub fn is_symlink_on_the_way(error: &io::Error) -> bool {
    // The standard library has no kind for it.
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Failures that mediafs found itself.
impl FsError {
    pub const NOT_FOUND: Self = Self::NotFound(Cause::NONE);
    pub const EXISTS: Self = Self::Exists(Cause::NONE);
    pub const STALE: Self = Self::Stale(Cause::NONE);
    pub const TOO_LARGE: Self = Self::TooLarge(Cause::NONE);
    pub const CORRUPT: Self = Self::Corrupt(Cause::NONE);
    pub const TIMED_OUT: Self = Self::TimedOut(Cause::NONE);
    #[cfg(test)]
    pub const ACCESS_DENIED: Self = Self::AccessDenied(Cause::NONE);
}

impl FsError {
    /// What the store said means that the object is not what it was.
    pub fn into_stale(self) -> Self {
        Self::Stale(self.into_cause())
    }

    /// What the store said means that the name is taken.
    pub fn into_exists(self) -> Self {
        Self::Exists(self.into_cause())
    }

    fn into_cause(self) -> Cause {
        match self {
            Self::NotFound(cause) | Self::Exists(cause) | Self::Stale(cause) => cause,
            Self::Store(error) => error.into(),
            _ => Cause::NONE,
        }
    }

    /// Whether the same may succeed a moment later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Store(error) => error.kind.is_transient(),
            _ => false,
        }
    }

    /// What a line of the log has beside the error's text.
    pub fn facts(&self) -> FailureFacts<'_> {
        let advice = match self {
            Self::Spool(_) | Self::SpoolReadOnly => Some("look after the disk of the spool"),
            Self::PartsLost => Some("write the file again; see 'mediafs spool list'"),
            Self::Panicked(_) => Some("a mistake of mediafs: report it with this log"),
            _ => None,
        };
        let facts = self
            .store_error()
            .map(StoreError::facts)
            .unwrap_or_default();
        FailureFacts {
            advice: advice.or(facts.advice),
            ..facts
        }
    }

    fn store_error(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) | Self::StoreQuota(error) | Self::StoreFull(error) => Some(error),
            Self::NotFound(cause)
            | Self::Exists(cause)
            | Self::Stale(cause)
            | Self::AccessDenied(cause)
            | Self::Archived(cause)
            | Self::TooLarge(cause)
            | Self::Corrupt(cause)
            | Self::TimedOut(cause) => cause.store_error(),
            _ => None,
        }
    }

    /// Whether what failed may be done all the same, now or later.
    pub fn may_be_applied(&self) -> bool {
        let is_said = self.store_error().is_some_and(|error| error.maybe_applied);
        is_said || self.is_no_answer() || matches!(self, Self::Panicked(_))
    }

    /// Whether S3 did not serve, and so said nothing of what it was asked.
    pub fn is_no_answer(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Store(error) => error.kind.is_no_answer(),
            _ => false,
        }
    }
}

impl From<StoreError> for FsError {
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::NotFound => Self::NotFound(error.into()),
            StoreErrorKind::PreconditionFailed => Self::Stale(error.into()),
            StoreErrorKind::AccessDenied => Self::AccessDenied(error.into()),
            StoreErrorKind::Archived => Self::Archived(error.into()),
            StoreErrorKind::TooLarge => Self::TooLarge(error.into()),
            StoreErrorKind::Quota => Self::StoreQuota(error),
            StoreErrorKind::Full => Self::StoreFull(error),
            StoreErrorKind::Corrupt => Self::Corrupt(error.into()),
            // A question without an answer: no bytes were at stake.
            StoreErrorKind::TimedOut | StoreErrorKind::Unreachable
                if matches!(error.op, StoreOp::Head | StoreOp::List) =>
            {
                Self::TimedOut(error.into())
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
            | StoreErrorKind::Malformed
            | StoreErrorKind::TimedOut
            | StoreErrorKind::Unreachable
            | StoreErrorKind::Untrusted
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
            io::ErrorKind::FileTooLarge => Self::TOO_LARGE,
            _ if OutOfDescriptors::is_behind(&error) => Self::TooManyOpenFiles,
            _ => Self::Spool(Arc::new(error)),
        }
    }
}
