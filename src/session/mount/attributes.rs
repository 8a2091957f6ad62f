//! Attributes of a mount, set through a descriptor of it. Source: mount_setattr(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a mount keeps programs from, whatever its file system allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restrictions(u64);

impl Restrictions {
    /// Of the options that mountinfo tells.
    pub fn of(options: &[String]) -> Self {
        let flags = options.iter().map(|option| match option.as_str() {
            "ro" => libc::MOUNT_ATTR_RDONLY,
            "nosuid" => libc::MOUNT_ATTR_NOSUID,
            "nodev" => libc::MOUNT_ATTR_NODEV,
            "noexec" => libc::MOUNT_ATTR_NOEXEC,
            _ => 0,
        });
        Self(flags.fold(0, |all, flag| all | flag))
    }
}

/// What a mount becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// What is mounted below it appears nowhere else.
    Private,
    /// Here; its file system, and its other mounts, stay as they are.
    ReadOnly,
    /// As restricted as another mount.
    Restricted(Restrictions),
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
        Attribute::Restricted(Restrictions(flags)) => attributes.attr_set = flags,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restrictions_are_told_by_the_options_of_a_mount() {
        let of = |text: &str| {
            let options: Vec<String> = text.split(',').map(str::to_owned).collect();
            Restrictions::of(&options)
        };
        let both = Restrictions(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID);
        assert_eq!(of("ro,nosuid,relatime,user_id=0"), both);
        assert_eq!(of("rw,relatime"), Restrictions(0));
    }
}
