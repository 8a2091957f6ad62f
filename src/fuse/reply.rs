//! Outcomes of operations as replies of the protocol.

use bytes::Bytes;
use fuser::{
    FileHandle, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};

use super::call::Call;
use super::{convert, errno_logged};
use crate::error::FsError;
use crate::ops::{
    Attr, AttrValidity, BufferSpace, Created, DirEntry, DirEntryPlus, Entry, FsStats, Opened,
};

/// An inode number is given out again only when the kernel has forgotten it.
const GENERATION: Generation = Generation(0);

pub fn done(reply: ReplyEmpty, call: Call, outcome: Result<(), FsError>) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_entry(reply: ReplyEntry, call: Call, outcome: Result<Entry, FsError>) {
    match outcome {
        Ok(Entry { attr, validity }) => {
            reply.entry(&validity.0, &convert::file_attr(&attr), GENERATION);
        }
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_attr(reply: ReplyAttr, call: Call, outcome: Result<(Attr, AttrValidity), FsError>) {
    match outcome {
        Ok((attr, validity)) => reply.attr(&validity.0, &convert::file_attr(&attr)),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

/// The value, or its size where only that is asked for (size 0).
pub fn give_xattr(reply: ReplyXattr, call: Call, asked: u32, value: Result<Vec<u8>, FsError>) {
    let fitting = value.and_then(|value| {
        if asked > 0 && value.len() > asked as usize {
            return Err(FsError::AttributeTooBig);
        }
        Ok(value)
    });
    match fitting {
        Ok(value) if asked == 0 => reply.size(value.len() as u32),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_opened(reply: ReplyOpen, call: Call, outcome: Result<Opened, FsError>) {
    match outcome {
        Ok(opened) => reply.opened(
            FileHandle(opened.handle.0),
            convert::fopen_flags(opened.pages),
        ),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_created(reply: ReplyCreate, call: Call, outcome: Result<Created, FsError>) {
    match outcome {
        Ok(Created { entry, opened }) => reply.created(
            &entry.validity.0,
            &convert::file_attr(&entry.attr),
            GENERATION,
            FileHandle(opened.handle.0),
            convert::fopen_flags(opened.pages),
        ),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_data(reply: ReplyData, call: Call, outcome: Result<Bytes, FsError>) {
    match outcome {
        Ok(bytes) => reply.data(&bytes),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

pub fn give_copied(reply: ReplyWrite, call: Call, outcome: Result<u64, FsError>) {
    match outcome {
        Ok(copied) => reply.written(copied as u32),
        Err(error) => reply.error(errno_logged(call, &error)),
    }
}

/// As many entries as fit; the kernel asks on from the last one's offset.
pub fn give_listing(
    mut reply: ReplyDirectory,
    call: Call,
    outcome: Result<Vec<DirEntry>, FsError>,
) {
    let entries = match outcome {
        Ok(entries) => entries,
        Err(error) => return reply.error(errno_logged(call, &error)),
    };
    for entry in entries {
        if reply.add(
            INodeNo(entry.ino.0),
            entry.next_offset,
            convert::file_type(entry.kind),
            &entry.name,
        ) {
            break;
        }
    }
    reply.ok();
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

/// All of it is free: a bucket has no size.
pub fn give_stats(reply: ReplyStatfs, stats: FsStats) {
    let FsStats {
        block_size_bytes: size,
        blocks,
        files,
        name_limit_bytes,
    } = stats;
    reply.statfs(
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
