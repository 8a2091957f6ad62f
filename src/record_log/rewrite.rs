//! Rewriting a file of records: in its spare, which then takes its place.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::frame::{Chain, Header};
use super::log_file::LogFile;
use super::log_state::{Durable, LogState};
use super::room::{ROOM_LIMIT_BYTES, wanted_bytes};
use super::spare;
use crate::failpoint::{self, Point};

/// A file is written in pieces of about this.
const WRITE_BYTES: usize = 1 << 20;

/// A file of these records under the path, whole or not at all. Errors: the disk's.
pub fn rewrite<S: LogState>(path: &Path, state: &S) -> io::Result<LogFile> {
    let mut file = write_beside(path, state)?;
    rename_over::<S>(&mut file, path)?;
    Ok(file)
}

/// A file of these records in the spare, for `rename_over`. Errors: the disk's.
pub fn write_beside<S: LogState>(path: &Path, state: &S) -> io::Result<LogFile> {
    let file = spare::open(path)?;
    let found = file.metadata()?;
    let outcome = fill(file, state, &found);
    outcome.inspect_err(|_| spare::remove_if_new(path, found.len()))
}

fn fill<S: LogState>(file: File, state: &S, found: &fs::Metadata) -> io::Result<LogFile> {
    let (header, needed, chain) = write_frames(&file, state, found.ino())?;
    let wanted = wanted_bytes(needed);
    if found.len() > wanted + ROOM_LIMIT_BYTES {
        file.set_len(wanted)?;
    }
    let file = LogFile::new(file, header, (needed, chain), wanted)?;
    at::<S>(Point::CompactWritten);
    if S::DURABLE == Durable::Yes {
        file.file.sync_all()?;
        at::<S>(Point::CompactSynced);
    }
    Ok(file)
}

/// Writes these records to a file, from its start; its end is noted last. Returns how
/// many bytes they are. Errors: the disk's; a record has no bytes.
pub fn write_frames<S: LogState>(
    out: &File,
    state: &S,
    file: u64,
) -> io::Result<(Header, u64, Chain)> {
    let (header, mut bytes) = Header::new(S::NAME, S::VERSION, file);
    let (_, mut chain) = header.start();
    let mut at = 0;
    let mut outcome = Ok(());
    state.for_each(&mut |record| {
        if outcome.is_err() {
            return;
        }
        outcome = S::encode(&record).and_then(|payload| {
            chain.push(&mut bytes, S::subject(&record), &payload);
            if bytes.len() < WRITE_BYTES {
                return Ok(());
            }
            out.write_all_at(&bytes, at)?;
            at += bytes.len() as u64;
            bytes.clear();
            Ok(())
        });
    });
    outcome?;
    out.write_all_at(&bytes, at)?;
    let end = at + bytes.len() as u64;
    out.write_all_at(&header.end_field(end), header.end_at())?;
    Ok((header, end, chain))
}

/// Gives the spare the name of the file, which becomes the spare. Errors: the disk's.
pub fn rename_over<S: LogState>(file: &mut LogFile, path: &Path) -> io::Result<()> {
    spare::exchange(path)?;
    at::<S>(Point::CompactRenamed);
    if S::DURABLE == Durable::Yes {
        sync_dir(path.parent().unwrap_or(path))?;
    }
    file.keep_spare(path);
    Ok(())
}

/// A crash test dies in the journal, not in files that a power loss may take.
fn at<S: LogState>(point: Point) {
    if S::DURABLE == Durable::Yes {
        failpoint::at(point);
    }
}

/// Names made or removed in a directory outlive a power loss. Source: fsync(2).
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
