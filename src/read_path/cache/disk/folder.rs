//! The folder that holds the blocks of one place, and its lock.
//!
//! It is held by its descriptor: what another daemon makes at its path later is not it.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use md5::{Digest, Md5};
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};

use super::block_file::BlockName;
use crate::private::{self, NotPrivate};

/// What is written, until it is whole.
const NEW: &str = "new";
/// Says whose blocks these are, for people.
const PLACE: &str = "place";
/// The time of a file is when its block was last used, so exactly.
const USED_EVERY: Duration = Duration::from_secs(600);

/// Bucket, prefix and endpoint are far shorter.
const PLACE_LIMIT_BYTES: u64 = 64 << 10;
/// Blocks beyond those that are asked for, before some go.
const SURPLUS_LIMIT: usize = 10_000;
const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Why there is no folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("another mediafs uses {0}")]
    InUse(PathBuf),
    #[error(transparent)]
    NotPrivate(#[from] NotPrivate),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Debug)]
pub struct Folder {
    dir: OwnedFd,
}

/// A file of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub name: BlockName,
    pub len_bytes: u64,
    pub used_at: SystemTime,
}

/// Of the folder's disk.
#[derive(Debug, Clone, Copy)]
pub struct Space {
    pub free_bytes: u64,
    pub total_bytes: u64,
}

/// Whether nothing more fits on the disk, or what this user may have of it.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}

/// The name of a place's folder.
pub fn name_of(place: impl AsRef<[u8]>) -> String {
    let hash: [u8; 16] = Md5::digest(place).into();
    format!("{:032x}", u128::from_be_bytes(hash))
}

fn is_of_blocks(folder: &str) -> bool {
    folder.len() == 2 && u8::from_str_radix(folder, 16).is_ok()
}

impl Folder {
    /// Makes it where there is none, for this user alone, and locks it. Each place (bucket,
    /// prefix and endpoint) has one of its own below `root`.
    pub fn open(root: &Path, place: &str) -> Result<Self, FolderError> {
        // One that is there may be others' too, who keep their way to it.
        if !root.is_dir() {
            private::directory(root)?;
        }
        let path = root.join(name_of(place));
        private::directory(&path)?;
        let io_error = |source| FolderError::Io {
            path: path.clone(),
            source,
        };
        let Some(this) = Self::lock(&path).map_err(io_error)? else {
            return Err(FolderError::InUse(path));
        };
        match this.write_file(PLACE, &[place.as_bytes(), b"\n"]) {
            Err(error) if !is_full(&error) => Err(io_error(error)),
            _ => Ok(this),
        }
    }

