//! A request of the kernel: as the log names it, and what it locks.

use fuser::{Errno, INodeNo};

use super::errno::errno;
use super::in_flight::Locked;
use crate::error::FsError;

/// Whether a call changes something, and how it names that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is changed, or through a handle that is open for that.
    None,
    ChangesByPath,
}

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub operation: &'static str,
    /// Of the file, or of the directory with the name.
    pub ino: u64,
    pub locked: Locked,
    pub effect: Effect,
}

impl Call {
    /// One that locks nothing.
    pub fn on(operation: &'static str, ino: INodeNo) -> Self {
        Self {
            operation,
            ino: ino.0,
            locked: Locked::Nothing,
            effect: Effect::None,
        }
    }

    pub fn locking(self, locked: Locked) -> Self {
        Self { locked, ..self }
    }

    /// One that changes what its path names, and locks it.
    pub fn changing(self, locked: Locked) -> Self {
        Self {
            effect: Effect::ChangesByPath,
            ..self.locking(locked)
        }
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
            | FsError::TimedOut(_) => {
                tracing::error!(operation, ino, %error, "failed");
            }
            FsError::TooLarge(cause) if cause.is_some() => {
                tracing::error!(operation, ino, %error, "failed");
            }
            _ => tracing::debug!(operation, ino, %error, "refused"),
        }
        errno(error)
    }
}
