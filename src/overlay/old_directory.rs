//! The old directory: its names in the order of keys, what its files are, their bytes.
//!
//! Everything is opened below one descriptor, which was opened before something was
//! mounted over it. No symlink is followed.

use std::fmt;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

use crate::error::is_symlink_on_the_way;
use crate::private;
use crate::store::ETag;

/// Directories whose names are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(8).unwrap();
/// How the ETags of old files begin: no store has such.
const ETAG_PREFIX: &str = "old.";

/// What the kernel says of a file or directory: as long as it is the same, its bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldStat {
    pub inode: u64,
    /// Zero of a directory.
    pub size_bytes: u64,
    pub mtime: (i64, i64),
    /// No program sets it.
    pub ctime: (i64, i64),
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl OldStat {
    fn of(found: &std::fs::Metadata) -> Self {
        Self {
            inode: found.ino(),
            size_bytes: if found.is_dir() { 0 } else { found.size() },
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
        }
    }

    /// Names the version.
    pub fn etag(&self) -> ETag {
        let (inode, size) = (self.inode, self.size_bytes);
        let ((mtime, mtime_nanos), (ctime, ctime_nanos)) = (self.mtime, self.ctime);
        ETag::new(&format!(
            "{ETAG_PREFIX}{inode:x}.{size:x}.{mtime:x}.{mtime_nanos:x}.{ctime:x}.{ctime_nanos:x}"
        ))
    }

    /// Whether an ETag is one of an old file.
    pub fn is_etag(etag: &ETag) -> bool {
        etag.as_str().starts_with(ETAG_PREFIX)
    }

    pub fn modified(&self) -> SystemTime {
        let (seconds, nanos) = self.mtime;
        let whole = u64::try_from(seconds).unwrap_or_default();
        let nanos = u32::try_from(nanos).unwrap_or_default();
        UNIX_EPOCH + Duration::new(whole, nanos)
    }

    /// In whole seconds, as the times of objects are.
    pub fn last_modified(&self) -> SystemTime {
        let whole = u64::try_from(self.mtime.0).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(whole)
    }
}

/// Which directories have a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    Empty,
    /// Each: what it is like is stored with it.
    All,
}

/// The names of one directory that can be in a bucket.
#[derive(Debug, Default)]
pub struct Names {
    /// Names of directories end in `/`, as in keys, and so they are sorted.
    pub names: Vec<Box<str>>,
    /// What is neither a file nor a directory, or has no UTF-8 name.
    pub odd: Vec<String>,
}

/// A directory by its descriptor.
pub struct OldDirectory {
    path: PathBuf,
    root: OwnedFd,
    marked: Marked,
    remembered: Mutex<LruCache<String, (OldStat, Arc<Names>)>>,
}

impl fmt::Debug for OldDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OldDirectory").field(&self.path).finish()
    }
}