    /// The folder that is there; none where somebody uses or removes it.
    fn lock(path: &Path) -> io::Result<Option<Self>> {
        let dir = rustix::fs::open(path, FOLDER, Mode::empty())?;
        let locked = rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive);
        match locked.map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            outcome => outcome?,
        }
        let is_there = rustix::fs::fstat(&dir)?.st_nlink > 0;
        Ok(is_there.then_some(Self { dir }))
    }

    /// A folder that a daemon of this user has made for a place, while nobody uses it.
    pub fn unused(path: &Path) -> io::Result<Option<Self>> {
        let Some(this) = Self::lock(path)? else {
            return Ok(None);
        };
        let owner = rustix::fs::fstat(&this.dir)?.st_uid;
        let place = match this.read_file(PLACE, PLACE_LIMIT_BYTES) {
            Ok((_, place)) => place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let place = place.strip_suffix(b"\n").unwrap_or(&place);
        let is_named_so = path.file_name().is_some_and(|it| it == &*name_of(place));
        let is_ours = is_named_so && owner == rustix::process::geteuid().as_raw();
        Ok(is_ours.then_some(this))
    }

    /// Removes what daemons have made here, and the folder at `path` unless somebody has
    /// something else in it.
    pub fn remove_all(self, path: &Path) -> io::Result<()> {
        self.each_block(|entry| self.remove(entry.name))?;
        let leave_others = |removed: rustix::io::Result<()>| match removed.map_err(io::Error::from)
        {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            outcome => outcome,
        };
        for folder in self.names_in(".")?.iter().filter(|name| is_of_blocks(name)) {
            let removed = rustix::fs::unlinkat(&self.dir, folder, AtFlags::REMOVEDIR);
            leave_others(removed)?;
        }
        self.unlink(PLACE)?;
        leave_others(rustix::fs::rmdir(path))
    }

    /// The blocks used last, so many at most; others go. Other files stay.
    pub fn newest_blocks(&self, most: usize) -> io::Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let shorten = |found: &mut Vec<Entry>| {
            if found.len() <= most {
                return Ok(());
            }
            found.select_nth_unstable_by_key(most, |entry| Reverse(entry.used_at));
            let mut surplus = found.drain(most..);
            surplus.try_for_each(|entry| self.remove(entry.name))
        };
        self.each_block(|entry| {
            found.push(entry);
            if found.len() < most.saturating_add(SURPLUS_LIMIT) {
                return Ok(());
            }
            shorten(&mut found)
        })?;
        shorten(&mut found)?;
        Ok(found)
    }

    /// Every block. What a predecessor did not finish goes.
    pub fn each_block(&self, mut take: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
        for folder in self.names_in(".")? {
            if folder == NEW {
                self.unlink(NEW)?;
            }
            if !is_of_blocks(&folder) {
                continue;
            }
            for file in self.names_in(&folder)? {
                let Some(name) = BlockName::parse(&folder, &file) else {
                    continue;
                };
                let path = format!("{folder}/{file}");
                let stat = rustix::fs::statat(&self.dir, path, AtFlags::SYMLINK_NOFOLLOW)?;
                let used = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0));
                take(Entry {
                    name,
                    len_bytes: u64::try_from(stat.st_size).unwrap_or(0),
                    used_at: SystemTime::UNIX_EPOCH + used,
                })?;
            }
        }
        Ok(())
    }

    fn names_in(&self, folder: &str) -> io::Result<Vec<String>> {
        let opened = match rustix::fs::openat(&self.dir, folder, FOLDER, Mode::empty()) {
            Ok(opened) => opened,
            // A file of somebody's with such a name is no folder of ours.
            Err(error) if io::Error::from(error).kind() == io::ErrorKind::NotADirectory => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        Ok(names)
    }

    /// The bytes of a block's file. Errors: `NotFound`; it is longer than the limit.
    pub fn read(&self, name: BlockName, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let (folder, file) = name.parts();
        let (opened, bytes) = self.read_file(&format!("{folder}/{file}"), limit_bytes)?;
        let used = opened.metadata()?.modified()?.elapsed();
        if used.is_ok_and(|since| since > USED_EVERY) {
            let now = Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_NOW,
            };
            let times = Timestamps {
                last_access: now,
                last_modification: now,
            };
            if let Err(error) = rustix::fs::futimens(&opened, &times) {
                tracing::debug!(%error, "when a cached block was last used is not noted");
            }
        }
        Ok(bytes)
    }

    fn read_file(&self, path: &str, limit_bytes: u64) -> io::Result<(File, Vec<u8>)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = File::from(rustix::fs::openat(&self.dir, path, flags, Mode::empty())?);
        let found = opened.metadata()?;
        if !found.is_file() || found.len() > limit_bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::with_capacity(found.len() as usize);
        (&opened).take(limit_bytes).read_to_end(&mut bytes)?;
        Ok((opened, bytes))
    }

    /// Writes a block's file, whole or not at all as long as the machine runs; whoever reads
    /// it finds what a power loss left of it.
    pub fn write(&self, name: BlockName, parts: &[&[u8]]) -> io::Result<()> {
        let written = self.write_file(NEW, parts).and_then(|()| self.place(name));
        if written.is_err() {
            // A full disk has no room for what is of no use.
            self.unlink(NEW)?;
        }
        written
    }

    fn place(&self, name: BlockName) -> io::Result<()> {
        let (folder, file) = name.parts();
        let path = format!("{folder}/{file}");
        let place = || rustix::fs::renameat(&self.dir, NEW, &self.dir, &path);
        match place().map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                rustix::fs::mkdirat(&self.dir, &folder, Mode::RWXU)?;
                Ok(place()?)
            }
            outcome => outcome,
        }
    }

    fn write_file(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::TRUNC
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NONBLOCK;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.dir, name, flags, mode)?);
        parts.iter().try_for_each(|part| file.write_all(part))
    }

    /// Removes a block's file, if it is there.
    pub fn remove(&self, name: BlockName) -> io::Result<()> {
        let (folder, file) = name.parts();
        self.unlink(&format!("{folder}/{file}"))
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let removed = rustix::fs::unlinkat(&self.dir, path, AtFlags::empty());
        match removed.map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    pub fn space(&self) -> io::Result<Space> {
        let disk = rustix::fs::fstatvfs(&self.dir)?;
        Ok(Space {
            free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            total_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}
