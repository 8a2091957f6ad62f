//! One of the two trees that a case works on: both get the same system calls.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libc::{O_APPEND, O_CREAT, O_TRUNC, O_WRONLY};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::step::{SLOTS, Step};
use crate::support::sys;

/// Deepest directory that is looked into: no step makes a deeper one but a rename.
const DEPTH_LIMIT: usize = 16;

/// What a step told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Done,
    Bytes(Vec<u8>),
    Names(BTreeMap<String, Kind>),
    Stat { kind: Kind, len: u64, links: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Dir,
    File,
    Other,
}

/// The errno, where a step failed.
pub type Answer = Result<Told, i32>;

/// Everything in a tree: what each path is, or the errno that looking gave.
pub type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Dir,
    File(Vec<u8>),
    Refused(&'static str, i32),
}

#[derive(Debug)]
pub struct Side {
    pub root: PathBuf,
    open: [Option<Held>; SLOTS],
}

#[derive(Debug)]
struct Held {
    file: File,
    /// The name that it was opened by.
    path: &'static str,
}

impl Side {
    pub fn new(root: PathBuf) -> Self {
        Self {
            root,
            open: Default::default(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Does a step; those of other clients and remounts are the case's.
    pub fn perform(&mut self, step: &Step) -> Answer {
        match step {
            Step::Open(slot, path, flags) => {
                let closed = self.close(*slot);
                let file = sys::open(self.at(path), *flags);
                let file = file.map_err(|error| errno(&error))?;
                self.open[*slot] = Some(Held { file, path });
                closed
            }
            Step::Close(slot) => self.close(*slot),
            Step::WriteFile(path, data) => self.write(path, O_CREAT | O_TRUNC, &data.bytes()),
            Step::AppendFile(path, data) => self.write(path, O_APPEND, &data.bytes()),
            Step::Put(..) | Step::Delete(..) | Step::Remount => unreachable!("{step:?}"),
            _ => {
                let by_name = self.change_name(step).or_else(|| self.ask_name(step));
                let told = by_name.unwrap_or_else(|| self.use_open(step));
                told.map_err(|error| errno(&error))
            }
        }
    }

    fn change_name(&self, step: &Step) -> Option<io::Result<Told>> {
        let done = match step {
            Step::Truncate(path, len) => truncate(&self.at(path), *len),
            Step::Rename(from, to) => fs::rename(self.at(from), self.at(to)),
            Step::RenameNoReplace(from, to) => {
                let (from, to) = (self.at(from), self.at(to));
                renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(Into::into)
            }
            Step::Exchange(from, to) => {
                let (from, to) = (self.at(from), self.at(to));
                renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE).map_err(Into::into)
            }
            Step::Unlink(path) => unlink(&self.at(path)),
            Step::Mkdir(path) => fs::DirBuilder::new().mode(0o755).create(self.at(path)),
            Step::Rmdir(path) => fs::remove_dir(self.at(path)),
            Step::Chmod(path, mode) => {
                fs::set_permissions(self.at(path), Permissions::from_mode(*mode))
            }
            _ => return None,
        };
        Some(done.map(|()| Told::Done))
    }

    fn ask_name(&self, step: &Step) -> Option<io::Result<Told>> {
        match step {
            Step::ReadDir(path) => Some(names(&self.at(path)).map(Told::Names)),
            Step::Stat(path) => Some(fs::symlink_metadata(self.at(path)).map(|meta| stat(&meta))),
            _ => None,
        }
    }

    fn use_open(&mut self, step: &Step) -> io::Result<Told> {
        let slot = match step {
            Step::WriteAt(slot, ..) | Step::Write(slot, _) | Step::ReadAt(slot, ..) => slot,
            Step::SetLen(slot, _) | Step::Allocate(slot, ..) => slot,
            Step::StatOpen(slot) | Step::Sync(slot) => slot,
            _ => unreachable!("{step:?}"),
        };
        let Some(Held { file, .. }) = &mut self.open[*slot] else {
            return Ok(Told::Done);
        };
        let done = match step {
            Step::WriteAt(_, offset, data) => file.write_all_at(&data.bytes(), *offset),
            Step::Write(_, data) => file.write_all(&data.bytes()),
            Step::SetLen(_, len) => file.set_len(*len),
            Step::Allocate(_, how, offset, len) => allocate(file, *how, *offset, *len),
            Step::Sync(_) => file.sync_all(),
            Step::StatOpen(_) => return file.metadata().map(|meta| stat(&meta)),
            Step::ReadAt(_, offset, len) => return read_at(file, *offset, *len).map(Told::Bytes),
            _ => unreachable!("{step:?}"),
        };
        done.map(|()| Told::Done)
    }

    fn close(&mut self, slot: usize) -> Answer {
        match self.open[slot].take() {
            Some(held) => match sys::close(held.file) {
                Ok(()) => Ok(Told::Done),
                Err(error) => Err(errno(&error)),
            },
            None => Ok(Told::Done),
        }
    }

    fn write(&self, path: &str, flags: i32, bytes: &[u8]) -> Answer {
        let write = || {
            let mut file = sys::open(self.at(path), O_WRONLY | flags)?;
            let written = file.write_all(bytes);
            sys::close(file).and(written)
        };
        match write() {
            Ok(()) => Ok(Told::Done),
            Err(error) => Err(errno(&error)),
        }
    }

    /// Closes every file.
    pub fn close_all(&mut self) -> Vec<Answer> {
        (0..SLOTS).map(|slot| self.close(slot)).collect()
    }

    /// Slots whose files stand for the same inode as `path` does now.
    pub fn slots_of(&self, path: &str) -> Vec<usize> {
        let Ok(there) = fs::symlink_metadata(self.at(path)) else {
            return Vec::new();
        };
        let same = |held: &Held| held.file.metadata().is_ok_and(|m| m.ino() == there.ino());
        let slots = self.open.iter().enumerate();
        slots
            .filter(|(_, held)| held.as_ref().is_some_and(same))
            .map(|(slot, _)| slot)
            .collect()
    }

    /// The names that the open files were opened by, for messages.
    pub fn held(&self) -> Vec<Option<&'static str>> {
        let held = self.open.iter();
        held.map(|held| held.as_ref().map(|held| held.path))
            .collect()
    }

    /// Reads the whole tree, each file to its end.
    pub fn tree(&self) -> Tree {
        let mut tree = Tree::new();
        walk(&self.root, "", DEPTH_LIMIT, &mut tree);
        tree
    }
}

fn walk(dir: &Path, prefix: &str, depth: usize, tree: &mut Tree) {
    let listed = match names(dir) {
        Ok(listed) => listed,
        Err(error) => {
            tree.insert(prefix.to_owned(), Node::Refused("readdir", errno(&error)));
            return;
        }
    };
    assert!(depth > 0, "{} is too deep", dir.display());
    for (name, kind) in listed {
        let (path, key) = (dir.join(&name), format!("{prefix}{name}"));
        let node = look(&path, kind);
        let is_dir = node == Node::Dir;
        tree.insert(key.clone(), node);
        if is_dir {
            walk(&path, &format!("{key}/"), depth - 1, tree);
        }
    }
}

/// What a listed path is; listing, stat(2) and read(2) must tell the same.
fn look(path: &Path, listed: Kind) -> Node {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return Node::Refused("stat", errno(&error)),
    };
    if kind(meta.file_type()) != listed {
        return Node::Refused("kind as listed", 0);
    }
    if listed == Kind::Dir {
        return Node::Dir;
    }
    match fs::read(path) {
        Ok(bytes) if bytes.len() as u64 == meta.len() => Node::File(bytes),
        Ok(_) => Node::Refused("size as in stat", 0),
        Err(error) => Node::Refused("read", errno(&error)),
    }
}

