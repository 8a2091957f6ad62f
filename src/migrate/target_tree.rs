//! A directory that files are brought into: nothing leads out of it.
//!
//! Every path is opened by openat2(2) below the root's descriptor, through no symlink.
//! A file appears whole or not at all: it is written beside its place, synced, renamed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Uid};
use serde::{Deserialize, Serialize};

use super::entry::Stat;
use super::marked::{is_marked, mark, unmark};
use super::selection::UNFINISHED;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// Names of an unfinished file, of which others may have some.
const NAMES_LIMIT: u8 = 16;

/// Owner, permissions and time of what is brought.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Ownership {
    pub uid: u32,
    pub gid: u32,
    /// Without the bits that lend privileges.
    pub mode: u32,
    pub modified: Option<SystemTime>,
}

#[derive(Debug, Clone)]
pub struct TargetTree {
    root: Arc<OwnedFd>,
    /// Of directories that are made.
    directories: Ownership,
}

/// Why a file cannot have its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Taken {
    #[error("it was changed here meanwhile: it is kept")]
    Changed,
    #[error("a directory is in its place here")]
    Directory,
}

/// A file beside its place.
#[derive(Debug)]
pub struct Unfinished {
    parent: OwnedFd,
    /// Its own, until it has its place.
    name: Option<String>,
    place: String,
    pub file: File,
}

impl TargetTree {
    pub fn new(root: Arc<OwnedFd>, directories: Ownership) -> Self {
        Self { root, directories }
    }

    /// Begins a file.
    ///
    /// Errors: a symlink or a file is in the way; the disk's.
    pub fn begin(&self, path: &str) -> io::Result<Unfinished> {
        let (parent, place) = self.parent(path)?;
        for attempt in 0..NAMES_LIMIT {
            let name = unfinished_name(path, attempt);
            remove_marked(&parent, &name)?;
            let file = match create_marked(&parent, &name) {
                Ok(file) => file,
                // Somebody's own.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            return Ok(Unfinished {
                parent,
                name: Some(name),
                place: place.to_owned(),
                file,
            });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Makes a directory, with those above it.
    pub fn make_directory(&self, path: &str) -> io::Result<()> {
        self.directory(path.trim_end_matches('/')).map(drop)
    }

    /// The same of one that gets its owner and mode later, and is nobody else's until then.
    pub fn make_closed(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path.trim_end_matches('/'))?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                below(&parent, name).map(drop)
            }
            made => made,
        }
    }

    /// Makes one with its owner and mode, before anything is in it. Who brings files into it
    /// may write there.
    pub fn make_private(&self, path: &str, ownership: &Ownership) -> io::Result<()> {
        let (parent, name) = self.parent(path.trim_end_matches('/'))?;
        match rustix::fs::mkdirat(&parent, name, Mode::RWXU).map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let private = Ownership {
            mode: ownership.mode | Mode::RWXU.bits(),
            modified: None,
            ..*ownership
        };
        give(&File::from(below(&parent, name)?), &private)
    }

    /// Gives a directory what it does not have of that. None where it is not there.
    pub fn give_directory(&self, path: &str, ownership: &Ownership) -> io::Result<Option<Stat>> {
        let directory = match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => File::from(opened?),
        };
        let has = Stat::from(&directory.metadata()?);
        let is_same = (has.uid, has.gid) == (ownership.uid, ownership.gid)
            && has.mode & 0o7777 == ownership.mode
            && ownership
                .modified
                .is_none_or(|it| has.modified() == Some(it));
        if !is_same {
            give(&directory, ownership)?;
        }
        Ok(Some(Stat::from(&directory.metadata()?)))
    }

    /// Removes a directory that nothing is in.
    pub fn remove_directory(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path.trim_end_matches('/'))?;
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Makes a symlink where nothing is.
    pub fn make_symlink(&self, path: &str, leads_to: &OsStr) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let made = rustix::fs::symlinkat(leads_to, &parent, name);
        made.map_err(|error| taken(&parent, name, error.into()))
    }

    /// Makes a FIFO or a socket where nothing is, which nobody else can open before it has
    /// its owner and mode.
    pub fn make_special(
        &self,
        path: &str,
        kind: FileType,
        ownership: &Ownership,
    ) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let made = rustix::fs::mknodat(&parent, name, kind, Mode::empty(), 0);
        made.map_err(|error| taken(&parent, name, error.into()))?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), nofollow)?;
        let mode = Mode::from_raw_mode(ownership.mode);
        Ok(rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?)
    }

    /// Whether a symlink at this path would lead to a place below the root, through
    /// whatever is on its way now, or to nothing.
    pub fn leads_inside(&self, path: &str, leads_to: &OsStr) -> bool {
        let mut whole = match path.rsplit_once('/') {
            Some((above, _)) => OsString::from(format!("{above}/")),
            None => OsString::new(),
        };
        whole.push(leads_to);
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        match rustix::fs::openat2(&self.root, &whole, flags, Mode::empty(), how) {
            Ok(_) => true,
            Err(error) => io::Error::from(error).kind() == io::ErrorKind::NotFound,
        }
    }

    /// Removes a file that is still as it was; `None` where that does not matter.
    ///
    /// Errors: it changed; the disk's.
    pub fn remove(&self, path: &str, was: Option<&Stat>) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        if let Some(was) = was {
            unchanged(&parent, name, was)?;
        }
        Ok(rustix::fs::unlinkat(parent, name, AtFlags::empty())?)
    }

    /// Returns once everything is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&*self.root)?)
    }

    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        match path.rsplit_once('/') {
            Some((above, name)) => Ok((self.directory(above)?, name)),
            None => Ok((self.open(".")?, path)),
        }
    }

    /// The directory of a path, made where it is not there.
    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let mut directory = self.open(".")?;
        for name in path.split('/') {
            let mode = Mode::from_raw_mode(self.directories.mode);
            match rustix::fs::mkdirat(&directory, name, mode).map_err(io::Error::from) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    directory = below(&directory, name)?;
                }
                made => {
                    made?;
                    directory = below(&directory, name)?;
                    let made = File::from(directory.try_clone()?);
                    give(&made, &self.directories)?;
                }
            }
        }
        Ok(directory)
    }

    fn open(&self, path: &str) -> io::Result<OwnedFd> {
        below(&self.root, path)
    }
}

