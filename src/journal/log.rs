//! A file of records: what they come to is kept in memory and written anew when
//! the file is mostly about what is over.
//!
//! A text file: a line that names format and version, then one line a record,
//! each the CRC-32 of its JSON in hexadecimal, a space and the JSON. Records are
//! appended. A record that was torn by a crash is the last line, and is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::private;

/// Below this size the file is never written anew.
pub(super) const COMPACT_FROM_BYTES: u64 = 1 << 20;
/// Written anew when it is this many times as long as what it still has to say.
const COMPACT_RATIO: u64 = 4;

/// A file that the disk did not take is tried again after this time.
const AWAY: Duration = Duration::from_secs(1);

/// Whether a record must be on disk when `append` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// It outlives a power loss.
    Yes,
    /// It outlives the daemon.
    No,
}

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
    #[error("{name} {path}: {source}")]
    Io {
        name: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

/// What records come to.
pub trait Replay: Default {
    type Record: Serialize + DeserializeOwned;
    /// What the file is, in errors and in its first line.
    const NAME: &'static str;
    /// Grows with every change that an older mediafs would misread.
    const VERSION: u32;
    /// Whether a file written anew must outlive a power loss.
    const DURABLE: Durable;

    /// Whether the record still says something.
    fn admits(&self, _record: &Self::Record) -> bool {
        true
    }

    fn apply(&mut self, record: Self::Record);

    /// Records that come to the same.
    fn records(&self) -> Vec<Self::Record>;
}

/// A file of records that is open for appending.
#[derive(Debug)]
pub struct Log<S> {
    path: PathBuf,
    inner: Mutex<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    /// None before the file is begun, and while it lacks records.
    file: Option<File>,
    bytes: u64,
    /// Whether it is worth writing anew is next asked at this size.
    compact_from: u64,
    state: S,
    /// When a file that lacks records is tried again.
    again_at: Option<Instant>,
}

impl<S: Replay> Log<S> {
    /// Opens the file, makes it where there is none, and writes it anew with
    /// what still counts.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Self::begin(path, read(path)?)
    }

    /// A file that says this, whatever was there.
    pub fn begin(path: &Path, state: S) -> Result<Self, LogError> {
        let (file, bytes) =
            write_anew(path, &state).map_err(|source| io_error::<S>(path, source))?;
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file: Some(file),
                bytes,
                compact_from: compact_from(bytes),
                state,
                again_at: None,
            }),
        })
    }

    /// Records are gathered in memory until `write_out`.
    pub fn later(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file: None,
                bytes: 0,
                compact_from: COMPACT_FROM_BYTES,
                state: S::default(),
                again_at: None,
            }),
        }
    }

    /// Begins the file with what was gathered. Errors: the disk's.
    pub fn write_out(&self) -> io::Result<()> {
        self.bring_back(&mut self.inner.lock())
    }

    /// What all records so far come to.
    pub fn with<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.inner.lock().state)
    }

    /// What was appended before outlives a power loss once this returns.
    pub fn sync(&self) -> io::Result<()> {
        let file = self.inner.lock().file()?.try_clone()?;
        file.sync_data()
    }

    /// Errors: the disk's; the record then does not count.
    pub fn append(&self, record: S::Record, durable: Durable) -> io::Result<()> {
        let mut inner = self.inner.lock();
        if !inner.state.admits(&record) {
            return Ok(());
        }
        let line = line(&record)?;
        let bytes = inner.bytes;
        let file = inner.file()?;
        if let Err(error) = file.write_all(&line) {
            // What was written of it must not stand before the next record.
            file.set_len(bytes)?;
            return Err(error);
        }
        if durable == Durable::Yes {
            file.sync_data()?;
        }
        inner.bytes += line.len() as u64;
        inner.state.apply(record);
        if inner.bytes > inner.compact_from {
            self.compact(&mut inner);
        }
        Ok(())
    }

    /// Notes a record whatever the disk says. While it takes none, no file is
    /// there rather than one that misses something.
    pub fn tell(&self, record: S::Record) {
        let mut inner = self.inner.lock();
        let line = line(&record);
        inner.state.apply(record);
        let Some(file) = &mut inner.file else {
            if inner.again_at.is_some_and(|at| Instant::now() >= at)
                && self.bring_back(&mut inner).is_ok()
            {
                tracing::info!(name = S::NAME, "the disk takes records again");
            }
            return;
        };
        match line.and_then(|line| file.write_all(&line).map(|()| line.len())) {
            Ok(len) => inner.bytes += len as u64,
            Err(error) => {
                tracing::error!(name = S::NAME, %error, "the disk takes no records: a restart would begin anew");
                if let Err(error) = fs::remove_file(&self.path) {
                    tracing::error!(name = S::NAME, %error, "a file that misses records stays");
                }
                inner.file = None;
                inner.again_at = Some(Instant::now() + AWAY);
                return;
            }
        }
        if inner.bytes > inner.compact_from {
            self.compact(&mut inner);
        }
    }

    fn bring_back(&self, inner: &mut Inner<S>) -> io::Result<()> {
        inner.again_at = Some(Instant::now() + AWAY);
        let (file, bytes) = write_anew(&self.path, &inner.state)?;
        (inner.file, inner.bytes) = (Some(file), bytes);
        inner.compact_from = compact_from(bytes);
        Ok(())
    }

    fn compact(&self, inner: &mut Inner<S>) {
        let records = inner.state.records();
        let lines = records.iter().filter_map(|record| line(record).ok());
        let needed: u64 = lines.map(|line| line.len() as u64).sum();
        inner.compact_from = compact_from(needed);
        if inner.bytes < inner.compact_from {
            return;
        }
        match write_anew(&self.path, &inner.state) {
            Ok((file, bytes)) => (inner.file, inner.bytes) = (Some(file), bytes),
            Err(error) => {
                tracing::warn!(name = S::NAME, %error, "a file of records stays as long as it is");
            }
        }
    }
}

