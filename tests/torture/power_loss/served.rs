//! The disk's requests, as the kernel sends them.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::disk::{Change, State};

/// Nobody else changes the disk.
const TTL: Duration = Duration::from_secs(3600);

/// What the kernel talks to.
#[derive(Debug)]
pub struct Served(pub Arc<Mutex<State>>);

macro_rules! answer {
    ($reply:ident, $outcome:expr, $value:ident => $ok:expr) => {
        match $outcome {
            Ok($value) => $ok,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let state = self.0.lock();
        let found = state.child(parent.0, name).map(|ino| state.attr(ino));
        answer!(reply, found, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.0.lock().attr(ino.0));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.0.lock();
        let outcome = match size {
            Some(len) => state
                .begin()
                .map(|()| state.change(ino.0, Change::Truncate(len))),
            None => Ok(()),
        };
        answer!(reply, outcome, _done => reply.attr(&TTL, &state.attr(ino.0)));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let made = self.0.lock().make(parent.0, name, FileType::Directory);
        answer!(reply, made, attr => reply.entry(&TTL, &attr, Generation(0)));
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.0.lock().make(parent.0, name, FileType::RegularFile);
        let (handle, flags) = (FileHandle(0), FopenFlags::empty());
        answer!(reply, made, attr => reply.created(&TTL, &attr, Generation(0), handle, flags));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let change = vec![(parent.0, name.to_owned(), None)];
        let outcome = state.begin().map(|()| state.change_names(change));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.0.lock();
        let outcome = state.begin().and_then(|()| {
            let ino = state.child(parent.0, name)?;
            let exchanged = match flags.contains(RenameFlags::RENAME_EXCHANGE) {
                true => Some(state.child(to.0, new_name)?),
                false => None,
            };
            state.change_names(vec![
                (parent.0, name.to_owned(), exchanged),
                (to.0, new_name.to_owned(), Some(ino)),
            ]);
            Ok(())
        });
        answer!(reply, outcome, _done => reply.ok());
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let state = self.0.lock();
        let bytes = &state.files[&ino.0].bytes;
        let start = bytes.len().min(offset as usize);
        let end = bytes.len().min(start + size as usize);
        reply.data(&bytes[start..end]);
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.0.lock();
        let change = Change::Write(offset, data.to_vec());
        let outcome = state.begin().map(|()| state.change(ino.0, change));
        answer!(reply, outcome, _done => reply.written(data.len() as u32));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let outcome = state.begin().map(|()| state.sync(ino.0));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut state = self.0.lock();
        let outcome = state.begin().map(|()| state.sync_directory(ino.0));
        answer!(reply, outcome, _done => reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.0.lock();
        let names = state.directories[&ino.0].iter().zip(1..);
        for ((name, child), next) in names.skip(offset as usize) {
            let kind = state.attr(*child).kind;
            if reply.add(INodeNo(*child), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: i32,
        reply: ReplyEmpty,
    ) {
        // The workload punches no holes.
        reply.error(Errno::EOPNOTSUPP);
    }
}
