//! Attributes of a mount, set through a descriptor of it. Source: mount_setattr(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a mount becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// What is mounted below it appears nowhere else.
    Private,
    /// Here; its file system, and its other mounts, stay as they are.
    ReadOnly,
}

/// Errors: the kernel's.
pub fn set(tree: BorrowedFd, attribute: Attribute) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    match attribute {
        Attribute::Private => attributes.propagation = libc::MS_PRIVATE,
        Attribute::ReadOnly => attributes.attr_set = libc::MOUNT_ATTR_RDONLY,
    }
    // SAFETY: the path is a string that ends with NUL, and the kernel reads as many
    // bytes of the attributes as they have.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
