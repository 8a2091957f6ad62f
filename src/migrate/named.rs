//! A name of a directory that is walked.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::entry::Stat;
use super::marked::is_marked;

/// A name of a directory, and what it is.
pub struct Named {
    pub name: OsString,
    pub kind: Kind,
}

pub enum Kind {
    File,
    Directory,
    Symlink,
    Special,
    /// Nothing can be said of it.
    Unknown(String),
}

impl Kind {
    pub fn of(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Special,
        }
    }
}

impl Named {
    /// Keys below a directory have a slash where a file's name ends. What is no UTF-8 has
    /// its place by how it is told.
    pub fn order(&self) -> String {
        let mut order = told(&self.name);
        if matches!(self.kind, Kind::Directory) {
            order.push('/');
        }
        order
    }
}

/// A name with the bytes that are no UTF-8 as `\\xNN`.
pub fn told(name: &OsStr) -> String {
    let chunks = name.as_bytes().utf8_chunks();
    let chunks = chunks.map(|chunk| {
        let bytes = chunk.invalid().iter();
        let bytes: String = bytes.map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{bytes}", chunk.valid())
    });
    chunks.collect()
}

/// A file with the name of an unfinished one, if an export has made it.
pub fn unfinished(directory: BorrowedFd<'_>, named: &Named) -> Option<Stat> {
    let Kind::File = named.kind else {
        return None;
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, named.name.as_os_str(), flags, Mode::empty());
    let file = File::from(opened.ok()?);
    let found = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    is_marked(&file).then(|| Stat::from(&found))
}

/// Whether names that are included may lie behind one that is not followed.
pub fn may_be_directory(directory: BorrowedFd<'_>, named: &Named) -> bool {
    match named.kind {
        Kind::File | Kind::Directory | Kind::Special => false,
        Kind::Unknown(_) => true,
        Kind::Symlink => {
            let target = rustix::fs::statat(directory, named.name.as_os_str(), AtFlags::empty());
            target.map_or(true, |it| {
                FileType::from_raw_mode(it.st_mode) == FileType::Directory
            })
        }
    }
}
