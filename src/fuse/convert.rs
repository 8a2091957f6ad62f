//! Between the operations' terms and the protocol's.

use std::time::Duration;

use fuser::{FileAttr, FileType, FopenFlags, INodeNo, OpenAccMode, OpenFlags, TimeOrNow};

use crate::error::FsError;
use crate::namespace::{Ino, Kind};
use crate::ops::{Allocation, Attr, AttrChange, CachedPages, OpenMode, TimeChange, Truncate};

/// Preferred size of reads and writes, shown as `st_blksize`: one FUSE request each.
const IO_SIZE_BYTES: u32 = 1 << 20;
/// Unit of `st_blocks`. Source: stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

pub fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
    }
}

pub fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size_bytes,
        blocks: attr.size_bytes.div_ceil(STAT_BLOCK_BYTES),
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: attr.ctime,
        kind: file_type(attr.kind),
        perm: attr.mode,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: IO_SIZE_BYTES,
        flags: 0,
    }
}

pub fn open_mode(flags: OpenFlags) -> OpenMode {
    match flags.acc_mode() {
        OpenAccMode::O_RDONLY => OpenMode::Read,
        OpenAccMode::O_WRONLY => OpenMode::Write,
        OpenAccMode::O_RDWR => OpenMode::ReadWrite,
    }
}

pub fn truncate(flags: OpenFlags) -> Truncate {
    if flags.0 & libc::O_TRUNC == 0 {
        Truncate::No
    } else {
        Truncate::Yes
    }
}

pub fn fopen_flags(pages: CachedPages) -> FopenFlags {
    match pages {
        CachedPages::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        CachedPages::Drop => FopenFlags::empty(),
    }
}

/// Errors: `Unsupported` for what would shift bytes.
pub fn allocation(mode: i32) -> Result<Allocation, FsError> {
    const PUNCH_HOLE: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP_SIZE: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Ok(Allocation::Grow),
        libc::FALLOC_FL_KEEP_SIZE => Ok(Allocation::KeepSize),
        PUNCH_HOLE | ZERO_KEEP_SIZE => Ok(Allocation::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Ok(Allocation::ZeroAndGrow),
        _ => Err(FsError::Unsupported),
    }
}

/// Permission bits of a mode; its file type is not ours to change.
pub fn permissions(mode: u32) -> u16 {
    (mode & 0o7777) as u16
}

pub fn time_change(time: TimeOrNow) -> TimeChange {
    match time {
        TimeOrNow::Now => TimeChange::Now,
        TimeOrNow::SpecificTime(at) => TimeChange::At(at),
    }
}

/// What `setattr` asks for, out of the many arguments of the protocol.
pub fn attr_change(
    mode: Option<u32>,
    owner: (Option<u32>, Option<u32>),
    size_bytes: Option<u64>,
    times: (Option<TimeOrNow>, Option<TimeOrNow>),
) -> AttrChange {
    AttrChange {
        mode: mode.map(permissions),
        uid: owner.0,
        gid: owner.1,
        size_bytes,
        atime: times.0.map(time_change),
        mtime: times.1.map(time_change),
    }
}

/// `.` and `..` in a listing: the kernel takes only number and type.
pub fn dot(ino: Ino) -> (Duration, FileAttr) {
    let epoch = std::time::UNIX_EPOCH;
    let attr = Attr {
        ino,
        kind: Kind::Directory,
        size_bytes: 0,
        links: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
    };
    (Duration::ZERO, file_attr(&attr))
}
