//! The spare of a file of records: the file beside it in which it is rewritten.
//!
//! It has its blocks before they are needed, and afterwards the two change places: a
//! file of records is shortened on a disk that is full.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::room::{ROOM_LIMIT_BYTES, allocate};
use crate::private;

pub fn path_of(path: &Path) -> PathBuf {
    path.with_extension("spare")
}

pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).read(true).create(true).truncate(false);
    private::open(&path_of(path), &options)
}

/// Sees to it that there is one of about so many bytes. Errors: the disk's.
pub fn keep(path: &Path, wanted: u64) -> io::Result<()> {
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

/// Nothing is left of a spare that the disk has no room for.
pub fn remove_if_new(path: &Path, had: u64) {
    if had > 0 {
        return;
    }
    if let Err(error) = fs::remove_file(path_of(path)) {
        tracing::debug!(%error, "an empty spare file stays");
    }
}

/// Gives the spare the name of the file, which becomes the spare. Errors: the disk's.
pub fn exchange(path: &Path) -> io::Result<()> {
    let beside = path_of(path);
    if renameat_with(CWD, &beside, CWD, path, RenameFlags::EXCHANGE).is_err() {
        // There is no file yet, or the file system cannot do it.
        fs::rename(&beside, path)?;
    }
    Ok(())
}
