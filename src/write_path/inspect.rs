//! What a spool holds, seen from outside: beside the daemon that uses it, or without one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::lost_found::{DIR_NAME, Sidecar, unix_seconds};
use super::mount_note::{MountNote, Recorded};
use super::pending_work::PendingWork;
use super::place::Place;
use super::spool_error::SpoolError;
use crate::journal::{Journal, Peeked, SealedBase};
use crate::private;
use crate::store::Key;

/// How far bytes have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryState {
    /// A program has the file open and is writing it, or the daemon that it wrote to is dead.
    Writing,
    /// Closed or synced; the mount uploads it.
    Waiting,
    /// In lost+found: only a person gets it out.
    Kept,
}

/// One file of a spool.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    pub id: String,
    pub state: EntryState,
    /// Where it is to go.
    pub place: Option<Place>,
    pub key: Option<Key>,
    pub size_bytes: u64,
    pub since_unix_seconds: u64,
    /// Why it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The bytes are all of a file that was closed or synced.
    pub whole: bool,
    /// Where they are not: ranges in bytes, each with its first and the one after its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Vec<[u64; 2]>>,
    /// What was written and is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Vec<[u64; 2]>>,
    pub spool: PathBuf,
    #[serde(rename = "file")]
    pub path: PathBuf,
}

/// A spool to look at.
#[derive(Debug)]
pub struct SpoolView {
    dir: PathBuf,
}

impl SpoolView {
    /// Errors: `NotASpool`.
    pub fn at(dir: &Path) -> Result<Self, SpoolError> {
        if !dir.join("stage").is_dir() {
            return Err(SpoolError::NotASpool(dir.to_owned()));
        }
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// Of a directory that may not be one yet.
    pub(super) fn unchecked(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which place it belongs to and where that was mounted last; unknown for a spool
    /// of an early mediafs.
    pub fn mount(&self) -> Option<MountNote> {
        match MountNote::read(&self.dir) {
            Recorded::Note(note) => Some(note),
            Recorded::Nothing | Recorded::Damaged => None,
        }
    }

    /// What waits in it, also of what the journal does not know.
    pub fn pending(&self) -> Result<PendingWork, SpoolError> {
        let journal = Journal::peek(&self.dir.join("journal"))?;
        let staged = self.staged(&journal);
        let mut pending = PendingWork {
            files: staged.len(),
            bytes: staged.iter().map(|entry| entry.size_bytes).sum(),
            deletes: journal.deletes,
            renames: journal.renames,
        };
        let known: HashSet<_> = staged.into_iter().map(|entry| entry.path).collect();
        let names = match fs::read_dir(self.dir.join("stage")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(pending),
            names => names.map_err(|source| self.io_error(source))?,
        };
        for name in names {
            let path = name.map_err(|source| self.io_error(source))?.path();
            if !known.contains(&path) {
                pending.files += 1;
                pending.bytes += fs::symlink_metadata(&path).map_or(0, |it| it.len());
            }
        }
        Ok(pending)
    }

    /// Whether a mount that never had it would do the same as one that has it. To be
    /// asked while no daemon has it.
    pub fn is_of_no_use(&self) -> Result<bool, SpoolError> {
        let journal = Journal::peek(&self.dir.join("journal"))?;
        Ok(!journal.has_leftovers && self.pending()?.is_nothing() && self.entries()?.is_empty())
    }

    /// What is in it, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, SpoolError> {
        let mut entries = self.staged(&Journal::peek(&self.dir.join("journal"))?);
        entries.extend(self.kept().map_err(|source| self.io_error(source))?);
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    fn staged(&self, journal: &Peeked) -> Vec<Entry> {
        let place = self.mount().map(|note| note.place);
        let mut entries = Vec::new();
        for (id, known) in &journal.stages {
            let path = self.dir.join("stage").join(id.to_string());
            // One that is done meanwhile.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let sealed = known.sealed.as_ref();
            let is_here = known
                .offloaded
                .as_ref()
                .is_none_or(|it| it.parts.is_empty());
            let whole = sealed.is_some_and(|it| it.base == SealedBase::Empty) && is_here;
            let ranges = sealed.filter(|_| !whole).map(|sealed| &sealed.written);
            entries.push(Entry {
                id: id.to_string(),
                state: sealed.map_or(EntryState::Writing, |_| EntryState::Waiting),
                place: place.clone(),
                key: Some(known.key.clone()),
                size_bytes: sealed.map_or(metadata.len(), |sealed| sealed.len),
                since_unix_seconds: metadata.modified().map_or(0, unix_seconds),
                reason: None,
                whole,
                written: ranges.map(|ranges| {
                    let pairs = ranges.iter().map(|range| [range.start, range.end]);
                    pairs.collect()
                }),
                missing: None,
                spool: self.dir.clone(),
                path,
            });
        }
        entries
    }

    /// How many files are in lost+found, and the last of them.
    pub fn last_kept(&self, limit: usize) -> Result<(usize, Vec<Entry>), SpoolError> {
        let paths = self.kept_paths().map_err(|source| self.io_error(source))?;
        let last = paths.iter().rev().take(limit);
        Ok((paths.len(), self.kept_entries(last)))
    }

    fn kept(&self) -> io::Result<Vec<Entry>> {
        Ok(self.kept_entries(self.kept_paths()?.iter()))
    }

    /// In the order of their numbers.
    fn kept_paths(&self) -> io::Result<Vec<PathBuf>> {
        let names = match fs::read_dir(self.dir.join(DIR_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            names => names?,
        };
        let mut paths = Vec::new();
        for name in names {
            let path = name?.path();
            if path.extension().is_none() {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn kept_entries<'a>(&self, paths: impl Iterator<Item = &'a PathBuf>) -> Vec<Entry> {
        let place = self.mount().map(|note| note.place);
        let entry = |path: &PathBuf| {
            let sidecar = Sidecar::beside(path).unwrap_or_else(|| Sidecar::unreadable(path));
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            Entry {
                id: id.into_owned(),
                state: EntryState::Kept,
                place: sidecar.place.or_else(|| place.clone()),
                key: sidecar.key,
                size_bytes: sidecar.size_bytes,
                since_unix_seconds: sidecar.kept_at_unix_seconds,
                reason: Some(sidecar.reason),
                whole: sidecar.whole,
                written: sidecar.written,
                missing: sidecar.missing,
                spool: self.dir.clone(),
                path: path.clone(),
            }
        };
        paths.map(entry).collect()
    }

    fn io_error(&self, source: io::Error) -> SpoolError {
        SpoolError::Io {
            path: self.dir.clone(),
            source,
        }
    }
}

impl Entry {
    /// Copies the bytes to a file that does not exist yet. Where not all of the
    /// file is here, what is missing reads as zeros.
    pub fn export(&self, to: &Path) -> io::Result<()> {
        let mut from = private::view(&self.path)?;
        let mut into = File::options().write(true).create_new(true).open(to)?;
        io::copy(&mut from, &mut into)?;
        into.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_spool_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let error = SpoolView::at(dir.path()).unwrap_err();
        assert!(matches!(error, SpoolError::NotASpool(_)));
    }
}
