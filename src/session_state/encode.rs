//! Records as bytes. What comes with every call (names, references, written ranges)
//! is binary; the rest is JSON.
//!
//! Numbers are LEB128. Kinds stay what they are, since files have them; a change of
//! what one means is a new kind.

use std::io;

use super::record::Record;
use crate::journal::BlockSum;
use crate::record_log::Subject;
use crate::vocabulary::{Kind, StageId};

macro_rules! kinds {
    ($($name:ident = $number:literal,)*) => {
        pub(super) mod kind {
            $(pub const $name: u8 = $number;)*
        }
    };
}

kinds! {
    SESSION = 1,
    NUMBERS = 2,
    PLACED = 3,
    UNPLACED = 4,
    LOOKUP = 5,
    FORGET = 6,
    GONE = 7,
    SET = 8,
    FILE = 9,
    FILE_GONE = 10,
    STAGED = 11,
    WROTE = 12,
    TRUNCATED = 13,
    STAGE_GONE = 14,
    OPENED = 15,
    DIR_OPENED = 16,
    LISTED = 17,
    REWOUND = 18,
    RELEASED = 19,
    BEGAN = 20,
    ANSWERED = 21,
    INODE = 22,
    OVERWRITING = 23,
    SUMMED = 24,
    STAGE_DOUBTFUL = 25,
    CHANGED = 26,
    DONE = 27,
    CHANGES = 28,
}

pub(super) fn subject(record: &Record) -> Subject {
    let (kind, id) = match record {
        Record::Session(_) => (kind::SESSION, 0),
        Record::Numbers { .. } => (kind::NUMBERS, 0),
        Record::Placed { ino, .. } => (kind::PLACED, *ino),
        Record::Inode { ino, .. } => (kind::INODE, *ino),
        Record::Unplaced { ino, .. } => (kind::UNPLACED, *ino),
        Record::Lookup { ino, .. } => (kind::LOOKUP, *ino),
        Record::Forget { ino, .. } => (kind::FORGET, *ino),
        Record::Gone { ino } => (kind::GONE, *ino),
        Record::Set { ino, .. } => (kind::SET, *ino),
        Record::File { ino, .. } => (kind::FILE, *ino),
        Record::FileGone { ino } => (kind::FILE_GONE, *ino),
        Record::Staged { stage, .. } => (kind::STAGED, stage.0),
        Record::Wrote { stage, .. } => (kind::WROTE, stage.0),
        Record::Overwriting { stage, .. } => (kind::OVERWRITING, stage.0),
        Record::Summed { stage, .. } => (kind::SUMMED, stage.0),
        Record::Truncated { stage, .. } => (kind::TRUNCATED, stage.0),
        Record::StageGone { stage } => (kind::STAGE_GONE, stage.0),
        Record::StageDoubtful { stage } => (kind::STAGE_DOUBTFUL, stage.0),
        Record::Opened { handle, .. } => (kind::OPENED, *handle),
        Record::Changed { handle, .. } => (kind::CHANGED, *handle),
        Record::DirOpened { handle, .. } => (kind::DIR_OPENED, *handle),
        Record::Listed { handle, .. } => (kind::LISTED, *handle),
        Record::Rewound { handle } => (kind::REWOUND, *handle),
        Record::Released { handle } => (kind::RELEASED, *handle),
        Record::Began { request } => (kind::BEGAN, *request),
        Record::Answered { request } => (kind::ANSWERED, *request),
        Record::Changes { request, .. } => (kind::CHANGES, *request),
        Record::Done { request } => (kind::DONE, *request),
    };
    Subject { kind, id }
}

/// Appends the payload of a record.
pub(super) fn encode(record: &Record, out: &mut Vec<u8>) -> io::Result<()> {
    match record {
        Record::Placed { kind, place, .. } => {
            node(out, *kind);
            number(out, place.0);
            out.extend(place.1.as_bytes());
        }
        Record::Inode {
            kind,
            place,
            lookups,
            ..
        } => {
            node(out, *kind);
            number(out, *lookups);
            number(out, place.0);
            out.extend(place.1.as_bytes());
        }
        Record::Lookup { count, .. } | Record::Forget { count, .. } => number(out, *count),
        Record::Gone { .. }
        | Record::Began { .. }
        | Record::Answered { .. }
        | Record::Done { .. } => {}
        Record::Wrote {
            range, len, sums, ..
        } => {
            number(out, *len);
            number(out, range.start);
            number(out, range.end);
            // A mediafs that had none records none.
            out.push(u8::from(sums.is_some()));
            each_sum(out, sums.as_deref().unwrap_or_default());
        }
        Record::Overwriting { range, rest, .. } => {
            number(out, range.start);
            number(out, range.end);
            each_sum(out, rest);
        }
        Record::Summed { sums, .. } => each_sum(out, sums),
        other => serde_json::to_writer(out, other)?,
    }
    Ok(())
}

