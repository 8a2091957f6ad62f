//! The requests of the FUSE protocol, one method each.

use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::{Adapter, convert, negotiate, refuse};
use crate::error::FsError;
use crate::namespace::{Ino, Name};
use crate::ops::{Entry, Exclusive, HandleId, RenameMode, Taken};

/// Inode numbers are never given out twice in the life of a mount.
const GENERATION: Generation = Generation(0);
/// Shown by a plain listing for files that were not looked up. Source: fs/fuse/fuse_i.h, `FUSE_UNKNOWN_INO`.
const UNKNOWN_INO: INodeNo = INodeNo(0xffff_ffff);

/// The rest of the method with a decoded name, or the answer that the name cannot be.
macro_rules! name_or_refuse {
    ($operation:literal, $parent:expr, $name:expr, $reply:expr) => {
        match Name::from_os($name) {
            Ok(name) => name,
            Err(error) => return $reply.error(refuse($operation, $parent.0, &error)),
        }
    };
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate::negotiate(config);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name_or_refuse!("lookup", parent, name, reply);
        let ops = self.ops.clone();
        self.answer(async move {
            match ops.lookup(convert::ino(parent), &name).await {
                Ok(entry) => give_entry(reply, &entry),
                Err(FsError::NotFound) => {
                    let (validity, attr) = convert::negative(ops.negative_validity().0);
                    reply.entry(&validity, &attr, GENERATION);
                }
                Err(error) => reply.error(refuse("lookup", parent.0, &error)),
            }
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.ops.forget(convert::ino(ino), nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let ops = self.ops.clone();
        self.answer(async move {
            match ops.getattr(convert::ino(ino)).await {
                Ok((attr, validity)) => reply.attr(&validity.0, &convert::file_attr(&attr)),
                Err(error) => reply.error(refuse("getattr", ino.0, &error)),
            }
        });
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let ops = self.ops.clone();
        let change = convert::attr_change(mode, (uid, gid), size, (atime, mtime));
        self.answer(async move {
            match ops.setattr(convert::ino(ino), fh.map(handle), change).await {
                Ok((attr, validity)) => reply.attr(&validity.0, &convert::file_attr(&attr)),
                Err(error) => reply.error(refuse("setattr", ino.0, &error)),
            }
        });
    }

    fn mkdir(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let name = name_or_refuse!("mkdir", parent, name, reply);
        let ops = self.ops.clone();
        self.answer(async move {
            match ops.mkdir(convert::ino(parent), &name).await {
                Ok(entry) => give_entry(reply, &entry),
                Err(error) => reply.error(refuse("mkdir", parent.0, &error)),
            }
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name_or_refuse!("unlink", parent, name, reply);
        let ops = self.ops.clone();
        self.answer(async move {
            done(
                reply,
                "unlink",
                parent,
                ops.unlink(convert::ino(parent), &name).await,
            );
        });
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name_or_refuse!("rmdir", parent, name, reply);
        let ops = self.ops.clone();
        self.answer(async move {
            done(
                reply,
                "rmdir",
                parent,
                ops.rmdir(convert::ino(parent), &name).await,
            );
        });
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let name = name_or_refuse!("rename", parent, name, reply);
        let new_name = name_or_refuse!("rename", newparent, newname, reply);
        let mode = match flags {
            flags if flags.is_empty() => RenameMode::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            _ => return reply.error(refuse("rename", parent.0, &FsError::InvalidArgument)),
        };
        let ops = self.ops.clone();
        self.answer(async move {
            let (from, to) = (convert::ino(parent), convert::ino(newparent));
            done(
                reply,
                "rename",
                parent,
                ops.rename(from, &name, to, &new_name, mode).await,
            );
        });
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let ops = self.ops.clone();
        self.answer(async move {
            let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
            match ops.open(convert::ino(ino), mode, truncate).await {
                Ok(opened) => {
                    reply.opened(
                        FileHandle(opened.handle.0),
                        convert::fopen_flags(opened.pages),
                    );
                }
                Err(error) => reply.error(refuse("open", ino.0, &error)),
            }
        });
    }

    fn create(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let name = name_or_refuse!("create", parent, name, reply);
        let exclusive = if flags & libc::O_EXCL == 0 {
            Exclusive::No
        } else {
            Exclusive::Yes
        };
        let flags = OpenFlags(flags);
        let ops = self.ops.clone();
        self.answer(async move {
            let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
            match ops
                .create(convert::ino(parent), &name, mode, exclusive, truncate)
                .await
            {
                Ok(created) => reply.created(
                    &created.entry.validity.0,
                    &convert::file_attr(&created.entry.attr),
                    GENERATION,
                    FileHandle(created.opened.handle.0),
                    convert::fopen_flags(created.opened.pages),
                ),
                Err(error) => reply.error(refuse("create", parent.0, &error)),
            }
        });
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let ops = self.ops.clone();
        self.answer(async move {
            match ops
                .read(handle(fh), offset..offset.saturating_add(u64::from(size)))
                .await
            {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(refuse("read", ino.0, &error)),
            }
        });
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.ops.write(handle(fh), offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(refuse("write", ino.0, &error)),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let ops = self.ops.clone();
        self.answer(async move { done(reply, "flush", ino, ops.flush(handle(fh)).await) });
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let ops = self.ops.clone();
        self.answer(async move { done(reply, "fsync", ino, ops.fsync(handle(fh)).await) });
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let ops = self.ops.clone();
        self.answer(async move { done(reply, "release", ino, ops.release(handle(fh)).await) });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.ops.opendir(convert::ino(ino)) {
            Ok(id) => reply.opened(FileHandle(id.0), FopenFlags::empty()),
            Err(error) => reply.error(refuse("opendir", ino.0, &error)),
        }
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let ops = self.ops.clone();
        self.answer(async move {
            match ops.readdir(handle(fh), offset).await {
                Ok(entries) => {
                    for entry in entries {
                        let number = entry.ino.map_or(UNKNOWN_INO, |ino| INodeNo(ino.0));
                        let kind = convert::file_type(entry.kind);
                        if reply.add(number, entry.next_offset, kind, &entry.name) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Err(error) => reply.error(refuse("readdir", ino.0, &error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ops = self.ops.clone();
        self.answer(async move {
            let outcome = ops
                .readdirplus(handle(fh), offset, |listed| {
                    let (validity, attr) = match listed.entry {
                        Some(entry) => (entry.validity.0, convert::file_attr(&entry.attr)),
                        None => convert::dot(listed.plain.ino.unwrap_or(Ino(ino.0))),
                    };
                    let (offset, name) = (listed.plain.next_offset, &listed.plain.name);
                    if reply.add(attr.ino, offset, name, &validity, &attr, GENERATION) {
                        Taken::Full
                    } else {
                        Taken::Yes
                    }
                })
                .await;
            match outcome {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(refuse("readdirplus", ino.0, &error)),
            }
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.ops.releasedir(handle(fh));
        reply.ok();
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        done(reply, "fsyncdir", ino, self.ops.fsyncdir(handle(fh)));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let stats = self.ops.statfs();
        let (blocks, files, size) = (stats.blocks, stats.files, stats.block_size_bytes);
        reply.statfs(
            blocks,
            blocks,
            blocks,
            files,
            files,
            size,
            stats.name_limit_bytes,
            size,
        );
    }

    fn access(&self, _req: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        done(reply, "access", ino, self.ops.access(convert::ino(ino)));
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        // The kernel asks no more, which spares one request for each write.
        reply.error(refuse("getxattr", ino.0, &FsError::NotImplemented));
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(refuse("ioctl", ino.0, &FsError::NotATty));
    }
}

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}

fn give_entry(reply: ReplyEntry, entry: &Entry) {
    reply.entry(
        &entry.validity.0,
        &convert::file_attr(&entry.attr),
        GENERATION,
    );
}

fn done(reply: ReplyEmpty, operation: &'static str, ino: INodeNo, outcome: Result<(), FsError>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(refuse(operation, ino.0, &error)),
    }
}