impl OldDirectory {
    /// `path` is what it is called; the descriptor counts.
    pub fn new(path: &Path, root: OwnedFd) -> Self {
        Self {
            path: path.to_owned(),
            root,
            marked: Marked::Empty,
            remembered: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    pub fn with_markers(self, marked: Marked) -> Self {
        Self { marked, ..self }
    }

    /// Stands for one that was removed: as its descriptor would, this has no name in it.
    /// Errors: the disk's.
    pub fn removed(path: &Path, scratch: &Path) -> io::Result<Self> {
        let empty = scratch.join("removed-directory");
        private::directory(&empty).map_err(io::Error::other)?;
        let root = File::open(&empty)?;
        std::fs::remove_dir(&empty)?;
        Ok(Self::new(path, root.into()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Errors: the disk's.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.root)?.st_ino)
    }

    fn open_below(&self, path: &str, flags: OFlags) -> io::Result<Option<File>> {
        let path = match path.strip_suffix('/').unwrap_or(path) {
            "" => ".",
            path => path,
        };
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat2(&self.root, path, flags, Mode::empty(), how) {
            Ok(opened) => Ok(Some(File::from(opened))),
            Err(error) => match io::Error::from(error) {
                error if is_nothing(&error) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// A file; or of a path that ends in `/`, a directory that has a marker. None for all
    /// else.
    pub fn stat(&self, path: &str) -> io::Result<Option<OldStat>> {
        let Some(opened) = self.open_below(path, OFlags::PATH)? else {
            return Ok(None);
        };
        let found = opened.metadata()?;
        let is_meant = match path.ends_with('/') {
            true => found.is_dir() && self.has_marker(path)?,
            false => found.is_file(),
        };
        Ok(is_meant.then(|| OldStat::of(&found)))
    }

    /// Whether a directory, whose path ends in `/`, is an object of its own.
    pub fn has_marker(&self, path: &str) -> io::Result<bool> {
        let names = self.names(path)?;
        Ok(names.is_some_and(|it| self.marked == Marked::All || it.names.is_empty()))
    }

    /// Opens a file to read it. None where there is none.
    pub fn open(&self, path: &str) -> io::Result<Option<OldFile>> {
        let opened = self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
        let Some(file) = opened else {
            return Ok(None);
        };
        let found = file.metadata()?;
        Ok(found.is_file().then(|| OldFile {
            stat: OldStat::of(&found),
            file,
        }))
    }

    /// The directory that a watch is set on. None where there is none.
    pub fn directory(&self, path: &str) -> io::Result<Option<File>> {
        self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The names of a directory, whose path is empty or ends in `/`. None where it is none.
    pub fn names(&self, path: &str) -> io::Result<Option<Arc<Names>>> {
        let Some(directory) = self.directory(path)? else {
            return Ok(None);
        };
        let stat = OldStat::of(&directory.metadata()?);
        if let Some((known, names)) = self.remembered.lock().get(path)
            && *known == stat
        {
            return Ok(Some(names.clone()));
        }
        let names = Arc::new(read_names(&directory)?);
        let known = (stat, names.clone());
        self.remembered.lock().put(path.to_owned(), known);
        Ok(Some(names))
    }
}

fn read_names(directory: &File) -> io::Result<Names> {
    let mut found = Names::default();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        match (std::str::from_utf8(bytes), kind) {
            (Ok(name), FileType::RegularFile) => found.names.push(name.into()),
            (Ok(name), FileType::Directory) => found.names.push(format!("{name}/").into()),
            _ => found.odd.push(String::from_utf8_lossy(bytes).into_owned()),
        }
    }
    found.names.sort_unstable();
    Ok(found)
}

/// Whether an error says that there is no such file.
fn is_nothing(error: &io::Error) -> bool {
    let kinds = [
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::InvalidFilename,
    ];
    kinds.contains(&error.kind()) || is_symlink_on_the_way(error)
}

/// An open file, as it was when it was opened.
#[derive(Debug)]
pub struct OldFile {
    file: File,
    pub stat: OldStat,
}

impl OldFile {
    /// Exactly the bytes of a range. None where it is not the file any more that was opened.
    pub fn read(&self, range: Range<u64>) -> io::Result<Option<Bytes>> {
        let len = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; len];
        let outcome = self.file.read_exact_at(&mut bytes, range.start);
        if OldStat::of(&self.file.metadata()?) != self.stat {
            return Ok(None);
        }
        outcome?;
        Ok(Some(bytes.into()))
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn old(dir: &Path) -> OldDirectory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let root = rustix::fs::open(dir, flags, Mode::empty()).unwrap();
        OldDirectory::new(dir, root)
    }

    #[test]
    fn names_come_in_the_order_of_keys_and_what_is_no_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "a.txt", "b"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("a-")).unwrap();
        fs::create_dir(dir.path().join("c")).unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        let old = old(dir.path());
        let names = old.names("").unwrap().unwrap();
        let shown: Vec<&str> = names.names.iter().map(|name| &**name).collect();
        assert_eq!(shown, ["a", "a-/", "a.txt", "b", "c/"]);
        assert_eq!(names.odd, ["link"]);
        fs::write(dir.path().join("c/f"), "x").unwrap();
        assert_eq!(old.names("c/").unwrap().unwrap().names.len(), 1);
    }

    #[test]
    fn no_symlink_is_followed_and_an_empty_directory_is_its_marker() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/empty")).unwrap();
        fs::write(dir.path().join("d/f"), "x").unwrap();
        symlink("d", dir.path().join("link")).unwrap();
        let old = old(dir.path());
        for nothing in ["link", "link/f", "d", "d/", "d/f/x", "none"] {
            assert_eq!(old.stat(nothing).unwrap(), None, "{nothing}");
        }
        assert_eq!(old.stat("d/f").unwrap().unwrap().size_bytes, 1);
        assert_eq!(old.stat("d/empty/").unwrap().unwrap().size_bytes, 0);
    }

    #[test]
    fn a_file_that_changes_is_another_version_and_gives_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "before").unwrap();
        let old = old(dir.path());
        let file = old.open("f").unwrap().unwrap();
        assert_eq!(file.read(1..3).unwrap().unwrap(), "ef");
        fs::write(&path, "after it").unwrap();
        assert_eq!(file.read(1..3).unwrap(), None);
        let now = old.stat("f").unwrap().unwrap();
        assert_ne!(now.etag(), file.stat.etag());
        assert!(OldStat::is_etag(&now.etag()));
    }
}
