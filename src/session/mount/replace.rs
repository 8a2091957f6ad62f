//! A directory in the place of a mount, with nothing else to be seen in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
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

/// A directory that is in a mount's place.
#[derive(Debug)]
pub struct TakenPlace {
    pub replaced: Replaced,
    directory: OwnedFd,
}

/// Has the directory seen where the mount is: at every moment a path leads into one of
/// the two. It is mounted there, until the next start of the machine.
///
/// Errors: the kernel's; nothing is changed then, or the error says what is.
pub fn take_place(mount: &Attachable, directory: &Path) -> io::Result<TakenPlace> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, directory, flags, Mode::empty())?;
    let copied = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copied = copied | OpenTreeFlags::AT_EMPTY_PATH;
    let mut place = TakenPlace {
        replaced: Replaced::Detached,
        directory: open_tree(&directory, "", copied)?,
    };
    let by_descriptor =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    let put = |how| {
        let tree = &place.directory;
        move_mount(tree, "", mount.root(), "", by_descriptor | how)
    };
    if let Err(error) = put(BENEATH) {
        let error = io::Error::from(error);
        tracing::debug!(%error, "not mounted below: mounted over it");
        put(MoveMountFlags::empty())?;
        place.replaced = Replaced::Covered;
        return Ok(place);
    }
    detach(mount.root()).map_err(|error| {
        let text = "the directory lies below the mount, which could not be taken away";
        io::Error::new(error.kind(), format!("{text}: {error}"))
    })?;
    Ok(place)
}

/// Takes away the mount whose root this is, wherever its path leads by now.
fn detach(root: BorrowedFd<'_>) -> io::Result<()> {
    let link = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(unmount(link, UnmountFlags::DETACH)?)
}

impl TakenPlace {
    /// Takes a directory away that lies over the mount.
    pub fn uncover(self) -> io::Result<()> {
        detach(self.directory.as_fd())
    }
}
