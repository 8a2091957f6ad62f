//! Outcomes of operations as replies of the protocol.

use bytes::Bytes;
use fuser::{
    Errno, FileHandle, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyBmap, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLock,
    ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::call::Call;
use super::convert;
use crate::error::FsError;
use crate::files::{Attr, AttrValidity};
use crate::ops::{BufferSpace, Created, DirEntry, DirEntryPlus, Entry, FsStats, Opened};
use crate::vocabulary::{HandleId, Ino};

/// An inode number is given out again only when the kernel has forgotten it.
const GENERATION: Generation = Generation(0);

/// Any reply of the protocol: all of them can be an error.
pub trait Refusable: std::fmt::Debug + Send + 'static {
    fn refuse(self, errno: Errno);
}

macro_rules! refusable {
    ($($reply:ty),*) => {
        $(impl Refusable for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })*
    };
}

refusable!(
    ReplyAttr,
    ReplyBmap,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLock,
    ReplyLseek,
    ReplyOpen,
    ReplyPoll,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// A reply that says what an operation came to.
pub trait ReplyOf<T>: Refusable {
    fn give(self, outcome: T);
}

/// The answer to a request, whatever its operation came to.
pub fn reply_or_error<T>(reply: impl ReplyOf<T>, call: Call, outcome: Result<T, FsError>) {
    match outcome {
        Ok(outcome) => reply.give(outcome),
        Err(error) => reply.refuse(call.errno_logged(&error)),
    }
}

impl ReplyOf<()> for ReplyEmpty {
    fn give(self, (): ()) {
        self.ok();
    }
}

impl ReplyOf<Entry> for ReplyEntry {
    fn give(self, Entry { attr, validity }: Entry) {
        self.entry(&validity.0, &convert::file_attr(&attr), GENERATION);
    }
}

impl ReplyOf<(Attr, AttrValidity)> for ReplyAttr {
    fn give(self, (attr, validity): (Attr, AttrValidity)) {
        self.attr(&validity.0, &convert::file_attr(&attr));
    }
}

impl ReplyOf<Opened> for ReplyOpen {
    fn give(self, opened: Opened) {
        let flags = convert::fopen_flags(opened.pages);
        self.opened(FileHandle(opened.handle.0), flags);
    }
}

/// Of a directory.
impl ReplyOf<HandleId> for ReplyOpen {
    fn give(self, handle: HandleId) {
        self.opened(FileHandle(handle.0), FopenFlags::empty());
    }
}

impl ReplyOf<Created> for ReplyCreate {
    fn give(self, Created { entry, opened }: Created) {
        self.created(
            &entry.validity.0,
            &convert::file_attr(&entry.attr),
            GENERATION,
            FileHandle(opened.handle.0),
            convert::fopen_flags(opened.pages),
        );
    }
}

impl ReplyOf<Bytes> for ReplyData {
    fn give(self, bytes: Bytes) {
        self.data(&bytes);
    }
}

/// How many bytes; no request asks for more than the protocol's number holds.
impl ReplyOf<u64> for ReplyWrite {
    fn give(self, written: u64) {
        self.written(written as u32);
    }
}

/// As many entries as fit; the kernel asks on from the last one's offset.
impl ReplyOf<Vec<DirEntry>> for ReplyDirectory {
    fn give(mut self, entries: Vec<DirEntry>) {
        for entry in entries {
            if self.add(
                INodeNo(entry.ino.0),
                entry.next_offset,
                convert::file_type(entry.kind),
                &entry.name,
            ) {
                break;
            }
        }
        self.ok();
    }
}

/// An extended attribute, or the names of all.
#[derive(Debug)]
pub enum XattrAnswer {
    SizeBytes(u32),
    Value(Vec<u8>),
}

impl XattrAnswer {
    /// The value, or its size where only that is asked for (size 0). Source: getxattr(2).
    pub fn of(value: Vec<u8>, asked_bytes: u32) -> Result<Self, FsError> {
        match asked_bytes as usize {
            0 => Ok(Self::SizeBytes(value.len() as u32)),
            asked if value.len() > asked => Err(FsError::AttributeTooBig),
            _ => Ok(Self::Value(value)),
        }
    }
}

impl ReplyOf<XattrAnswer> for ReplyXattr {
    fn give(self, answer: XattrAnswer) {
        match answer {
            XattrAnswer::SizeBytes(size) => self.size(size),
            XattrAnswer::Value(value) => self.data(&value),
        }
    }
}

/// Inodes that a listing has given to the kernel, each once more.
#[derive(Debug, Default)]
pub struct Listed(pub Vec<Ino>);

/// The entries are in it by then.
impl ReplyOf<Listed> for ReplyDirectoryPlus {
    fn give(self, _: Listed) {
        self.ok();
    }
}

/// All of it is free: a bucket has no size.
impl ReplyOf<FsStats> for ReplyStatfs {
    fn give(self, stats: FsStats) {
        let FsStats {
            block_size_bytes: size,
            blocks,
            files,
            name_limit_bytes,
        } = stats;
        self.statfs(
            blocks,
            blocks,
            blocks,
            files,
            files,
            size,
            name_limit_bytes,
            size,
        );
    }
}

/// Adds an entry with its attributes, if it fits.
pub fn add_listed(reply: &mut ReplyDirectoryPlus, listed: &DirEntryPlus) -> BufferSpace {
    let (validity, attr) = match &listed.entry {
        Some(entry) => (entry.validity.0, convert::file_attr(&entry.attr)),
        None => convert::dot(listed.plain.ino),
    };
    let (offset, name) = (listed.plain.next_offset, &listed.plain.name);
    if reply.add(attr.ino, offset, name, &validity, &attr, GENERATION) {
        BufferSpace::Full
    } else {
        BufferSpace::Yes
    }
}
