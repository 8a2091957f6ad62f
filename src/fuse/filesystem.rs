//! The requests of the FUSE protocol, one method each.

use std::ffi::OsStr;
use std::future::ready;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::call::{Call, Operation};
use super::in_flight::Locked;
use super::negotiate::Listings;
use super::pending::PendingReply;
use super::reply::{Listed, XattrAnswer, add_listed, reply_or_error};
use super::{Adapter, convert, negotiate};
use crate::error::FsError;
use crate::namespace::Name;
use crate::ops::{self, BufferSpace, CreateRequest, DirEntryPlus, Exclusive, Truncate};
use crate::vocabulary::HandleId;

/// The rest of the method with a decoded argument, or the answer that it cannot be.
macro_rules! decoded {
    ($adapter:ident, $req:ident, $call:ident, $reply:ident, $argument:expr) => {
        match $argument {
            Ok(argument) => argument,
            Err(error) => return $adapter.refuse($req, $call, $reply, &error),
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
        let call = Call::on(Operation::Lookup, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let (ops, dir) = (self.ops.clone(), convert::ino(parent));
        let operation = async move { ops::lookup(&ops, dir, &name).await };
        self.answer(req, call, reply, operation);
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        let forget = || ops::forget(&self.ops, convert::ino(ino), nlookup);
        self.contained(Call::on(Operation::Forget, ino), forget);
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let call = Call::on(Operation::Getattr, ino);
        let ops = self.ops.clone();
        let operation = async move { ops::getattr(&ops, convert::ino(ino)).await };
        self.answer(req, call, reply, operation);
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
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let change = convert::attr_change(mode, (uid, gid), size, (atime, mtime));
        let changed = convert::ino(ino);
        let call = Call::on(Operation::Setattr, ino).changing_unless(fh.is_some(), changed);
        let operation = async move {
            let set = ops::setattr(&ops, changed, fh.map(handle), caller, change);
            ops.once(caller.request, set, ops::getattr(&ops, changed))
                .await
        };
        self.answer(req, call, reply, operation);
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        let call = Call::on(Operation::Readlink, ino);
        let ops = self.ops.clone();
        let operation = async move { ops::readlink(&ops, convert::ino(ino)).await };
        self.answer(req, call, reply, operation);
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
        let call = Call::on(Operation::Mknod, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let dir = convert::ino(parent);
        let operation = async move {
            let (kind, permissions) = (convert::node_kind(mode, rdev), convert::permissions(mode));
            let made = ops::mknod(&ops, dir, &name, kind, permissions, caller);
            ops.once(caller.request, made, ops::lookup(&ops, dir, &name))
                .await
        };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
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
        let call = Call::on(Operation::Mkdir, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let dir = convert::ino(parent);
        let permissions = convert::permissions(mode);
        let operation = async move {
            let made = ops::mkdir(&ops, dir, &name, permissions, caller);
            ops.once(caller.request, made, ops::lookup(&ops, dir, &name))
                .await
        };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        link_name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let call = Call::on(Operation::Symlink, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(link_name));
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let target = Bytes::copy_from_slice(target.as_os_str().as_bytes());
        let dir = convert::ino(parent);
        let operation = async move {
            let made = ops::symlink(&ops, dir, &name, target, caller);
            ops.once(caller.request, made, ops::lookup(&ops, dir, &name))
                .await
        };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on(Operation::Unlink, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let (ops, request) = (self.ops.clone(), convert::kernel_request(req));
        let dir = convert::ino(parent);
        let operation = async move {
            let removed = ops::unlink(&ops, dir, &name, request);
            ops.once(request, removed, ops::rest_of_unlink(&ops, dir, &name))
                .await
        };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on(Operation::Rmdir, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let (ops, request) = (self.ops.clone(), convert::kernel_request(req));
        let dir = convert::ino(parent);
        let operation = async move {
            let removed = ops::rmdir(&ops, dir, &name, request);
            ops.once(request, removed, ready(Ok(()))).await
        };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
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
        let call = Call::on(Operation::Rename, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
        let new_name = decoded!(self, req, call, reply, Name::from_os(newname));
        let mode = decoded!(self, req, call, reply, convert::rename_mode(flags));
        let (ops, request) = (self.ops.clone(), convert::kernel_request(req));
        let (from, to) = (convert::ino(parent), convert::ino(newparent));
        let operation = async move {
            let (from, to) = ((from, &name), (to, &new_name));
            let renamed = ops::rename(&ops, from, to, mode, request);
            let rest = ops::rest_of_rename(&ops, from, to, mode, request);
            ops.once(request, renamed, rest).await
        };
        self.answer(req, call.changing(Locked::Two(from, to)), reply, operation);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::on(Operation::Open, ino);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let (mode, truncate) = (convert::open_mode(flags), convert::truncate(flags));
        let opened = convert::ino(ino);
        let locked = match truncate {
            Truncate::Yes => Locked::One(opened),
            Truncate::No => Locked::Nothing,
        };
        let call = match mode.writes() || truncate == Truncate::Yes {
            true => call.changing(locked),
            false => call.locking(locked),
        };
        let operation = async move { ops::open(&ops, opened, mode, truncate, caller).await };
        self.answer(req, call, reply, operation);
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
        let call = Call::on(Operation::Create, parent);
        let name = decoded!(self, req, call, reply, Name::from_os(name));
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
        let operation = async move { ops::create(&ops, dir, &name, request).await };
        self.answer(req, call.changing(Locked::One(dir)), reply, operation);
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
        let call = Call::on(Operation::Read, ino);
        let (ops, calls) = (self.ops.clone(), self.watched.calls.clone());
        let range = offset..offset.saturating_add(u64::from(size));
        let operation = async move { calls.read(ops::read(&ops, handle(fh), range).await) };
        self.answer(req, call, reply, operation);
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
        let call = Call::on(Operation::Write, ino);
        let caller = convert::caller(req);
        let how = (
            convert::privileges(write_flags),
            convert::write_origin(write_flags),
        );
        let waits = self.answer_unless_it_waits(req, call, reply, || {
            match ops::write(&self.ops, handle(fh), caller, how, offset, data) {
                Err(FsError::NoSpace) => None,
                written => Some(self.watched.calls.written(written, data.len())),
            }
        });
        let Some(reply) = waits else { return };
        let (ops, calls, data) = (self.ops.clone(), self.watched.calls.clone(), data.to_vec());
        self.answer(req, call, reply, async move {
            let written = ops::write_with_room(&ops, handle(fh), caller, how, offset, &data);
            calls.written(written.await, data.len())
        });
    }

    fn flush(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let call = Call::on(Operation::Flush, ino);
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let operation = async move { ops::flush(&ops, handle(fh), caller.thread).await };
        self.answer(req, call, reply, operation);
    }

    fn fsync(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::on(Operation::Fsync, ino);
        let ops = self.ops.clone();
        let operation = async move { ops::fsync(&ops, handle(fh)).await };
        self.answer(req, call, reply, operation);
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
        let call = Call::on(Operation::Release, ino);
        let ops = self.ops.clone();
        // Nobody waits for it.
        self.run(req, call, None, async move {
            reply_or_error(reply, call, ops::release(&ops, handle(fh)).await)
        });
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let call = Call::on(Operation::Opendir, ino);
        let request = convert::kernel_request(req);
        self.answer_at_once(req, call, reply, || {
            ops::opendir(&self.ops, convert::ino(ino), request)
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
        let call = Call::on(Operation::Readdir, ino);
        let ops = self.ops.clone();
        let operation = async move { ops::readdir(&ops, handle(fh), offset).await };
        self.answer(req, call, reply, operation);
    }

    fn readdirplus(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let call = Call::on(Operation::Readdirplus, ino);
        let ops = self.ops.clone();
        let reply = Arc::new(PendingReply::new(reply));
        let filled = reply.clone();
        let operation = async move {
            let mut given = Listed::default();
            let add = |listed: DirEntryPlus| {
                let added = filled.fill(|reply| add_listed(reply, &listed));
                let added = added.unwrap_or(BufferSpace::Full);
                if added == BufferSpace::Yes {
                    given.0.extend(listed.entry.map(|entry| entry.attr.ino));
                }
                added
            };
            ops::readdirplus(&ops, handle(fh), offset, add).await?;
            Ok(given)
        };
        self.answer_filled(req, call, reply, operation);
    }

    fn releasedir(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.answer_at_once(req, Call::on(Operation::Releasedir, ino), reply, || {
            ops::releasedir(&self.ops, handle(fh));
            Ok(())
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
        let call = Call::on(Operation::Fsyncdir, ino);
        let ops = self.ops.clone();
        let operation = async move { ops::fsyncdir(&ops, handle(fh)).await };
        self.answer(req, call, reply, operation);
    }

    fn statfs(&self, req: &Request, ino: INodeNo, reply: ReplyStatfs) {
        let call = Call::on(Operation::Statfs, ino);
        self.answer_at_once(req, call, reply, || Ok(ops::statfs()));
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
        let call = Call::on(Operation::Setxattr, ino);
        let request = convert::kernel_request(req);
        let mode = decoded!(
            self,
            req,
            call,
            reply,
            convert::xattr_mode(flags, request.attempt)
        );
        let (ops, name, value) = (self.ops.clone(), convert::xattr_name(name), value.to_vec());
        let changed = convert::ino(ino);
        let operation = async move {
            let set = ops::setxattr(&ops, changed, &name, &value, mode, request);
            ops.once(request, set, ready(Ok(()))).await
        };
        self.answer(req, call.changing(Locked::One(changed)), reply, operation);
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let call = Call::on(Operation::Getxattr, ino);
        let (ops, name) = (self.ops.clone(), convert::xattr_name(name));
        let operation = async move {
            let value = ops::getxattr(&ops, convert::ino(ino), &name).await?;
            XattrAnswer::of(value, size)
        };
        self.answer(req, call, reply, operation);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let call = Call::on(Operation::Listxattr, ino);
        let ops = self.ops.clone();
        let operation = async move {
            let names = ops::listxattr(&ops, convert::ino(ino)).await?;
            let joined = names
                .into_iter()
                .flat_map(|name| (name + "\0").into_bytes());
            XattrAnswer::of(joined.collect(), size)
        };
        self.answer(req, call, reply, operation);
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::on(Operation::Removexattr, ino);
        let (ops, name) = (self.ops.clone(), convert::xattr_name(name));
        let request = convert::kernel_request(req);
        let changed = convert::ino(ino);
        let operation = async move {
            let removed = ops::removexattr(&ops, changed, &name, request);
            ops.once(request, removed, ready(Ok(()))).await
        };
        self.answer(req, call.changing(Locked::One(changed)), reply, operation);
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
        let call = Call::on(Operation::CopyFileRange, ino_in);
        let ops = self.ops.clone();
        let (from, to) = (
            convert::copy_end(fh_in, offset_in),
            convert::copy_end(fh_out, offset_out),
        );
        let (caller, target) = (convert::caller(req), convert::ino(ino_out));
        let operation = async move {
            let copied = ops::copy_file_range(&ops, from, to, len, caller);
            // Nothing but whole files is copied.
            let before = async { Ok(ops::getattr(&ops, target).await?.0.size_bytes) };
            ops.once(caller.request, copied, before).await
        };
        let locked = Locked::One(target);
        self.answer(req, call.locking(locked), reply, operation);
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
        let call = Call::on(Operation::Fallocate, ino);
        let how = decoded!(self, req, call, reply, convert::allocation(mode));
        let (ops, caller) = (self.ops.clone(), convert::caller(req));
        let range = offset..offset.saturating_add(length);
        let operation = async move { ops::fallocate(&ops, handle(fh), caller, range, how).await };
        let locked = Locked::One(convert::ino(ino));
        self.answer(req, call.locking(locked), reply, operation);
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
        let call = Call::on(Operation::Ioctl, ino);
        self.refuse(req, call, reply, &FsError::NotATty);
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
        let call = Call::on(Operation::Link, ino);
        self.refuse(req, call, reply, &FsError::NotPermitted);
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
        let call = Call::on(Operation::Lseek, ino);
        self.refuse(req, call, reply, &FsError::NotImplemented);
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
        let call = Call::on(Operation::Poll, ino);
        self.refuse(req, call, reply, &FsError::NotImplemented);
    }

    /// The kernel asks once, and only where it does not decide by modes itself.
    fn access(&self, req: &Request, ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        let call = Call::on(Operation::Access, ino);
        self.refuse(req, call, reply, &FsError::NotImplemented);
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
        let call = Call::on(Operation::Getlk, ino);
        self.refuse(req, call, reply, &FsError::NotImplemented);
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
        let call = Call::on(Operation::Setlk, ino);
        self.refuse(req, call, reply, &FsError::NotImplemented);
    }

    /// There are no blocks to number.
    fn bmap(&self, req: &Request, ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        let call = Call::on(Operation::Bmap, ino);
        self.refuse(req, call, reply, &FsError::InvalidArgument);
    }
}

fn handle(fh: FileHandle) -> HandleId {
    HandleId(fh.0)
}