fn below(directory: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(
        directory,
        path,
        DIRECTORY,
        Mode::empty(),
        how,
    )?)
}

/// The same for the same path: a run that goes on removes what one before has left.
fn unfinished_name(path: &str, attempt: u8) -> String {
    let mut hash = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    hash.update(path.as_bytes());
    if attempt > 0 {
        hash.update(&[0, attempt]);
    }
    format!("{UNFINISHED}{:016x}", hash.finalize())
}

/// Creates a file that has its mark before it has a name: a run that is killed leaves no
/// other. Where a file cannot be without a name it has the mark at once after.
///
/// Source: open(2), O_TMPFILE.
fn create_marked(parent: &OwnedFd, name: &str) -> io::Result<File> {
    let (flags, mode) = (OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR);
    if let Ok(file) = rustix::fs::openat(parent, ".", flags | OFlags::TMPFILE, mode) {
        let file = File::from(file);
        mark(&file)?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let named = rustix::fs::linkat(CWD, unnamed, parent, name, AtFlags::SYMLINK_FOLLOW);
        match named.map_err(io::Error::from) {
            Ok(()) => return Ok(file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(error) => tracing::debug!(%error, "a file without a name cannot get one here"),
        }
    }
    let exclusive = flags | OFlags::CREATE | OFlags::EXCL;
    let file = File::from(rustix::fs::openat(parent, name, exclusive, mode)?);
    mark(&file)?;
    Ok(file)
}

/// Removes what a run before has left, or somebody who still has it open.
fn remove_marked(parent: &OwnedFd, name: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let found = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        // There is nothing, or what is no file of ours.
        Err(_) => return Ok(()),
        Ok(found) => File::from(found),
    };
    if found.metadata()?.is_file() && is_marked(&found) {
        rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
    }
    Ok(())
}

