//! A request of the kernel: as the log names it, and what it locks.

use fuser::{Errno, INodeNo};

use super::errno::errno;
use super::in_flight::Locked;
use crate::error::FsError;
use crate::store::log_failure;

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub operation: &'static str,
    /// Of the file, or of the directory with the name.
    pub ino: u64,
    pub locked: Locked,
}

impl Call {
    /// One that locks nothing.
    pub fn on(operation: &'static str, ino: INodeNo) -> Self {
        Self {
            operation,
            ino: ino.0,
            locked: Locked::Nothing,
        }
    }

    pub fn locking(self, locked: Locked) -> Self {
        Self { locked, ..self }
    }

    /// Errno of the request that failed, logged here and nowhere else.
    pub fn errno_logged(self, error: &FsError) -> Errno {
        let Self { operation, ino, .. } = self;
        match error {
            FsError::Store(_)
            | FsError::Spool(_)
            | FsError::SpoolReadOnly
            | FsError::Corrupt(_)
            | FsError::PartsLost
            | FsError::AccessDenied(_)
            | FsError::Archived(_)
            | FsError::Panicked(_)
            | FsError::StoreQuota(_)
            | FsError::StoreFull(_)
            | FsError::TimedOut(_) => {
                log_failure!(error, error, [operation, ino,], "failed");
            }
            FsError::TooLarge(cause) | FsError::Stale(cause) if cause.is_some() => {
                log_failure!(error, error, [operation, ino,], "failed");
            }
            _ => tracing::debug!(operation, ino, %error, "refused"),
        }
        errno(error)
    }
}
