//! The hand-over: what the kernel was told, kept for the daemon that goes on with
//! its session.
//!
//! Owns: the file of what the kernel knows (inode numbers and how often it was
//! told of each, handles, what is staged of open files) and what it comes to.
//! Must not know: how the descriptor of the session outlives a daemon.
//! Locks: the file's own, taken last of all.
//!
//! A record is written before the answer that makes it true is sent: a daemon
//! that dies in between leaves a request that the kernel sends again. It must
//! outlive the daemon and not the machine, so nothing is synced.

mod record;
mod told;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use record::{
    BaseTold, FileTold, HandleTold, IntentTold, ModeTold, NodeKind, ObjectTold, Place, Record,
    RemoteTold, SessionTold, SetTold, TimeTold, WritersTold,
};
pub use told::{DirTold, InodeTold, StageTold, Told};

use crate::journal::{Log, LogError, read};

/// Where records go; nowhere, for a mount whose session ends with its daemon.
#[derive(Debug, Default)]
pub struct Ledger(Option<Log<Told>>);

impl Ledger {
    /// For a session that is about to begin: records wait for `begin`.
    pub fn awaiting(path: &Path) -> Self {
        Self(Some(Log::later(path)))
    }

    /// The session is there: from now on the next daemon knows.
    ///
    /// Errors: the disk's.
    pub fn begin(&self, session: SessionTold) -> io::Result<()> {
        self.tell(|| Record::Session(session));
        match &self.0 {
            Some(log) => log.write_out(),
            None => Ok(()),
        }
    }

    /// For a session that another daemon began.
    pub fn go_on(path: &Path, told: Told) -> Result<Self, LogError> {
        Ok(Self(Some(Log::begin(path, told)?)))
    }

    /// Whether somebody goes on with the session once this daemon is dead.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Notes what the kernel is about to be told.
    pub fn tell(&self, record: impl FnOnce() -> Record) {
        if let Some(log) = &self.0 {
            log.tell(record());
        }
    }
}

/// What an earlier daemon told the kernel; none where there is no such file.
///
/// Errors: `Newer`, `Foreign`, `Io`: nothing of it can be used.
pub fn told(path: &Path) -> Result<Option<Told>, LogError> {
    let told: Told = read(path)?;
    Ok(told.session.is_some().then_some(told))
}

/// The session is over: nobody is to go on with it.
pub fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The file's place in a spool, whose lock guards it.
pub fn path_in(spool: &Path) -> PathBuf {
    spool.join("session")
}

#[cfg(test)]
pub mod tests;
