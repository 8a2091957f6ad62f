//! The hand-over: what the kernel was told, kept for the daemon that resumes
//! its session.
//!
//! Owns: the file of what the kernel knows (inode numbers and how often it was
//! told of each, handles, what is staged of open files) and what it comes to.
//! Must not know: how the descriptor of the session outlives a daemon.
//! Locks: the queue of records, which is taken under any other; the file's own,
//! taken last of all and never under a lock of a table.
//!
//! A record is written before the answer that makes it true is sent: a daemon
//! that dies in between leaves a request that the kernel sends again. It must
//! outlive the daemon and not the machine, so nothing is synced.
//!
//! What a successor reads counts only if it is whole. A record that the disk has
//! changed costs the file that it was about, whose bytes go to lost+found; where
//! that is not known the session is not resumed.

mod done_requests;
mod encode;
mod inodes;
mod record;
mod session_file;
mod session_log;
mod stage_state;
mod state;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use done_requests::{BegunRequests, DoneRequests};
pub use inodes::{SavedInode, SavedInodes, TakenInode};
pub use record::{
    Basis, Place, Record, SavedAccess, SavedFile, SavedHandle, SavedLayer, SavedSession,
    SavedWriters,
};
pub use session_log::SessionLog;
pub use stage_state::SavedStage;
pub use state::{SavedDir, SessionState};

use crate::private;
use crate::record_log::{LogError, LogState, Replayed, io_error, read_whole, spare_of};

/// What a predecessor told the kernel; none where there is no such file.
///
/// Errors: `Newer`, `Foreign`, `Damaged`, `Io`: nothing of it can be used.
pub fn saved(path: &Path) -> Result<Option<SessionState>, LogError> {
    let failed = |error| io_error::<SessionState>(path, error);
    let file = match private::view(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let replayed = match read_whole::<SessionState>(&file).map_err(failed)? {
        Some(whole) => whole,
        // It is not whole, or of an earlier version.
        None => Replayed::of(path, &read(&file).map_err(failed)?)?,
    };
    let Replayed { state, append_at } = replayed;
    let mut saved = state;
    let number = file.metadata().map_err(failed)?.ino();
    if append_at.is_some_and(|(header, ..)| header.file != number) {
        saved.unusable = Some("it is a copy of a file, which others wrote to since".to_owned());
    }
    if let Some(what) = saved.unusable.take() {
        return Err(LogError::Damaged {
            name: SessionState::NAME,
            path: path.to_owned(),
            what,
        });
    }
    saved.append_at = append_at;
    Ok(saved.session.is_some().then_some(saved))
}

fn read(mut file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The session is over: nobody is to resume it.
pub fn forget(path: &Path) -> io::Result<()> {
    for path in [path, &spare_of(path)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The file's place in a spool, whose lock guards it.
pub fn path_in(spool: &Path) -> PathBuf {
    spool.join("session")
}

#[cfg(test)]
pub mod tests;
