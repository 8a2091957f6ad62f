//! The requests of the FUSE protocol, one method each.

use std::ffi::OsStr;
use std::io;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::{Adapter, convert, negotiate, refuse, reply};
use crate::error::FsError;
use crate::namespace::Name;
use crate::ops::{DirEntryPlus, Exclusive, HandleId, RenameMode, Thread};

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
            let outcome = ops.lookup(convert::ino(parent), &name).await;
            reply::give_entry(reply, "lookup", parent, outcome);
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.ops.forget(convert::ino(ino), nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let ops = self.ops.clone();
        self.answer(async move {
            reply::give_attr(reply, "getattr", ino, ops.getattr(convert::ino(ino)).await);
        });
    }

    fn setattr(
        &self,
        req: &Request,
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
        let (ops, thread) = (self.ops.clone(), thread_of(req));
        let change = convert::attr_change(mode, (uid, gid), size, (atime, mtime));
        self.answer(async move {
            let outcome = ops
                .setattr(convert::ino(ino), fh.map(handle), thread, change)
                .await;
            reply::give_attr(reply, "setattr", ino, outcome);
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
            reply::give_entry(
                reply,
                "mkdir",
                parent,
                ops.mkdir(convert::ino(parent), &name).await,
            );
        });
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name_or_refuse!("unlink", parent, name, reply);
        let ops = self.ops.clone();
        self.answer(async move {
            reply::done(
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
            reply::done(
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
            reply::done(
                reply,
                "rename",
                parent,
                ops.rename(from, &name, to, &new_name, mode).await,
            );
        });
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let (ops, thread) = (self.ops.clone(), thread_of(req));
        self.answer(async move {
            let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
            match ops.open(convert::ino(ino), mode, truncate, thread).await {
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
        req: &Request,
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
        let (ops, thread) = (self.ops.clone(), thread_of(req));
        self.answer(async move {
            let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
            let outcome = ops
                .create(
                    convert::ino(parent),
                    &name,
                    mode,
                    exclusive,
                    truncate,
                    thread,
                )
                .await;
            reply::give_created(reply, parent, outcome);
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
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.ops.write(handle(fh), thread_of(req), offset, data) {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(refuse("write", ino.0, &error)),
        }
    }

    fn flush(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let (ops, thread) = (self.ops.clone(), thread_of(req));
        self.answer(async move {
            reply::done(reply, "flush", ino, ops.flush(handle(fh), thread).await)
        });
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
        self.answer(async move { reply::done(reply, "fsync", ino, ops.fsync(handle(fh)).await) });
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
        self.answer(
            async move { reply::done(reply, "release", ino, ops.release(handle(fh)).await) },
        );
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
        reply: ReplyDirectory,
    ) {
        let ops = self.ops.clone();
        self.answer(async move {
            match ops.readdir(handle(fh), offset).await {
                Ok(entries) => reply::give_listing(reply, &entries),
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
            let add = |listed: DirEntryPlus| reply::add_listed(&mut reply, ino, &listed);
            let outcome = ops.readdirplus(handle(fh), offset, add).await;
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
        reply::done(reply, "fsyncdir", ino, self.ops.fsyncdir(handle(fh)));
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply::give_stats(reply, self.ops.statfs());
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        // The kernel asks no more, which spares one request for each write.
        reply.error(refuse("getxattr", ino.0, &FsError::NotImplemented));
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let outcome = convert::allocation(mode).and_then(|how| {
            self.ops.fallocate(
                handle(fh),
                thread_of(req),
                offset..offset.saturating_add(length),
                how,
            )
        });
        reply::done(reply, "fallocate", ino, outcome);
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

fn thread_of(request: &Request) -> Thread {
    Thread(request.pid())
}

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}
