//! The kernel's connection of a FUSE mount, and how to end it for good.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

const CONNECTIONS: &str = "/sys/fs/fuse/connections";
const CONTROL_FS_TYPE: &str = "fusectl";

/// A way to abort a connection: all that wait for it get ENOTCONN, also those whom
/// no signal ends. Source: Documentation/filesystems/fuse.rst, "Control filesystem".
#[derive(Debug)]
pub struct Connection {
    abort: Option<OwnedFd>,
}

impl Connection {
    /// Of the mount with this device number (`major:minor`). Opened while there are
    /// the privileges for it, and used without any.
    pub fn open(device: &str) -> Self {
        let minor = device.split_once(':').map_or(device, |(_, minor)| minor);
        let name = format!("{minor}/abort");
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let abort = openat(
            CWD,
            Path::new(CONNECTIONS).join(&name),
            flags,
            Mode::empty(),
        );
        let abort = abort.or_else(|_| openat(&control_fs()?, &name, flags, Mode::empty()));
        if let Err(error) = &abort {
            tracing::debug!(%error, "the connection cannot be aborted from here");
        }
        Self { abort: abort.ok() }
    }

    /// Of the session of this FUSE device, whose mount has, or had, this device number:
    /// once the mount is gone, the number may be that of another mount.
    pub fn of_session(device: &str, session: BorrowedFd<'_>) -> Self {
        let connection = Self::open(device);
        // While the session is connected, nobody else gets its number.
        match is_connected(session) {
            true => connection,
            false => Self::of(None),
        }
    }

    pub fn of(abort: Option<OwnedFd>) -> Self {
        Self { abort }
    }

    pub fn can_be_aborted(&self) -> bool {
        self.abort.is_some()
    }

    /// Does nothing for a connection that has ended.
    pub fn abort(&self) {
        let Some(abort) = &self.abort else {
            return;
        };
        if let Err(error) = rustix::io::write(abort, b"1") {
            tracing::warn!(%error, "the connection is not aborted: 'umount -f' does it");
        }
    }

    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.abort.as_ref().map(AsFd::as_fd)
    }
}

/// Whether a session goes on, though nothing may be mounted any more.
/// Source: fuse_dev_poll() of the kernel, which reports an error for an ended session.
pub fn is_connected(session: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(session, PollFlags::IN)];
    let now = Timespec::default();
    poll(&mut polled, Some(&now)).is_ok() && !polled[0].revents().contains(PollFlags::ERR)
}

/// fusectl where it is not mounted, as in many containers: one of
/// our own that is nowhere in the tree. Errors: without CAP_SYS_ADMIN.
fn control_fs() -> Result<OwnedFd, Errno> {
    let context = fsopen(CONTROL_FS_TYPE, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    fsmount(&context, flags, MountAttrFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_session_that_is_over_aborts_no_other_with_its_number() {
        let ended = File::open("/dev/fuse").unwrap();
        assert!(!is_connected(ended.as_fd()));
        let connection = Connection::of_session("0:1", ended.as_fd());
        assert!(!connection.can_be_aborted());
    }
}
