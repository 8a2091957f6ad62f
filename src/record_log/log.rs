//! A file of records: what they come to is kept in memory and rewritten when
//! the file is mostly about what is over.
//!
//! How records stand in it is in `frame`, and how they once did in `text`. On a full
//! disk it lives on the room that it has (`log_file`) and on its spare (`spare`).

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use parking_lot::Mutex;

use super::frame::{Chain, Frames, Header, Step, Tail};
use super::log_file::{AGAIN, LogFile};
use super::log_state::{Durable, LogState};
use super::rewrite::rewrite;
use super::room::{STEP_BYTES, compact_from, is_full};
use super::text;
use crate::private;

/// Attempts to read a file that is rewritten meanwhile.
const READ_LIMIT: usize = 5;

/// Why a file of records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "{name} {path} is of version {found}, this mediafs knows up to {known}: start the newer mediafs again, or let it drain the spool first"
    )]
    Newer {
        name: &'static str,
        path: PathBuf,
        found: u32,
        known: u32,
    },
    #[error(
        "{path} is no {name} of mediafs: move it away and mount again; stages then go to lost+found"
    )]
    Foreign { name: &'static str, path: PathBuf },
    #[error("{name} {path} is damaged: {what}")]
    Damaged {
        name: &'static str,
        path: PathBuf,
        what: String,
    },
    #[error("{name} {path}: {source}")]
    Io {
        name: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// A file of records that is open for appending.
#[derive(Debug)]
pub struct RecordLog<S> {
    path: PathBuf,
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    file: LogFile,
    /// Whether it is worth rewriting is next asked at this size.
    compact_from: u64,
    /// On a full disk it is not rewritten for room before this.
    shorten_at: Option<Instant>,
    state: S,
}

impl<S: LogState> RecordLog<S> {
    /// Appends to a file that is whole, and rewrites any other with what still
    /// counts: a full disk is enough for a start.
    pub fn resume(path: &Path, replayed: Replayed<S>) -> Result<Self, LogError> {
        let failed = |source| io_error::<S>(path, source);
        let Replayed { state, append_at } = replayed;
        let same = append_at.map(|at| resume_file(path, at, &state));
        let mut file = match same.transpose().map_err(failed)?.flatten() {
            Some(file) => file,
            None => rewrite(path, &state).map_err(failed)?,
        };
        if !file.keep_spare(path) {
            tracing::warn!(name = S::NAME, path = %path.display(), "the disk is full: no room can be kept for records to come");
        }
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                compact_from: compact_from(needed_bytes(&state)),
                shorten_at: None,
                file,
                state,
            }),
        })
    }

    /// What all records so far come to.
    pub fn with<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.inner.lock().state)
    }

    /// Of the file, without its room.
    #[cfg(test)]
    pub fn file_bytes(&self) -> u64 {
        self.inner.lock().file.bytes
    }

    /// What was appended before outlives a power loss once this returns.
    pub fn sync(&self) -> io::Result<()> {
        let (file, bytes, header) = {
            let inner = self.inner.lock();
            let file = &inner.file;
            (file.file.try_clone()?, file.bytes, file.header)
        };
        file.sync_data()?;
        let inner = self.inner.lock();
        // Unless another file took its place, which was synced.
        if inner.file.header == header && inner.file.bytes >= bytes {
            inner.file.note_end(bytes)?;
        }
        Ok(())
    }

    /// Errors: the disk's; the record then does not count.
    pub fn append(&self, record: S::Record, durable: Durable) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.state.accepts(&record) {
            return Ok(());
        }
        let (subject, payload) = (S::subject(&record), S::encode(&record)?);
        if let Err(error) = inner.file.append_record(subject, &payload, durable) {
            let is_shortened = is_full(&error) && self.shorten(&mut inner);
            if !is_shortened {
                return Err(error);
            }
            inner.file.append_record(subject, &payload, durable)?;
        }
        inner.state.apply(record);
        inner.file.keep_room(&self.path);
        if inner.file.bytes > inner.compact_from {
            self.compact(&mut inner);
        }
        Ok(())
    }

    fn compact(&self, inner: &mut Inner<S>) {
        inner.compact_from = compact_from(needed_bytes(&inner.state));
        if inner.file.bytes < inner.compact_from {
            return;
        }
        match rewrite(&self.path, &inner.state) {
            Ok(file) => inner.file = file,
            Err(error) => {
                tracing::warn!(name = S::NAME, %error, "cannot rewrite a record log: it is not shortened");
                // Again after it has grown.
                inner.compact_from = inner.file.bytes + STEP_BYTES;
            }
        }
    }

    /// Rewrites it for room, on a disk that has none. Returns whether there is some.
    fn shorten(&self, inner: &mut Inner<S>) -> bool {
        if inner.shorten_at.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let outcome = rewrite(&self.path, &inner.state);
        let is_shortened = outcome.is_ok();
        match outcome {
            Ok(file) => inner.file = file,
            Err(error) => {
                tracing::warn!(name = S::NAME, %error, "the disk is full, and a record log cannot be shortened");
            }
        }
        // What is nearly full of what counts is not rewritten for each record.
        let is_worth_it = is_shortened && inner.file.room_bytes() >= STEP_BYTES / 2;
        inner.shorten_at = (!is_worth_it).then(|| Instant::now() + AGAIN);
        is_shortened
    }
}

