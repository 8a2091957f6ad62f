//! A directory in the place of a mount, with nothing else to be seen in between.

use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

use super::inside::Attachable;

/// Mounts below what is at a place. Source: move_mount(2), `MOVE_MOUNT_BENEATH`, Linux 6.5.
const BENEATH: MoveMountFlags = MoveMountFlags::from_bits_retain(0x200);

/// What lies at the mount's place by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// The mount is taken away; who has files of it open keeps those.
    Detached,
    /// Older kernels: the directory lies over the mount, which is still there below it.
    Covered,
}

/// Has the directory seen where the mount is: at every moment a path leads into one of
/// the two. It is mounted there, until the next start of the machine.
///
/// Errors: the kernel's; nothing is changed then.
pub fn take_place(mount: &Attachable, directory: &Path) -> io::Result<Replaced> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(&directory, "", copy | OpenTreeFlags::AT_EMPTY_PATH)?;
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let place = |how| move_mount(&tree, "", mount.root(), "", by_descriptor | how);
    if let Err(error) = place(BENEATH) {
        let error = io::Error::from(error);
        tracing::debug!(%error, "not mounted below: mounted over it");
        place(MoveMountFlags::empty())?;
        return Ok(Replaced::Covered);
    }
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    unmount(&mount.entry.mountpoint, flags)?;
    Ok(Replaced::Detached)
}
