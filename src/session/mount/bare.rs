//! The bare directory of a mountpoint: what it holds, whether something is mounted on it
//! or not.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mountinfo::mount_at;

/// Entries are counted up to here.
pub const COUNT_LIMIT: usize = 10_000;
const DOTS: [&[u8]; 2] = [b".", b".."];

/// A directory under whatever is mounted on it.
#[derive(Debug)]
pub struct BareDirectory(OwnedFd);

impl BareDirectory {
    /// Errors: there is none; looking under a mount takes root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if mount_at(path)?.is_none() {
            return Ok(Self(openat(CWD, path, flags, Mode::empty())?));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // A copy of the parent's mount that has nothing mounted below it. Source: open_tree(2).
        let copy = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let bare = open_tree(CWD, parent, copy)?;
        Ok(Self(openat(bare.as_fd(), name, flags, Mode::empty())?))
    }

    /// To read what is in it.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// How many entries it has; no more than `COUNT_LIMIT` are counted.
    pub fn entries(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            count += usize::from(!DOTS.contains(&entry.file_name().to_bytes()));
            if count == COUNT_LIMIT {
                break;
            }
        }
        Ok(count)
    }

    /// Whether nobody can make a name in it. Errors: its file system knows no such flag.
    /// Source: ioctl_iflags(2).
    pub fn is_immutable(&self) -> io::Result<bool> {
        Ok(ioctl_getflags(&self.0)?.contains(IFlags::IMMUTABLE))
    }

    /// Errors: its file system knows no such flag; it takes CAP_LINUX_IMMUTABLE.
    pub fn make_immutable(&self) -> io::Result<()> {
        let flags = ioctl_getflags(&self.0)?;
        Ok(ioctl_setflags(&self.0, flags | IFlags::IMMUTABLE)?)
    }
}

/// How many entries a mount on this directory hides, or will hide. Where that cannot be
/// told, nothing is: who may not look under a mount has not made it alone.
pub fn hidden_entries(path: &Path) -> usize {
    let counted = BareDirectory::open(path).and_then(|bare| bare.entries());
    counted.unwrap_or_else(|error| {
        tracing::debug!(%error, path = %path.display(), "cannot look under the mount");
        0
    })
}

/// What to say of entries that a mount hides.
pub fn told_hidden(path: &Path, count: usize) -> String {
    let path = path.display();
    let more = if count == COUNT_LIMIT {
        "at least "
    } else {
        ""
    };
    let noun = if count == 1 {
        "entry lies"
    } else {
        "entries lie"
    };
    format!(
        "{more}{count} {noun} in the bare directory {path}, hidden by the mount: 'mediafs import --hidden {path} BUCKET/PREFIX' sends them, 'mediafs unmount {path}' shows them"
    )
}

/// Whether the file system of a path takes writes.
pub fn is_read_only(path: &Path) -> io::Result<bool> {
    let there = path
        .ancestors()
        .find(|above| fs::symlink_metadata(above).is_ok());
    let found = rustix::fs::statvfs(there.unwrap_or(path))?;
    Ok(found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_without_the_dots_and_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(hidden_entries(dir.path()), 0);
        fs::write(dir.path().join("f"), b"x").unwrap();
        fs::create_dir(dir.path().join(".d")).unwrap();
        assert_eq!(hidden_entries(dir.path()), 2);
        assert_eq!(hidden_entries(&dir.path().join("none")), 0);
        let told = told_hidden(dir.path(), COUNT_LIMIT);
        assert!(told.starts_with("at least 10000 entries"), "{told}");
        assert!(!is_read_only(&dir.path().join("a/b")).unwrap());
    }
}