fn names(dir: &Path) -> io::Result<BTreeMap<String, Kind>> {
    let mut names = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap();
        let twice = names.insert(name, kind(entry.file_type()?));
        assert!(twice.is_none(), "{:?} is listed twice", entry.path());
    }
    Ok(names)
}

fn kind(of: fs::FileType) -> Kind {
    match of {
        of if of.is_dir() => Kind::Dir,
        of if of.is_file() => Kind::File,
        _ => Kind::Other,
    }
}

fn stat(meta: &fs::Metadata) -> Told {
    let kind = kind(meta.file_type());
    // A directory's size and links are the file system's own affair.
    let (len, links) = match kind {
        Kind::Dir => (0, 0),
        _ => (meta.len(), meta.nlink()),
    };
    Told::Stat { kind, len, links }
}

fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

fn path_of(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

fn done(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn truncate(path: &Path, len: u64) -> io::Result<()> {
    let path = path_of(path);
    // SAFETY: the path is a C string that outlives the call.
    done(unsafe { libc::truncate(path.as_ptr(), len as i64) })
}

/// `remove_file` without what `std` might add.
fn unlink(path: &Path) -> io::Result<()> {
    let path = path_of(path);
    // SAFETY: the path is a C string that outlives the call.
    done(unsafe { libc::unlink(path.as_ptr()) })
}

fn allocate(file: &File, how: i32, offset: u64, len: u64) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    done(unsafe { libc::fallocate(file.as_raw_fd(), how, offset as i64, len as i64) })
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(-1)
}
