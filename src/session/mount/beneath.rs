//! A mount is mounted below another one, and the one on top is taken away: who looks sees
//! one of the two at every moment.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};

/// Source: move_mount(2), `MOVE_MOUNT_BENEATH`, Linux 6.5.
const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);
pub const BY_DESCRIPTOR: MoveMountFlags =
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH.union(MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH);

/// Mounts a tree below the mount of which this is the root.
pub fn put_below(tree: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(tree, "", root, "", BY_DESCRIPTOR | BENEATH)
}

/// Takes away the mount whose root this is, wherever its path leads by now.
pub fn detach(root: BorrowedFd<'_>) -> io::Result<()> {
    let link = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(unmount(link, UnmountFlags::DETACH)?)
}
