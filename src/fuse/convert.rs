//! Between the operations' terms and the protocol's.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, INodeNo, OpenAccMode, OpenFlags, RenameFlags,
    Request, RequestId, TimeOrNow, WriteFlags,
};

use crate::error::FsError;
use crate::files::{Attr, Caller, Delivery, KernelRequest, Thread};
use crate::ops::{
    Allocation, AttrChange, CachedPages, CopyEnd, NodeKind, Privileges, RenameMode, SpecialFile,
    TimeChange, Truncate, WriteOrigin, XattrMode,
};
use crate::vocabulary::{HandleId, Ino, Kind, OpenMode};

/// Preferred size of reads and writes, shown as `st_blksize`: one FUSE request each.
const IO_SIZE_BYTES: u32 = 1 << 20;
/// Set in the number of a request that is sent again. Source: linux/fuse.h, `FUSE_UNIQUE_RESEND`.
const UNIQUE_RESEND: u64 = 1 << 63;
/// Unit of `st_blocks`. Source: stat(2).
const STAT_BLOCK_BYTES: u64 = 512;

pub fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

pub fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
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
        rdev: attr.rdev,
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
        TimeOrNow::SpecificTime(at) => TimeChange::At(whole_time(at)),
    }
}

/// The kernel counts nanoseconds upwards from whole seconds, also before 1970;
/// fuser 0.18 takes them off there.
fn whole_time(decoded: SystemTime) -> SystemTime {
    match UNIX_EPOCH.duration_since(decoded) {
        Ok(before) => {
            let nanoseconds = Duration::from_nanos(u64::from(before.subsec_nanos()));
            UNIX_EPOCH - Duration::from_secs(before.as_secs()) + nanoseconds
        }
        Err(_) => decoded,
    }
}

/// Asked again, what was to be created may be there, by way of a predecessor.
///
/// Errors: `InvalidArgument` for flags that setxattr(2) does not know.
pub fn xattr_mode(flags: i32, attempt: Delivery) -> Result<XattrMode, FsError> {
    match flags {
        libc::XATTR_CREATE if attempt == Delivery::Resent => Ok(XattrMode::CreateOrReplace),
        0 => Ok(XattrMode::CreateOrReplace),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(FsError::InvalidArgument),
    }
}

/// What mknod(2) is to make.
pub fn node_kind(mode: u32, rdev: u32) -> NodeKind {
    let special = |kind, rdev| NodeKind::Special(SpecialFile { kind, rdev });
    match mode & libc::S_IFMT {
        libc::S_IFIFO => special(Kind::Fifo, None),
        libc::S_IFSOCK => special(Kind::Socket, None),
        libc::S_IFCHR => special(Kind::CharDevice, Some(rdev)),
        libc::S_IFBLK => special(Kind::BlockDevice, Some(rdev)),
        _ => NodeKind::File,
    }
}

pub fn rename_mode(flags: RenameFlags) -> Result<RenameMode, FsError> {
    match flags {
        flags if flags.is_empty() => Ok(RenameMode::Replace),
        RenameFlags::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
        _ => Err(FsError::InvalidArgument),
    }
}

/// What the kernel says of a write to a file that runs as its owner.
pub fn privileges(flags: WriteFlags) -> Privileges {
    if flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
        Privileges::Drop
    } else if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
        Privileges::Unknown
    } else {
        Privileges::Keep
    }
}

/// Without the kernel's own cache of writes it sends dirty pages for mappings alone.
pub fn write_origin(flags: WriteFlags) -> WriteOrigin {
    if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
        WriteOrigin::Mapping
    } else {
        WriteOrigin::Call
    }
}

/// Names of attributes that are not UTF-8 name nothing.
pub fn xattr_name(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

pub fn copy_end(handle: FileHandle, offset: u64) -> CopyEnd {
    CopyEnd {
        handle: HandleId(handle.0),
        offset,
    }
}

pub fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        thread: Thread(request.pid()),
        request: kernel_request(request),
    }
}

/// The kernel marks what it sends again after another daemon had read it.
pub fn kernel_request(request: &Request) -> KernelRequest {
    let RequestId(unique) = request.unique();
    KernelRequest {
        number: unique & !UNIQUE_RESEND,
        attempt: if unique & UNIQUE_RESEND == 0 {
            Delivery::First
        } else {
            Delivery::Resent
        },
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
    let epoch = UNIX_EPOCH;
    let attr = Attr {
        ino,
        kind: Kind::Directory,
        size_bytes: 0,
        links: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
    };
    (Duration::ZERO, file_attr(&attr))
}
