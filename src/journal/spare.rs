//! The spare of a file of records: the file beside it in which it is written anew.
//!
//! It has its blocks before they are needed, and afterwards the two change places: a
//! file of records is shortened on a disk that is full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::log::{compact_from, sync_dir, write_frames};
use super::log_file::{LogFile, STEP_BYTES, allocate};
use super::log_state::{Durable, LogState};
use crate::failpoint::{self, Point};
use crate::private;

/// Most room that a file of records is given at once.
const ROOM_LIMIT_BYTES: u64 = 16 << 20;

pub fn path_of(path: &Path) -> PathBuf {
    path.with_extension("spare")
}

/// What a file that has so many bytes to say is to have with its room.
pub(super) fn wanted_bytes(needed: u64) -> u64 {
    compact_from(needed).min(needed.saturating_add(ROOM_LIMIT_BYTES)) + STEP_BYTES
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).read(true).create(true).truncate(false);
    private::open(&path_of(path), &options)
}

/// Sees to it that there is one of about so many bytes. Errors: the disk's.
pub(super) fn keep(path: &Path, wanted: u64) -> io::Result<()> {
    let file = open(path)?;
    let had = file.metadata()?.len();
    if had > wanted + ROOM_LIMIT_BYTES {
        file.set_len(wanted)?;
    }
    if had < wanted {
        allocate(&file, had, wanted).inspect_err(|_| remove_if_new(path, had))?;
    }
    Ok(())
}

/// A file of these records in the spare, for `put_in_place`. Errors: the disk's.
pub fn write_beside<S: LogState>(path: &Path, state: &S) -> io::Result<LogFile> {
    let file = open(path)?;
    let found = file.metadata()?;
    let outcome = fill(file, state, &found);
    outcome.inspect_err(|_| remove_if_new(path, found.len()))
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

/// Nothing is left of a spare that the disk has no room for.
fn remove_if_new(path: &Path, had: u64) {
    if had > 0 {
        return;
    }
    if let Err(error) = fs::remove_file(path_of(path)) {
        tracing::debug!(%error, "an empty spare file stays");
    }
}

/// Gives the spare the name of the file, which becomes the spare. Errors: the disk's.
pub fn put_in_place<S: LogState>(file: &mut LogFile, path: &Path) -> io::Result<()> {
    let beside = path_of(path);
    if renameat_with(CWD, &beside, CWD, path, RenameFlags::EXCHANGE).is_err() {
        // There is no file yet, or the file system cannot do it.
        fs::rename(&beside, path)?;
    }
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
