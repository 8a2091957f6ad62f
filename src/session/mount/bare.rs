//! The bare directory of a mountpoint: what it holds, whether something is mounted on it
//! or not.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, DirEntry, FileType, IFlags, Mode, OFlags, ResolveFlags, ioctl_getflags,
    ioctl_setflags, openat, openat2, statat,
};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::mountinfo::mount_at;

/// Entries that are looked at, of a directory and of all that are below it.
const ENTRIES_LIMIT: usize = 10_000;
/// Directories below one another that are looked at: each takes a descriptor.
const DEPTH_LIMIT: usize = 32;
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

    /// How many entries it has; no more than `ENTRIES_LIMIT` are counted.
    pub fn entries(&self) -> io::Result<usize> {
        let mut count = 0;
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            count += usize::from(!DOTS.contains(&entry.file_name().to_bytes()));
            if count == ENTRIES_LIMIT {
                break;
            }
        }
        Ok(count)
    }

    /// How many files are below it: all that is no directory. What is mounted there is not
    /// looked at.
    pub fn files(&self) -> io::Result<FileCount> {
        let mut counted = FileCount::default();
        let mut looked_at = 0;
        let mut open = vec![Dir::read_from(&self.0)?];
        while let Some(dir) = open.last_mut() {
            let Some(entry) = dir.next().transpose()? else {
                open.pop();
                continue;
            };
            let name = entry.file_name();
            if DOTS.contains(&name.to_bytes()) {
                continue;
            }
            if looked_at == ENTRIES_LIMIT {
                counted.may_be_more = true;
                break;
            }
            looked_at += 1;
            if !is_directory(dir, &entry) {
                counted.files += 1;
                continue;
            }
            match below(dir, name) {
                Ok(dir) if open.len() < DEPTH_LIMIT => open.push(dir),
                Ok(_) | Err(_) => counted.may_be_more = true,
            }
        }
        Ok(counted)
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

/// How many files there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileCount {
    files: usize,
    /// Not all directories were looked at.
    may_be_more: bool,
}

impl FileCount {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

fn is_directory(dir: &Dir, entry: &DirEntry) -> bool {
    match entry.file_type() {
        // A file system that does not say so in its listings.
        FileType::Unknown => {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let stat = dir
                .fd()
                .and_then(|dir| statat(dir, entry.file_name(), flags));
            stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_dir())
        }
        known => known.is_dir(),
    }
}

/// A directory in another one. Errors: something is mounted on it.
fn below(dir: &Dir, name: &CStr) -> rustix::io::Result<Dir> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    Dir::new(openat2(dir.fd()?, name, flags, Mode::empty(), resolve)?)
}

/// How many files a mount on this directory hides, or will hide. Where that cannot be
/// told, nothing is: who may not look under a mount has not made it alone.
pub fn hidden_files(path: &Path) -> FileCount {
    let counted = BareDirectory::open(path).and_then(|bare| bare.files());
    counted.unwrap_or_else(|error| {
        tracing::debug!(%error, path = %path.display(), "cannot look under the mount");
        FileCount::default()
    })
}

/// What to say of files that a mount hides.
pub fn told_hidden(path: &Path, count: FileCount) -> String {
    let path = path.display();
    let FileCount { files, may_be_more } = count;
    let more = if may_be_more { "at least " } else { "" };
    let noun = if files == 1 { "file lies" } else { "files lie" };
    format!(
        "{more}{files} {noun} in the bare directory {path}, hidden by the mount: 'mediafs import --hidden {path} BUCKET/PREFIX' sends them, 'mediafs unmount {path}' shows them"
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

    fn told(path: &Path) -> String {
        let told = told_hidden(path, hidden_files(path));
        told.split(" in the").next().unwrap().to_owned()
    }

    #[test]
    fn files_are_counted_in_every_folder_and_up_to_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(hidden_files(root).is_none());
        assert!(hidden_files(&root.join("none")).is_none());
        fs::create_dir_all(root.join("a/.b")).unwrap();
        assert!(hidden_files(root).is_none(), "folders alone are no files");
        fs::write(root.join("f"), b"x").unwrap();
        assert_eq!(told(root), "1 file lies");
        // What a link leads to is not below.
        std::os::unix::fs::symlink("/", root.join("a/link")).unwrap();
        fs::write(root.join("a/.b/.f"), b"x").unwrap();
        assert_eq!(told(root), "3 files lie");
        let entries = BareDirectory::open(root).and_then(|bare| bare.entries());
        assert_eq!(entries.unwrap(), 2);
        for number in 0..ENTRIES_LIMIT {
            fs::write(root.join(format!("a/{number}")), b"").unwrap();
        }
        let (begin, rest) = (told(root), hidden_files(root));
        assert!(begin.starts_with("at least 99"), "{begin}: {rest:?}");
        assert!(!is_read_only(&root.join("a/b")).unwrap());
    }

    #[test]
    fn folders_that_are_too_deep_are_told_as_possibly_more_files() {
        let dir = tempfile::tempdir().unwrap();
        let names = vec!["d"; DEPTH_LIMIT + 1];
        let deep = dir.path().join(names.join("/"));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("f"), b"x").unwrap();
        assert_eq!(told(dir.path()), "at least 0 files lie");
    }
}
