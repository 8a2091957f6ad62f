//! A request of the kernel: as the log names it, and what it locks.

use fuser::{Errno, INodeNo};
use tracing::Span;
use tracing::field::Empty;

use super::errno::errno;
use super::in_flight::Locked;
use crate::error::FsError;
use crate::ops::ChangedByWriter;
use crate::store::log_failure;
use crate::telemetry::SPANS;
use crate::vocabulary::Ino;

/// Of a span, as OpenTelemetry has it.
const STATUS: &str = "otel.status_code";
const FAILED: &str = "ERROR";

macro_rules! operations {
    ($($variant:ident = $name:literal,)*) => {
        /// What the kernel asks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Operation {
            $($variant),*
        }

        impl Operation {
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }
    };
}

operations! {
    Lookup = "lookup",
    Forget = "forget",
    Getattr = "getattr",
    Setattr = "setattr",
    Readlink = "readlink",
    Mknod = "mknod",
    Mkdir = "mkdir",
    Symlink = "symlink",
    Unlink = "unlink",
    Rmdir = "rmdir",
    Rename = "rename",
    Open = "open",
    Create = "create",
    Read = "read",
    Write = "write",
    Flush = "flush",
    Fsync = "fsync",
    Release = "release",
    Opendir = "opendir",
    Readdir = "readdir",
    Readdirplus = "readdirplus",
    Releasedir = "releasedir",
    Fsyncdir = "fsyncdir",
    Statfs = "statfs",
    Setxattr = "setxattr",
    Getxattr = "getxattr",
    Listxattr = "listxattr",
    Removexattr = "removexattr",
    CopyFileRange = "copy_file_range",
    Fallocate = "fallocate",
    Ioctl = "ioctl",
    Link = "link",
    Lseek = "lseek",
    Poll = "poll",
    Access = "access",
    Getlk = "getlk",
    Setlk = "setlk",
    Bmap = "bmap",
}

/// Whether a call changes something, and how it names that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing is changed, or through a handle that is open for that.
    None,
    ChangesByPath,
}

#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub operation: Operation,
    /// Of the file, or of the directory with the name.
    pub ino: u64,
    pub locked: Locked,
    pub effect: Effect,
}

impl Call {
    /// One that locks nothing.
    pub fn on(operation: Operation, ino: INodeNo) -> Self {
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

    /// One that changes a file, perhaps through a handle.
    pub fn changing_unless(self, by_handle: bool, ino: Ino) -> Self {
        match by_handle {
            true => self.locking(Locked::One(ino)),
            false => self.changing(Locked::One(ino)),
        }
    }

    /// What a writer may change by a path before it closes its own file.
    pub fn changed_by_writer(self) -> ChangedByWriter {
        match self.operation {
            Operation::Open | Operation::Create => ChangedByWriter::Opened,
            _ => ChangedByWriter::Named(Ino(self.ino)),
        }
    }

    /// Names the call in the lines of the requests that it sends, and where it is exported.
    pub fn span(self) -> Span {
        let (operation, ino) = (self.operation.name(), self.ino);
        tracing::debug_span!(
            target: SPANS,
            "call",
            otel.name = operation,
            otel.kind = "server",
            otel.status_code = Empty,
            operation,
            ino,
            error = Empty,
            discarded = Empty,
        )
    }

    /// Errno of the request that failed, logged here and nowhere else. Its span is entered.
    pub fn errno_logged(self, error: &FsError) -> Errno {
        let (operation, ino) = (self.operation.name(), self.ino);
        let span = Span::current();
        if !span.is_disabled() {
            span.record("error", error.to_string());
        }
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
                span.record(STATUS, FAILED);
                log_failure!(error, error, [operation, ino,], "failed");
            }
            FsError::TooLarge(cause) | FsError::Stale(cause) if cause.is_some() => {
                span.record(STATUS, FAILED);
                log_failure!(error, error, [operation, ino,], "failed");
            }
            _ => tracing::debug!(operation, ino, %error, "refused"),
        }
        errno(error)
    }
}
