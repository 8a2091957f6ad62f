//! Bind mounts of a mount of ours, and the mount namespace that they are made in.
//!
//! Source: setns(2), open_tree(2), move_mount(2).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Unmounted;
use super::attributes::{self, Attribute};
use super::processes::mount_namespace;
use crate::ops::Access;

/// Has this process see and change the mounts of another one; none of its own remains.
///
/// Errors: the kernel's; it refuses a process that has threads.
pub fn enter_mounts_of(pid: u32) -> io::Result<()> {
    if mount_namespace(&pid.to_string())? == mount_namespace("self")? {
        return Ok(());
    }
    let namespace = File::open(format!("/proc/{pid}/ns/mnt"))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
    Ok(())
}

/// Shows a mount at a directory too. It appears there read-only, or not at all.
pub fn bind(mountpoint: &Path, target: &Path, access: Access) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, mountpoint, flags)?;
    if access == Access::ReadOnly {
        attributes::set(tree.as_fd(), Attribute::ReadOnly)?;
    }
    move_mount(
        &tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}

/// Takes the topmost mount away from a directory.
pub fn unbind(target: &Path) -> io::Result<Unmounted> {
    match unmount(target, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(Unmounted::Done),
        Err(Errno::BUSY) => Ok(Unmounted::Busy),
        // Gone between the look and the call.
        Err(Errno::INVAL | Errno::NOENT) => Ok(Unmounted::Done),
        Err(errno) => Err(errno.into()),
    }
}
