//! The requests of the FUSE protocol, one method each.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::call::Call;
use super::in_flight::Locked;
use super::negotiate::Listings;
use super::pending::{Listed, PendingReply};
use super::{Adapter, contained, convert, errno_logged, negotiate, reply};
use crate::error::FsError;
use crate::namespace::Name;
use crate::ops::{BufferSpace, CreateRequest, DirEntryPlus, Exclusive, HandleId, Truncate};

/// The rest of the method with a decoded name, or the answer that the name cannot be.
macro_rules! name_or_refuse {
    ($call:expr, $name:expr, $reply:expr) => {
        match Name::from_os($name) {
            Ok(name) => name,
            Err(error) => return $reply.error(errno_logged($call, &error)),
        }
    };
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let listings = if self.ops.lists_attributes() {
            Listings::WithAttributes
        } else {
            Listings::NamesOnly
        };
        negotiate::negotiate(config, listings);
        if !config.capabilities().contains(InitFlags::FUSE_HAS_RESEND) {
            self.requests.record();
        }
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let call = Call::on("lookup", parent);
        let name = name_or_refuse!(call, name, reply);
        let (ops, dir) = (self.ops.clone(), convert::ino(parent));
        let operation = async move { ops.lookup(dir, &name).await };
        let give = move |reply, outcome| reply::give_entry(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let _at_work = self.loops.at_work();
        let forget = || self.ops.forget(convert::ino(ino), nlookup);
        contained(Call::on("forget", ino), forget);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let call = Call::on("getattr", ino);
        let ops = self.ops.clone();
        let operation = async move { ops.getattr(convert::ino(ino)).await };
        let give = move |reply, outcome| reply::give_attr(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
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
        let call = Call::on("setattr", ino);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let change = convert::attr_change(mode, (uid, gid), size, (atime, mtime));
        let changed = convert::ino(ino);
        let operation = async move { ops.setattr(changed, fh.map(handle), caller, change).await };
        let give = move |reply, outcome| reply::give_attr(reply, call, outcome);
        self.answer(
            req,
            call.locking(Locked::One(changed)),
            reply,
            operation,
            give,
        );
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let call = Call::on("readlink", ino);
        let ops = self.ops.clone();
        let operation = async move { ops.readlink(convert::ino(ino)).await };
        let give = move |reply, outcome| reply::give_data(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let call = Call::on("mknod", parent);
        let name = name_or_refuse!(call, name, reply);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let dir = convert::ino(parent);
        let operation = async move {
            let (kind, permissions) = (convert::node_kind(mode, rdev), convert::permissions(mode));
            ops.mknod(dir, &name, kind, permissions, caller).await
        };
        let give = move |reply, outcome| reply::give_entry(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let call = Call::on("mkdir", parent);
        let name = name_or_refuse!(call, name, reply);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let dir = convert::ino(parent);
        let permissions = convert::permissions(mode);
        let operation = async move { ops.mkdir(dir, &name, permissions, caller).await };
        let give = move |reply, outcome| reply::give_entry(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let call = Call::on("symlink", parent);
        let name = name_or_refuse!(call, link_name, reply);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let target = Bytes::copy_from_slice(target.as_os_str().as_bytes());
        let dir = convert::ino(parent);
        let operation = async move { ops.symlink(dir, &name, target, caller).await };
        let give = move |reply, outcome| reply::give_entry(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on("unlink", parent);
        let name = name_or_refuse!(call, name, reply);
        let (ops, attempt) = (self.ops.clone(), convert::kernel_request(req).attempt);
        let dir = convert::ino(parent);
        let operation = async move { ops.unlink(dir, &name, attempt).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on("rmdir", parent);
        let name = name_or_refuse!(call, name, reply);
        let (ops, attempt) = (self.ops.clone(), convert::kernel_request(req).attempt);
        let dir = convert::ino(parent);
        let operation = async move { ops.rmdir(dir, &name, attempt).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("rename", parent);
        let name = name_or_refuse!(call, name, reply);
        let new_name = name_or_refuse!(call, newname, reply);
        let mode = match convert::rename_mode(flags) {
            Ok(mode) => mode,
            Err(error) => return reply.error(errno_logged(call, &error)),
        };
        let (ops, request) = (self.ops.clone(), convert::kernel_request(req));
        let (from, to) = (convert::ino(parent), convert::ino(newparent));
        let operation = async move {
            ops.rename((from, &name), (to, &new_name), mode, request)
                .await
        };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(
            req,
            call.locking(Locked::Two(from, to)),
            reply,
            operation,
            give,
        );
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::on("open", ino);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
        let opened = convert::ino(ino);
        let locked = match truncate {
            Truncate::Yes => Locked::One(opened),
            Truncate::No => Locked::Nothing,
        };
        let operation = async move { ops.open(opened, mode, truncate, caller).await };
        let give = move |reply, outcome| reply::give_opened(reply, call, outcome);
        self.answer(req, call.locking(locked), reply, operation, give);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let call = Call::on("create", parent);
        let name = name_or_refuse!(call, name, reply);
        let exclusive = if flags & libc::O_EXCL == 0 {
            Exclusive::No
        } else {
            Exclusive::Yes
        };
        let flags = OpenFlags(flags);
        let (ops, dir) = (self.ops.clone(), convert::ino(parent));
        let request = CreateRequest {
            mode: convert::open_mode(flags),
            exclusive,
            truncate: convert::truncate(flags),
            permissions: convert::permissions(mode),
            maker: convert::caller(req),
        };
        let operation = async move { ops.create(dir, &name, request).await };
        let give = move |reply, outcome| reply::give_created(reply, call, outcome);
        self.answer(req, call.locking(Locked::One(dir)), reply, operation, give);
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = Call::on("read", ino);
        let ops = self.ops.clone();
        let range = offset..offset.saturating_add(u64::from(size));
        let operation = async move { ops.read(handle(fh), range).await };
        let give = move |reply, outcome| reply::give_data(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = Call::on("write", ino);
        let caller = convert::caller(req);
        let how = (
            convert::privileges(write_flags),
            convert::write_origin(write_flags),
        );
        let mut waits = None;
        self.at_once(req, call, || {
            match self.ops.write(handle(fh), caller, how, offset, data) {
                Ok(()) => reply.written(data.len() as u32),
                Err(FsError::NoSpace) if self.ops.offloads() => waits = Some(reply),
                Err(error) => reply.error(errno_logged(call, &error)),
            }
        });
        if let Some(reply) = waits {
            let (ops, data) = (self.ops.clone(), data.to_vec());
            let operation = async move {
                let written = ops.write_with_room(handle(fh), caller, how, offset, &data);
                written.await.map(|()| data.len() as u64)
            };
            let give = move |reply, outcome| reply::give_copied(reply, call, outcome);
            self.answer(req, call, reply, operation, give);
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
        let call = Call::on("flush", ino);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let operation = async move { ops.flush(handle(fh), caller.thread).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("fsync", ino);
        let ops = self.ops.clone();
        let operation = async move { ops.fsync(handle(fh)).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("release", ino);
        let ops = self.ops.clone();
        // Nobody waits for it.
        self.run(req, call, None, async move {
            reply::done(reply, call, ops.release(handle(fh)).await)
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::on("opendir", ino);
        let request = convert::kernel_request(req);
        self.at_once(req, call, || {
            match self.ops.opendir(convert::ino(ino), request) {
                Ok(id) => reply.opened(FileHandle(id.0), FopenFlags::empty()),
                Err(error) => reply.error(errno_logged(call, &error)),
            }
        });
    }

    fn readdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let call = Call::on("readdir", ino);
        let ops = self.ops.clone();
        let operation = async move { ops.readdir(handle(fh), offset).await };
        let give = move |reply, outcome| reply::give_listing(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let call = Call::on("readdirplus", ino);
        let ops = self.ops.clone();
        let reply = Arc::new(PendingReply::new(reply));
        let filled = reply.clone();
        let operation = async move {
            let mut given = Listed::default();
            let add = |listed: DirEntryPlus| {
                let added = filled.fill(|reply| reply::add_listed(reply, &listed));
                let added = added.unwrap_or(BufferSpace::Full);
                if added == BufferSpace::Yes {
                    given.0.extend(listed.entry.map(|entry| entry.attr.ino));
                }
                added
            };
            ops.readdirplus(handle(fh), offset, add).await?;
            Ok(given)
        };
        self.answer_filled(
            req,
            call,
            reply,
            operation,
            move |reply, outcome| match outcome {
                Ok(_) => reply.ok(),
                Err(error) => reply.error(errno_logged(call, &error)),
            },
        );
    }

    fn releasedir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.at_once(req, Call::on("releasedir", ino), || {
            self.ops.releasedir(handle(fh));
            reply.ok();
        });
    }

    fn fsyncdir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("fsyncdir", ino);
        let ops = self.ops.clone();
        let operation = async move { ops.fsyncdir(handle(fh)).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let call = Call::on("statfs", ino);
        self.at_once(req, call, || reply::give_stats(reply, self.ops.statfs()));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("setxattr", ino);
        let mode = match convert::xattr_mode(flags, convert::kernel_request(req).attempt) {
            Ok(mode) => mode,
            Err(error) => return reply.error(errno_logged(call, &error)),
        };
        let (ops, name, value) = (self.ops.clone(), convert::xattr_name(name), value.to_vec());
        let changed = convert::ino(ino);
        let operation = async move { ops.setxattr(changed, &name, &value, mode).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(
            req,
            call.locking(Locked::One(changed)),
            reply,
            operation,
            give,
        );
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let call = Call::on("getxattr", ino);
        let (ops, name) = (self.ops.clone(), convert::xattr_name(name));
        let operation = async move { ops.getxattr(convert::ino(ino), &name).await };
        let give = move |reply, outcome| reply::give_xattr(reply, call, size, outcome);
        self.answer(req, call, reply, operation, give);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let call = Call::on("listxattr", ino);
        self.at_once(req, call, || {
            let names = self.ops.listxattr(convert::ino(ino));
            let joined = names.map(|names| names.into_iter().flat_map(|n| (n + "\0").into_bytes()));
            reply::give_xattr(reply, call, size, joined.map(Iterator::collect));
        });
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on("removexattr", ino);
        let (ops, name) = (self.ops.clone(), convert::xattr_name(name));
        let attempt = convert::kernel_request(req).attempt;
        let changed = convert::ino(ino);
        let operation = async move { ops.removexattr(changed, &name, attempt).await };
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(
            req,
            call.locking(Locked::One(changed)),
            reply,
            operation,
            give,
        );
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let call = Call::on("copy_file_range", ino_in);
        let ops = self.ops.clone();
        let (from, to) = (
            convert::copy_end(fh_in, offset_in),
            convert::copy_end(fh_out, offset_out),
        );
        let operation = async move { ops.copy_file_range(from, to, len).await };
        let locked = Locked::One(convert::ino(ino_out));
        let give = move |reply, outcome| reply::give_copied(reply, call, outcome);
        self.answer(req, call.locking(locked), reply, operation, give);
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
        let call = Call::on("fallocate", ino);
        let how = match convert::allocation(mode) {
            Ok(how) => how,
            Err(error) => return reply.error(errno_logged(call, &error)),
        };
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let range = offset..offset.saturating_add(length);
        let operation = async move { ops.fallocate(handle(fh), caller, range, how).await };
        let locked = Locked::One(convert::ino(ino));
        let give = move |reply, outcome| reply::done(reply, call, outcome);
        self.answer(req, call.locking(locked), reply, operation, give);
    }

    fn ioctl(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let call = Call::on("ioctl", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotATty));
    }

    /// One file is one object.
    fn link(
        &self,
        req: &Request,
        ino: INodeNo,
        _newparent: INodeNo,
        _newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let call = Call::on("link", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotPermitted));
    }

    /// The kernel asks once: from then on it takes a file for data to its end.
    fn lseek(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _offset: i64,
        _whence: i32,
        reply: ReplyLseek,
    ) {
        let call = Call::on("lseek", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotImplemented));
    }

    /// The kernel asks once: from then on files are always ready.
    fn poll(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        let call = Call::on("poll", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotImplemented));
    }

    /// The kernel asks once, and only where it does not decide by modes itself.
    fn access(&self, req: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let call = Call::on("access", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotImplemented));
    }

    /// Locks are the kernel's own: it asks for none.
    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let call = Call::on("getlk", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotImplemented));
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::on("setlk", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::NotImplemented));
    }

    /// There are no blocks to number.
    fn bmap(&self, req: &Request, ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        let call = Call::on("bmap", ino);
        let _in_flight = self.in_flight(req);
        reply.error(errno_logged(call, &FsError::InvalidArgument));
    }
}

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}