fn give(file: &File, ownership: &Ownership) -> io::Result<()> {
    let found = file.metadata()?;
    if (found.uid(), found.gid()) != (ownership.uid, ownership.gid) {
        let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
        rustix::fs::fchown(file, Some(uid), Some(gid))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(ownership.mode))?;
    if let Some(modified) = ownership.modified {
        file.set_times(FileTimes::new().set_modified(modified))?;
    }
    Ok(())
}

/// Why a name could not be given where nothing was to be.
fn taken(parent: &OwnedFd, place: &str, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return error;
    }
    let found = rustix::fs::statat(parent, place, AtFlags::SYMLINK_NOFOLLOW);
    let is_directory = found.is_ok_and(|it| FileType::from_raw_mode(it.st_mode).is_dir());
    io::Error::other(match is_directory {
        true => Taken::Directory,
        false => Taken::Changed,
    })
}

/// Errors: the file is not as it was.
fn unchanged(parent: &OwnedFd, name: &str, was: &Stat) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if Stat::from(&File::from(file).metadata()?) == *was {
        Ok(())
    } else {
        Err(io::Error::other(Taken::Changed))
    }
}

impl Unfinished {
    /// Sets whose it is, and syncs it: from here on nothing but a rename changes it.
    pub fn give(&self, ownership: &Ownership) -> io::Result<()> {
        give(&self.file, ownership)?;
        self.file.sync_all()
    }

    /// Puts it in its place, where there is nothing, or this file. It is to be as it was
    /// when its bytes were `proved`: what is returned is then known of the same bytes.
    ///
    /// Errors: something else is there; somebody changed it; the disk's. Nothing of a file
    /// that is not in its place is left.
    pub fn place(mut self, proved: &Stat, replaces: Option<&Stat>) -> io::Result<Stat> {
        let changed = || io::Error::other("it was changed here while it was fetched: run again");
        let Some(name) = &self.name else {
            return Err(changed());
        };
        if Stat::from(&self.file.metadata()?) != *proved {
            return Err(changed());
        }
        match replaces {
            Some(was) => {
                unchanged(&self.parent, &self.place, was)?;
                rustix::fs::renameat(&self.parent, name, &self.parent, &self.place)?;
            }
            None => {
                let flags = RenameFlags::NOREPLACE;
                let (parent, place) = (&self.parent, &self.place);
                let renamed = rustix::fs::renameat_with(parent, name, parent, place, flags);
                renamed.map_err(|error| taken(parent, place, error.into()))?;
            }
        }
        self.name = None;
        // Not before: a file with the name of an unfinished one always has its mark.
        unmark(&self.file)?;
        let placed = Stat::from(&self.file.metadata()?);
        if placed.is_only_renamed(proved) {
            Ok(placed)
        } else {
            Err(changed())
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let removed = rustix::fs::unlinkat(&self.parent, name, AtFlags::empty());
            if let Err(error) = removed {
                tracing::debug!(name, %error, "an unfinished file is left");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek, Write};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;
    use crate::migrate::walk::open_root;

    fn ownership(mode: u32) -> Ownership {
        Ownership {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mode,
            modified: None,
        }
    }

    fn put(root: &Path, path: &str, replaces: Option<&Stat>) -> io::Result<()> {
        let root = Arc::new(open_root(root).unwrap());
        let tree = TargetTree::new(root, ownership(0o755));
        let mut unfinished = tree.begin(path)?;
        unfinished.file.write_all(b"new")?;
        unfinished.give(&ownership(0o640))?;
        let proved = Stat::from(&unfinished.file.metadata()?);
        unfinished.place(&proved, replaces).map(drop)
    }

    #[test]
    fn a_file_that_changes_after_it_was_proved_is_not_taken_for_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let tree = TargetTree::new(Arc::new(open_root(dir.path()).unwrap()), ownership(0o755));
        let mut unfinished = tree.begin("f").unwrap();
        unfinished.file.write_all(b"old").unwrap();
        let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let given = Ownership {
            modified: Some(past),
            ..ownership(0o640)
        };
        unfinished.give(&given).unwrap();
        let proved = Stat::from(&unfinished.file.metadata().unwrap());
        // The same length, and before the rename.
        unfinished.file.rewind().unwrap();
        unfinished.file.write_all(b"new").unwrap();
        assert!(unfinished.place(&proved, None).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // What a rename alone changes does not matter, and a write behind it does.
        let mut unfinished = tree.begin("f").unwrap();
        unfinished.file.write_all(b"old").unwrap();
        unfinished.give(&given).unwrap();
        let mut writer = unfinished.file.try_clone().unwrap();
        let proved = Stat::from(&unfinished.file.metadata().unwrap());
        let placed = unfinished.place(&proved, None).unwrap();
        assert!(placed.is_only_renamed(&proved));
        writer.rewind().unwrap();
        writer.write_all(b"new").unwrap();
        let later = Stat::from(&writer.metadata().unwrap());
        assert!(!later.is_only_renamed(&proved));
    }

    #[test]
    fn nothing_is_written_through_a_symlink_or_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("f"), "old").unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink("../outside", root.join("relative")).unwrap();
        symlink("../outside/f", root.join("file")).unwrap();
        symlink("../outside/new", root.join("dangling")).unwrap();
        for path in [
            "absolute/f",
            "relative/new",
            "../outside/f",
            "/etc/mediafs-test",
            "a/../../outside/f",
            "file",
            "dangling",
        ] {
            assert!(put(&root, path, None).is_err(), "{path}");
        }
        let names: Vec<_> = fs::read_dir(&outside).unwrap().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(fs::read(outside.join("f")).unwrap(), b"old");
    }

