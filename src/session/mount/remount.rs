//! Flags of a mount that is there, which the kernel keeps: the daemon has no part in it.
//!
//! Source: mount(2), "Remounting an existing mount".

use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::FS_TYPE;
use super::mountinfo::mount_at;

/// Flags by their names, and what stands for the flag taken away.
const FLAGS: [(&str, &str, MountFlags); 5] = [
    ("ro", "rw", MountFlags::RDONLY),
    ("noexec", "exec", MountFlags::NOEXEC),
    ("noatime", "atime", MountFlags::NOATIME),
    ("nodiratime", "diratime", MountFlags::NODIRATIME),
    ("relatime", "norelatime", MountFlags::RELATIME),
];
/// Settings of ours that are such a flag.
const SETTINGS: [(&str, &str); 4] = [
    ("read-only", "ro"),
    ("read_only", "ro"),
    ("no-exec", "noexec"),
    ("no_exec", "noexec"),
];

/// Flags that are set, and those that are taken away. What else mount(8) hands
/// over stands in fstab, and stays as it was mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remount {
    set: MountFlags,
    cleared: MountFlags,
}

#[derive(Debug, thiserror::Error)]
pub enum RemountError {
    #[error("{0} is not a mount of mediafs")]
    NotOurs(PathBuf),
    #[error("{0} is busy: files are open for writing; 'fuser -vm {0}' names who has them")]
    Busy(PathBuf),
    #[error("cannot remount {path}: {source}")]
    Refused {
        path: PathBuf,
        source: std::io::Error,
    },
}

impl Remount {
    /// Of two options that contradict each other the later one counts.
    pub fn parse<'a>(options: impl IntoIterator<Item = &'a str>) -> Self {
        let mut remount = Self {
            set: MountFlags::empty(),
            cleared: MountFlags::empty(),
        };
        for option in options {
            let ours = SETTINGS.iter().find(|(setting, _)| *setting == option);
            let option = ours.map_or(option, |(_, flag)| flag);
            for (set, cleared, flag) in FLAGS {
                if option == set {
                    remount.set |= flag;
                    remount.cleared -= flag;
                } else if option == cleared {
                    remount.cleared |= flag;
                    remount.set -= flag;
                }
            }
        }
        remount
    }

    /// Changes the mount, and with it every bind mount of it.
    pub fn apply(self, mountpoint: &Path) -> Result<(), RemountError> {
        let path = mountpoint.to_owned();
        let entry = match mount_at(mountpoint) {
            Ok(Some(entry)) if entry.fs_type == FS_TYPE => entry,
            Ok(_) => return Err(RemountError::NotOurs(path)),
            Err(source) => return Err(RemountError::Refused { path, source }),
        };
        // A flag that is not named here would be taken away.
        let now = entry.options.iter().map(String::as_str);
        let Self { set: now, .. } = Self::parse(now);
        let flags = (now - self.cleared) | self.set | MountFlags::NOSUID | MountFlags::NODEV;
        match rustix::mount::mount_remount(mountpoint, flags, "") {
            Ok(()) => Ok(()),
            Err(Errno::BUSY) => Err(RemountError::Busy(path)),
            Err(error) => Err(RemountError::Refused {
                path,
                source: error.into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_options_counts_and_others_change_nothing() {
        let parse = |text: &str| Remount::parse(text.split(','));
        let ro = parse("remount,rw,allow_other,ttl=5s,ro");
        assert_eq!(ro.set, MountFlags::RDONLY);
        assert_eq!(ro.cleared, MountFlags::empty());
        let rw = parse("remount,read-only,noexec,rw");
        assert_eq!(rw.set, MountFlags::NOEXEC);
        assert_eq!(rw.cleared, MountFlags::RDONLY);
    }

    #[test]
    fn what_is_no_mount_of_ours_is_refused() {
        let refused = Remount::parse(["ro"]).apply(Path::new("/proc"));
        assert!(matches!(refused, Err(RemountError::NotOurs(_))));
    }
}
