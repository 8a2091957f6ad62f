//! Records of a session in their file.

use std::io;
use std::os::unix::fs::FileExt;

use super::encode;
use super::record::Record;
use super::state::SessionState;
use crate::record_log::{Chain, LogFile, read_upto};

/// A name and its first reference are one record.
pub(super) fn push(queue: &mut Vec<Record>, record: Record) {
    let joined = match (queue.last(), &record) {
        (Some(Record::Placed { ino, kind, place }), Record::Lookup { ino: of, count })
            if ino == of =>
        {
            Some(Record::Inode {
                ino: *ino,
                kind: *kind,
                place: place.clone(),
                lookups: *count,
            })
        }
        _ => None,
    };
    match (joined, queue.last_mut()) {
        (Some(joined), Some(last)) => *last = joined,
        _ => queue.push(record),
    }
}

/// Appends records, which then count as said.
pub(super) fn append(file: &mut LogFile, records: &[Record]) -> io::Result<()> {
    let (mut frames, mut payload, mut chain) = (Vec::new(), Vec::new(), file.chain);
    for record in records {
        payload.clear();
        encode::encode(record, &mut payload)?;
        chain.push(&mut frames, encode::subject(record), &payload);
    }
    file.append_to_end(&frames, chain)
}

/// What a file came to when it was so long.
pub(super) fn replayed(file: &LogFile, upto: u64) -> io::Result<SessionState> {
    let state = read_upto::<SessionState>(file, upto)?;
    state.ok_or_else(|| io::Error::other("the disk has changed the session's file"))
}

/// Appends the records of a part of a file to another.
pub(super) fn carry_over(
    from: &LogFile,
    range: std::ops::Range<u64>,
    chain: Chain,
    to: &mut LogFile,
) -> io::Result<()> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    from.file.read_exact_at(&mut bytes, range.start)?;
    let (mut frames, mut after) = (Vec::new(), to.chain);
    for frame in chain.frames(&bytes) {
        let (subject, payload) =
            frame.ok_or_else(|| io::Error::other("the disk has changed the session's file"))?;
        after.push(&mut frames, subject, payload);
    }
    to.append(&frames, after)
}
