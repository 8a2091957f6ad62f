//! From what failed to the errno that an application sees: the only place that knows.

use fuser::Errno;

use crate::error::FsError;

/// Errno of a failed operation. Sources: the man pages of the system calls.
pub fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound(_) => Errno::ENOENT,
        FsError::Exists(_) => Errno::EEXIST,
        FsError::NotADirectory => Errno::ENOTDIR,
        FsError::IsADirectory => Errno::EISDIR,
        FsError::NotEmpty => Errno::ENOTEMPTY,
        FsError::Stale(_) => Errno::ESTALE,
        FsError::AccessDenied(_) | FsError::Archived(_) => Errno::EACCES,
        FsError::NotPermitted => Errno::EPERM,
        FsError::ReadOnly | FsError::SpoolReadOnly => Errno::EROFS,
        FsError::NoSpace | FsError::Offloaded | FsError::StoreFull(_) => Errno::ENOSPC,
        FsError::StoreQuota(_) => Errno::EDQUOT,
        // Not the application's own limit, which is what EMFILE says.
        FsError::TooManyOpenFiles => Errno::ENFILE,
        FsError::NameTooLong => Errno::ENAMETOOLONG,
        FsError::IllegalName => Errno::EILSEQ,
        FsError::TooLarge(_) => Errno::EFBIG,
        FsError::InvalidArgument => Errno::EINVAL,
        FsError::CrossDevice => Errno::EXDEV,
        FsError::Unsupported => Errno::EOPNOTSUPP,
        FsError::NotImplemented => Errno::ENOSYS,
        FsError::NotATty => Errno::ENOTTY,
        FsError::BadHandle => Errno::EBADF,
        FsError::NoAttribute => Errno::NO_XATTR,
        FsError::AttributeTooBig => Errno::ERANGE,
        FsError::Interrupted => Errno::EINTR,
        FsError::TimedOut(_) => Errno::ETIMEDOUT,
        FsError::Corrupt(_)
        | FsError::PartsLost
        | FsError::Store(_)
        | FsError::Spool(_)
        | FsError::Panicked(_) => Errno::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

    fn seen(kind: StoreErrorKind, op: StoreOp) -> i32 {
        errno(&FsError::from(StoreError::new(
            kind,
            op,
            Key::new("k"),
            "why",
        )))
        .into()
    }

    #[test]
    fn failures_of_the_store_become_the_errno_of_the_design() {
        use StoreErrorKind as K;
        let table = [
            (K::NotFound, StoreOp::Head, libc::ENOENT),
            (K::PreconditionFailed, StoreOp::Get, libc::ESTALE),
            (K::AccessDenied, StoreOp::Put, libc::EACCES),
            (K::Archived, StoreOp::Get, libc::EACCES),
            (K::TooLarge, StoreOp::Put, libc::EFBIG),
            (K::Quota, StoreOp::Put, libc::EDQUOT),
            (K::Full, StoreOp::UploadPart, libc::ENOSPC),
            (K::Rejected, StoreOp::Put, libc::EIO),
            (K::Corrupt, StoreOp::Get, libc::EIO),
            (K::TimedOut, StoreOp::List, libc::ETIMEDOUT),
            (K::Unreachable, StoreOp::Head, libc::ETIMEDOUT),
            (K::TimedOut, StoreOp::Put, libc::EIO),
            (K::Unreachable, StoreOp::Get, libc::EIO),
            (K::Throttled, StoreOp::Put, libc::EIO),
            (K::Server, StoreOp::UploadPart, libc::EIO),
            (K::Credentials, StoreOp::List, libc::EIO),
            (K::NoSuchBucket, StoreOp::Put, libc::EIO),
        ];
        for (kind, op, expected) in table {
            assert_eq!(seen(kind, op), expected, "{kind:?} {op}");
        }
    }

    #[test]
    fn a_full_disk_is_enospc_a_read_only_one_erofs_no_descriptor_enfile_and_any_other_local_failure_eio()
     {
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(i32::from(errno(&full.into())), libc::ENOSPC);
        let read_only = std::io::Error::from_raw_os_error(libc::EROFS);
        assert_eq!(i32::from(errno(&read_only.into())), libc::EROFS);
        for exhausted in [libc::EMFILE, libc::ENFILE] {
            let exhausted = std::io::Error::from_raw_os_error(exhausted);
            assert_eq!(i32::from(errno(&exhausted.into())), libc::ENFILE);
        }
        let broken = std::io::Error::from_raw_os_error(libc::EBADF);
        assert_eq!(i32::from(errno(&broken.into())), libc::EIO);
    }
}