    #[test]
    fn a_symlink_is_made_only_where_what_is_on_its_way_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink(dir.path(), root.join("out")).unwrap();
        symlink("a/b", root.join("in")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = TargetTree::new(Arc::new(open_root(&root).unwrap()), ownership(0o755));
        for (path, leads_to, inside) in [
            ("l", "a/b", true),
            ("l", "in", true),
            ("l", "in/nothing", true),
            ("new/l", "../a", true),
            ("a/l", "../in", true),
            ("l", "out/x", false),
            ("a/l", "../out", false),
            ("l", "..", false),
            ("l", "/etc", false),
            ("l", "loop", false),
        ] {
            let found = tree.leads_inside(path, OsStr::new(leads_to));
            assert_eq!(found, inside, "{path} -> {leads_to}");
        }
    }

    #[test]
    fn a_file_has_its_mark_until_it_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let tree = TargetTree::new(Arc::new(open_root(dir.path()).unwrap()), ownership(0o755));
        for (path, mode) in [("f", 0o640), ("read-only", 0o440)] {
            let unfinished = tree.begin(path).unwrap();
            unfinished.give(&ownership(mode)).unwrap();
            assert!(is_marked(&unfinished.file), "{path}");
            let file = unfinished.file.try_clone().unwrap();
            let proved = Stat::from(&file.metadata().unwrap());
            let placed = unfinished.place(&proved, None).unwrap();
            assert!(!is_marked(&file), "{path}");
            assert_eq!(placed.mode & 0o7777, mode);
        }
    }

    #[test]
    fn what_somebody_left_in_the_place_of_an_unfinished_file_is_not_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "old").unwrap();
        fs::hard_link(&other, dir.path().join(unfinished_name("f", 0))).unwrap();
        put(dir.path(), "f", None).unwrap();
        assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
        assert_eq!(fs::read(&other).unwrap(), b"old");
    }

    #[test]
    fn a_file_takes_its_place_whole_and_spares_what_was_put_there_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "a/b/f", None).unwrap();
        let path = dir.path().join("a/b/f");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(put(dir.path(), "a/b/f", None).is_err());
        let was = Stat::from(&fs::metadata(&path).unwrap());
        fs::write(&path, "newer").unwrap();
        assert!(put(dir.path(), "a/b/f", Some(&was)).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"newer");
        let is = Stat::from(&fs::metadata(&path).unwrap());
        put(dir.path(), "a/b/f", Some(&is)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 1);
    }
}