/// The file as it stands; none where it is a copy of another. What it says outlives a
/// power loss then, if it has to.
fn resume_file<S: LogState>(
    path: &Path,
    at: (Header, u64, Chain),
    state: &S,
) -> io::Result<Option<LogFile>> {
    if fs::symlink_metadata(path)?.ino() != at.0.file {
        return Ok(None);
    }
    let file = LogFile::resume(path, at, needed_bytes(state))?;
    if S::DURABLE == Durable::Yes {
        file.file.sync_all()?;
        file.note_end(file.bytes)?;
    }
    Ok(Some(file))
}

fn needed_bytes<S: LogState>(state: &S) -> u64 {
    let mut needed = 0;
    state.for_each(&mut |record| {
        needed += S::encode(&record).map_or(0, |payload| payload.len() as u64);
    });
    needed
}

/// What a file comes to; nothing, where there is none.
pub fn read<S: LogState>(path: &Path) -> Result<Replayed<S>, LogError> {
    match read_whole(path) {
        Ok(bytes) => Replayed::of(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Replayed::default()),
        Err(source) => Err(io_error::<S>(path, source)),
    }
}

/// The bytes of a file that its daemon may rewrite meanwhile: what was read of one
/// that became the spare may be of two files.
fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for _ in 0..READ_LIMIT {
        let mut file = private::view(path)?;
        bytes.clear();
        file.read_to_end(&mut bytes)?;
        if fs::symlink_metadata(path)?.ino() == file.metadata()?.ino() {
            break;
        }
    }
    Ok(bytes)
}

pub fn io_error<S: LogState>(path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        name: S::NAME,
        path: path.to_owned(),
        source,
    }
}

/// What the whole records of these bytes come to.
pub fn replay<S: LogState>(path: &Path, bytes: &[u8]) -> Result<S, LogError> {
    Ok(Replayed::of(path, bytes)?.state)
}

/// What a file comes to, and where it may be appended to.
#[derive(Debug, Default)]
pub struct Replayed<S> {
    pub state: S,
    /// None for a file that must be rewritten.
    pub append_at: Option<(Header, u64, Chain)>,
}

impl<S: LogState> Replayed<S> {
    /// Errors: `Newer`, `Foreign`.
    pub fn of(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        // The header is written before the file gets its name: there is none, or it is whole.
        let line_len = bytes.iter().position(|byte| *byte == b'\n');
        let (line, rest) = bytes.split_at(line_len.map_or(bytes.len(), |at| at + 1));
        let text = String::from_utf8_lossy(line);
        let version = text
            .strip_prefix(&format!("mediafs-{} ", S::NAME))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u32>().ok());
        let foreign = || LogError::Foreign {
            name: S::NAME,
            path: path.to_owned(),
        };
        match version.ok_or_else(foreign)? {
            found if found > S::VERSION => Err(LogError::Newer {
                name: S::NAME,
                path: path.to_owned(),
                found,
                known: S::VERSION,
            }),
            text::VERSION => Ok(Self {
                state: text::replay(path, rest),
                append_at: None,
            }),
            found => {
                let header = Header::parse(line).ok_or_else(foreign)?;
                let replayed = Self::of_frames(path, &header, bytes);
                // An older program would take records that it does not know for damaged.
                let append_at = replayed.append_at.filter(|_| found == S::VERSION);
                Ok(Self {
                    append_at,
                    ..replayed
                })
            }
        }
    }

    fn of_frames(path: &Path, header: &Header, bytes: &[u8]) -> Self {
        let mut state = S::default();
        state.expect(bytes.len());
        let tail = match S::DURABLE {
            Durable::Yes => Tail::Whole,
            Durable::No => Tail::UpToTheFirstGap,
        };
        let mut frames = Frames::of(header, bytes, tail);
        let mut understood = true;
        for step in frames.by_ref() {
            let damaged = match step {
                Step::Frame(subject, payload) if state.replay(subject, payload) => continue,
                Step::Frame(subject, _) => Some(subject),
                Step::Torn => {
                    tracing::info!(path = %path.display(), "ignoring the last record: a crash tore it");
                    continue;
                }
                Step::Damaged(subject) => subject,
            };
            understood = false;
            tracing::error!(path = %path.display(), about = ?damaged, "journal record damaged: the state of its subject is unknown");
            state.damaged(damaged);
        }
        let append_at = frames.append_at().filter(|_| understood);
        Self {
            state,
            append_at: append_at.map(|(at, chain)| (*header, at, chain)),
        }
    }
}