impl<S> Inner<S> {
    fn file(&mut self) -> io::Result<&mut File> {
        let not_begun = || io::Error::other("the file of records is not begun");
        self.file.as_mut().ok_or_else(not_begun)
    }
}

/// What a file comes to; nothing, where there is none.
pub fn read<S: Replay>(path: &Path) -> Result<S, LogError> {
    match private::read(path) {
        Ok(bytes) => replay(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(S::default()),
        Err(source) => Err(io_error::<S>(path, source)),
    }
}

/// The size from which a file with so many bytes to say is written anew.
fn compact_from(needed: u64) -> u64 {
    needed.saturating_mul(COMPACT_RATIO).max(COMPACT_FROM_BYTES)
}

fn io_error<S: Replay>(path: &Path, source: io::Error) -> LogError {
    LogError::Io {
        name: S::NAME,
        path: path.to_owned(),
        source,
    }
}

fn magic<S: Replay>() -> String {
    format!("mediafs-{} ", S::NAME)
}

fn line<R: Serialize>(record: &R) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

/// What every whole record of these bytes comes to.
pub fn replay<S: Replay>(path: &Path, bytes: &[u8]) -> Result<S, LogError> {
    let mut state = S::default();
    // The header is written before the file gets its name: there is none, or it is whole.
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().map(String::from_utf8_lossy);
    let found = first
        .as_deref()
        .and_then(|line| line.strip_prefix(&magic::<S>())?.trim().parse::<u32>().ok());
    match found {
        Some(found) if found > S::VERSION => {
            return Err(LogError::Newer {
                name: S::NAME,
                path: path.to_owned(),
                found,
                known: S::VERSION,
            });
        }
        Some(_) => {}
        None => {
            return Err(LogError::Foreign {
                name: S::NAME,
                path: path.to_owned(),
            });
        }
    }
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        match parse(line) {
            Some(record) => state.apply(record),
            None if lines.peek().is_none() => {
                tracing::info!(path = %path.display(), "the last record was torn by a crash: it does not count");
            }
            None => {
                tracing::error!(path = %path.display(), "a record does not match its checksum: it does not count");
            }
        }
    }
    Ok(state)
}

fn parse<R: DeserializeOwned>(line: &[u8]) -> Option<R> {
    let text = std::str::from_utf8(line).ok()?;
    let (crc, json) = text.strip_suffix('\n')?.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// A file of these records under the path, whole or not at all.
fn write_anew<S: Replay>(path: &Path, state: &S) -> io::Result<(File, u64)> {
    let mut bytes = format!("{}{}\n", magic::<S>(), S::VERSION).into_bytes();
    for record in state.records() {
        bytes.extend(line(&record)?);
    }
    let beside = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = private::open(&beside, &options)?;
    file.write_all(&bytes)?;
    if S::DURABLE == Durable::Yes {
        file.sync_all()?;
    }
    fs::rename(&beside, path)?;
    if S::DURABLE == Durable::Yes {
        sync_dir(path.parent().unwrap_or(path))?;
    }
    // Appends, so that cutting off a failed write moves the next one too.
    let file = private::open(path, OpenOptions::new().append(true))?;
    Ok((file, bytes.len() as u64))
}

/// Names made or removed in a directory outlive a power loss. Source: fsync(2).
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
