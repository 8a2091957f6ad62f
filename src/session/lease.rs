//! Whether somebody writes a file: nobody gets a read lease on it then.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The signal that another program waits for a lease would end the process. Source:
/// fcntl(2), "Leases".
pub fn ignore_breaks() {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
}

/// Whether a program has a file open for writing, or mapped so, that is open here to read.
/// False where the kernel does not tell, as of another user's file without `CAP_LEASE`.
///
/// Who opens it for writing meanwhile waits for a moment.
pub fn is_being_written(file: BorrowedFd<'_>) -> bool {
    match set(file, libc::F_RDLCK) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(()) => {
            if let Err(error) = set(file, libc::F_UNLCK) {
                tracing::debug!(%error, "a lease goes with its descriptor");
            }
            false
        }
    }
}

fn set(file: BorrowedFd<'_>, lease: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open; the call changes no memory.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, lease) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_file_is_being_written_as_long_as_somebody_has_it_open_for_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let writer = File::create(&path).unwrap();
        let reader = File::open(&path).unwrap();
        assert!(is_being_written(reader.as_fd()));
        drop(writer);
        let _other = File::open(&path).unwrap();
        assert!(!is_being_written(reader.as_fd()));
    }
}
