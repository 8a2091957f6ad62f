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
/// False where the kernel does not tell: of another user's file without `CAP_LEASE`, of a
/// file on NFS or SMB.
///
/// Who opens it for writing meanwhile waits for a moment.
pub fn is_being_written(file: BorrowedFd<'_>) -> bool {
    match set(file, libc::F_RDLCK) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock && !is_of_a_server(file),
        Ok(()) => {
            if let Err(error) = set(file, libc::F_UNLCK) {
                tracing::debug!(%error, "a lease goes with its descriptor");
            }
            false
        }
    }
}

/// Of a file server: whether it grants a lease says nothing of who writes the file. Source:
/// fs/nfs/nfs4proc.c, `nfs4_add_lease`; fs/smb/client/cifsfs.c, `cifs_setlease`; statfs(2) on
/// types.
fn is_of_a_server(file: BorrowedFd<'_>) -> bool {
    const NFS: i64 = 0x6969;
    const CIFS: i64 = 0xff53_4d42;
    const SMB2: i64 = 0xfe53_4d42;
    rustix::fs::fstatfs(file).is_ok_and(|found| [NFS, CIFS, SMB2].contains(&found.f_type))
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
