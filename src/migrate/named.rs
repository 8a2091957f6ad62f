//! A name of a directory that is walked.

use std::ffi::OsString;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType};

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
    /// Keys below a directory have a slash where a file's name ends. What is no UTF-8 is
    /// told, and so has its place, by another name.
    pub fn order(&self) -> String {
        let mut order = self.name.to_string_lossy().into_owned();
        if matches!(self.kind, Kind::Directory) {
            order.push('/');
        }
        order
    }
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
