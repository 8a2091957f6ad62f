//! What a file of records takes of the disk: how much room it is given, and the size
//! from which it is rewritten.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;

/// Below this size the file is never rewritten.
pub const COMPACT_FROM_BYTES: u64 = 1 << 20;
/// Rewritten when it is this many times as long as what it still has to say.
const COMPACT_RATIO: u64 = 4;
/// Room is taken from the disk in steps of this, before half of one is used.
pub const STEP_BYTES: u64 = 256 << 10;
/// Most room that a file of records is given at once.
pub const ROOM_LIMIT_BYTES: u64 = 16 << 20;
const CHUNK_BYTES: usize = 256 << 10;

/// The size from which a file with so many bytes to say is rewritten.
pub fn compact_from(needed: u64) -> u64 {
    needed.saturating_mul(COMPACT_RATIO).max(COMPACT_FROM_BYTES)
}

/// What a file that has so many bytes to say is to have with its room.
pub fn wanted_bytes(needed: u64) -> u64 {
    compact_from(needed).min(needed.saturating_add(ROOM_LIMIT_BYTES)) + STEP_BYTES
}

/// Whether an error of the disk may go away when less is on it.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Has the disk keep blocks for a range, which is zeros where it is behind the end of
/// the file. Errors: the disk's.
pub fn allocate(file: &File, from: u64, upto: u64) -> io::Result<()> {
    let len = upto - from;
    let allocated = rustix::fs::fallocate(file, FallocateFlags::empty(), from, len);
    match allocated.map_err(io::Error::from) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(file, from..upto),
        outcome => outcome,
    }
}

/// Makes a range zeros that is none yet; its blocks stay.
pub fn zero(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK_BYTES.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let len = bytes.len().min((range.end - at) as usize);
        let chunk = bytes.get_mut(..len).unwrap_or_default();
        file.read_exact_at(chunk, at)?;
        if chunk.iter().any(|byte| *byte != 0) {
            write_zeros(file, at..at + len as u64)?;
        }
        at += len as u64;
    }
    Ok(())
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let len = zeros.len().min((range.end - at) as usize);
        file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
        at += len as u64;
    }
    Ok(())
}