/// Kind, references and place of an inode, in a record of `PLACED` or `INODE`.
pub(super) fn placed(kind: u8, payload: &[u8]) -> Option<(Kind, u64, (u64, &str))> {
    let mut from = Reader(payload);
    let node = from.node()?;
    let lookups = match kind {
        kind::INODE => from.number()?,
        _ => 0,
    };
    let parent = from.number()?;
    let name = std::str::from_utf8(from.rest()).ok()?;
    Some((node, lookups, (parent, name)))
}

pub(super) fn decode(subject: Subject, payload: &[u8]) -> Option<Record> {
    let Subject { kind, id } = subject;
    let stage = StageId(id);
    let mut from = Reader(payload);
    let record = match kind {
        kind::PLACED | kind::INODE => {
            let (node, lookups, (parent, name)) = placed(kind, from.rest())?;
            let (ino, place) = (id, (parent, name.into()));
            match kind {
                kind::PLACED => Record::Placed {
                    ino,
                    kind: node,
                    place,
                },
                _ => Record::Inode {
                    ino,
                    kind: node,
                    place,
                    lookups,
                },
            }
        }
        kind::LOOKUP => Record::Lookup {
            ino: id,
            count: from.number()?,
        },
        kind::FORGET => Record::Forget {
            ino: id,
            count: from.number()?,
        },
        kind::GONE => Record::Gone { ino: id },
        kind::BEGAN => Record::Began { request: id },
        kind::ANSWERED => Record::Answered { request: id },
        kind::DONE => Record::Done { request: id },
        kind::WROTE => {
            let len = from.number()?;
            let range = from.number()?..from.number()?;
            let has_sums = from.byte()? == 1;
            let sums = from.sums()?;
            Record::Wrote {
                stage,
                range,
                len,
                sums: has_sums.then_some(sums),
            }
        }
        kind::OVERWRITING => {
            let range = from.number()?..from.number()?;
            let rest = from.sums()?;
            Record::Overwriting { stage, range, rest }
        }
        kind::SUMMED => Record::Summed {
            stage,
            sums: from.sums()?,
        },
        _ => {
            let record = serde_json::from_slice(from.rest()).ok()?;
            return (self::subject(&record) == subject).then_some(record);
        }
    };
    from.rest().is_empty().then_some(record)
}

fn node(out: &mut Vec<u8>, kind: Kind) {
    out.push(match kind {
        Kind::File => 0,
        Kind::Directory => 1,
        Kind::Symlink => 2,
        Kind::Fifo => 3,
        Kind::Socket => 4,
        Kind::CharDevice => 5,
        Kind::BlockDevice => 6,
    });
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn each_sum(out: &mut Vec<u8>, sums: &[BlockSum]) {
    for sum in sums {
        number(out, sum.start);
        number(out, sum.end - sum.start);
        out.extend(sum.crc32.to_le_bytes());
    }
}

/// What is left of a payload.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn node(&mut self) -> Option<Kind> {
        match self.byte()? {
            0 => Some(Kind::File),
            1 => Some(Kind::Directory),
            2 => Some(Kind::Symlink),
            3 => Some(Kind::Fifo),
            4 => Some(Kind::Socket),
            5 => Some(Kind::CharDevice),
            6 => Some(Kind::BlockDevice),
            _ => None,
        }
    }

    fn sums(&mut self) -> Option<Vec<BlockSum>> {
        let mut sums = Vec::new();
        while !self.0.is_empty() {
            let start = self.number()?;
            let end = start.checked_add(self.number()?)?;
            let mut crc32 = [0; 4];
            for byte in &mut crc32 {
                *byte = self.byte()?;
            }
            let crc32 = u32::from_le_bytes(crc32);
            sums.push(BlockSum::try_from((start, end, crc32)).ok()?);
        }
        Some(sums)
    }
}
