//! The journal: what the spool's stages are, which objects are still to be
//! deleted and which multipart uploads to be ended, for the start after a crash.
//!
//! A text file: a line that names format and version, then one line a record,
//! each the CRC-32 of its JSON in hexadecimal, a space and the JSON. Records are
//! appended. A record that was torn by a crash is the last line, and is cut off.
//! Once the file is mostly about stages that are done it is written anew beside
//! the old one, synced and renamed over it.
//!
//! Order that holds after a power loss, for stages sealed with `Durable::Yes`:
//! bytes of the stage file, its directory entry, then its `sealed` record are
//! on disk when `append` returns.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

pub use record::{BlockSum, Record, SealedBase, SealedStage, Sending, StageId};

use crate::store::{Doomed, ETag, Key, StoreLog, UploadId};

/// Grows with every change that an older mediafs would misread.
const VERSION: u32 = 1;
const MAGIC: &str = "mediafs-journal";
/// Below this size the journal is never written anew.
const COMPACT_FROM_BYTES: u64 = 1 << 20;
/// Written anew when it is this many times as long as what it still has to say.
const COMPACT_RATIO: u64 = 4;

/// Whether a record must be on disk when `append` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// It outlives a power loss.
    Yes,
    /// It outlives the daemon.
    No,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(
        "journal {path} is of version {found}, this mediafs knows up to {VERSION}: start the newer mediafs again, or let it drain the spool first"
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "{path} is no journal of mediafs: move it away and mount again; stages then go to lost+found"
    )]
    Foreign { path: PathBuf },
    #[error("journal {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// What the journal knows of a stage that is not done.
#[derive(Debug, Clone)]
pub struct Known {
    pub key: Key,
    pub sealed: Option<SealedStage>,
    /// The multipart upload by which it goes to S3, if one was begun.
    pub sending: Option<Sending>,
    /// Which record of a sealed stage was its last; 0 for one that is being written.
    told: u64,
}

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    bytes: u64,
    /// Whether it is worth writing anew is next asked at this size.
    compact_from: u64,
    live: Live,
}

/// What the records come to.
#[derive(Debug, Default)]
struct Live {
    stages: BTreeMap<StageId, Known>,
    /// Records of sealed stages so far.
    told: u64,
    doomed: BTreeMap<Key, Option<ETag>>,
    uploads: BTreeSet<(Key, UploadId)>,
}

impl Journal {
    /// Opens the journal, makes it where there is none, and writes it anew with
    /// what still counts.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io_error = |source| JournalError::Io {
            path: path.to_owned(),
            source,
        };
        let live = read(path)?;
        let (file, bytes) = write_anew(path, &live).map_err(io_error)?;
        Ok(Self {
            path: path.to_owned(),
            inner: Mutex::new(Inner {
                file,
                bytes,
                compact_from: compact_from(bytes),
                live,
            }),
        })
    }

    /// Stages that are not done: those being written, then the sealed ones in the
    /// order in which their place was told last.
    pub fn known(&self) -> Vec<(StageId, Known)> {
        self.inner.lock().live.known()
    }

    /// The same, read from the file beside the daemon that appends to it.
    pub fn peek(path: &Path) -> Result<Vec<(StageId, Known)>, JournalError> {
        Ok(read(path)?.known())
    }

    /// Objects that are still to be deleted.
    pub fn doomed(&self) -> Vec<Doomed> {
        let inner = self.inner.lock();
        let doomed = inner.live.doomed.iter();
        doomed
            .map(|(key, etag)| Doomed {
                key: key.clone(),
                etag: etag.clone(),
            })
            .collect()
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub fn uploads(&self) -> Vec<(Key, UploadId)> {
        self.inner.lock().live.uploads.iter().cloned().collect()
    }

    /// What was appended before outlives a power loss once this returns.
    pub fn sync(&self) -> io::Result<()> {
        let file = self.inner.lock().file.try_clone()?;
        file.sync_data()
    }

    /// Errors: the disk's; the record then does not count.
    pub fn append(&self, record: Record, durable: Durable) -> io::Result<()> {
        let mut inner = self.inner.lock();
        // Done is done, whoever was about to tell more of the stage.
        if let Record::Sealed(sealed) = &record
            && !inner.live.stages.contains_key(&sealed.stage)
        {
            return Ok(());
        }
        let line = line(&record)?;
        if let Err(error) = inner.file.write_all(&line) {
            // What was written of it must not stand before the next record.
            inner.file.set_len(inner.bytes)?;
            return Err(error);
        }
        if durable == Durable::Yes {
            inner.file.sync_data()?;
        }
        inner.bytes += line.len() as u64;
        inner.live.apply(record);
        if inner.bytes > inner.compact_from {
            self.compact(&mut inner);
        }
        Ok(())
    }

    /// Appends what the next start can do without.
    fn tell(&self, record: Record) {
        if let Err(error) = self.append(record, Durable::No) {
            tracing::warn!(%error, "not in the journal: the next mount looks again, or leaves an unfinished upload");
        }
    }

    fn compact(&self, inner: &mut Inner) {
        let needed: u64 = inner
            .live
            .records()
            .filter_map(|record| line(&record).ok())
            .map(|line| line.len() as u64)
            .sum();
        inner.compact_from = compact_from(needed);
        if inner.bytes < inner.compact_from {
            return;
        }
        match write_anew(&self.path, &inner.live) {
            Ok((file, bytes)) => (inner.file, inner.bytes) = (file, bytes),
            Err(error) => tracing::warn!(%error, "the journal stays as long as it is"),
        }
    }
}

/// The size from which a journal with so many bytes to say is written anew.
fn compact_from(needed: u64) -> u64 {
    needed.saturating_mul(COMPACT_RATIO).max(COMPACT_FROM_BYTES)
}

fn header() -> String {
    format!("{MAGIC} {VERSION}\n")
}

fn line(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_string(record)?;
    Ok(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).into_bytes())
}

impl Live {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Begun { stage, key } => {
                self.stage(stage, key);
            }
            Record::Sealed(sealed) => {
                self.told += 1;
                let told = self.told;
                let known = self.stage(sealed.stage, sealed.key.clone());
                (known.sealed, known.told) = (Some(*sealed), told);
            }
            Record::Sending { stage, sending } => {
                if let Some(known) = self.stages.get_mut(&stage) {
                    known.sending = Some(sending);
                }
            }
            Record::Completing { stage, etag } => {
                let known = self.stages.get_mut(&stage);
                if let Some(sealed) = known.and_then(|known| known.sealed.as_mut()) {
                    sealed.completing = Some(etag);
                }
            }
            Record::Done { stage } => {
                self.stages.remove(&stage);
            }
            Record::Doomed { key, etag } => {
                self.doomed.insert(key, etag);
            }
            Record::Deleted { key } => {
                self.doomed.remove(&key);
            }
            Record::Uploading { key, upload } => {
                self.uploads.insert((key, upload));
            }
            Record::Uploaded { key, upload } => {
                self.uploads.remove(&(key, upload));
            }
        }
    }

    /// The stage, which has this key now.
    fn stage(&mut self, stage: StageId, key: Key) -> &mut Known {
        let known = self.stages.entry(stage).or_insert_with(|| Known {
            key: key.clone(),
            sealed: None,
            sending: None,
            told: 0,
        });
        known.key = key;
        known
    }

    fn known(&self) -> Vec<(StageId, Known)> {
        let stages = self.stages.iter();
        let mut known: Vec<_> = stages.map(|(id, known)| (*id, known.clone())).collect();
        known.sort_by_key(|(id, known)| (known.told, *id));
        known
    }

    /// Records that come to the same.
    fn records(&self) -> impl Iterator<Item = Record> {
        let stages = self.known().into_iter().flat_map(|(stage, known)| {
            let begun = Record::Begun {
                stage,
                key: known.key,
            };
            let sealed = known.sealed.map(Box::new).map(Record::Sealed);
            let sending = known.sending;
            let sending = sending.map(|sending| Record::Sending { stage, sending });
            std::iter::once(begun).chain(sealed).chain(sending)
        });
        let doomed = self.doomed.iter().map(|(key, etag)| Record::Doomed {
            key: key.clone(),
            etag: etag.clone(),
        });
        let uploads = self.uploads.iter().cloned();
        let uploads = uploads.map(|(key, upload)| Record::Uploading { key, upload });
        stages.chain(doomed).chain(uploads)
    }
}

impl StoreLog for Journal {
    fn doomed(&self, doomed: &Doomed) -> io::Result<()> {
        let Doomed { key, etag } = doomed.clone();
        self.append(Record::Doomed { key, etag }, Durable::No)
    }

    fn settled(&self, keys: &[Key]) {
        for key in keys {
            self.tell(Record::Deleted { key: key.clone() });
        }
    }

    fn upload_begun(&self, key: Key, upload: UploadId) {
        self.tell(Record::Uploading { key, upload });
    }

    fn upload_ended(&self, key: Key, upload: UploadId) {
        self.tell(Record::Uploaded { key, upload });
    }
}

/// What a journal's file comes to; nothing, where there is none.
fn read(path: &Path) -> Result<Live, JournalError> {
    match fs::read(path) {
        Ok(bytes) => replay(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Live::default()),
        Err(source) => Err(JournalError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

/// What is alive after every whole record.
fn replay(path: &Path, bytes: &[u8]) -> Result<Live, JournalError> {
    let mut live = Live::default();
    // The header is written before the file gets its name: there is none, or it is whole.
    let foreign = || JournalError::Foreign {
        path: path.to_owned(),
    };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().map(String::from_utf8_lossy);
    let found = first
        .as_deref()
        .and_then(|line| line.strip_prefix(MAGIC)?.trim().parse::<u32>().ok());
    match found {
        Some(found) if found > VERSION => {
            return Err(JournalError::Newer {
                path: path.to_owned(),
                found,
            });
        }
        Some(_) => {}
        None => return Err(foreign()),
    }
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        match parse(line) {
            Some(record) => live.apply(record),
            None if lines.peek().is_none() => {
                tracing::info!(path = %path.display(), "the last record was torn by a crash: it does not count");
            }
            None => {
                tracing::error!(path = %path.display(), "a record does not match its checksum: its stage goes to lost+found");
            }
        }
    }
    Ok(live)
}

fn parse(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?;
    let (crc, json) = text.strip_suffix('\n')?.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// A journal of these records under the path, whole or not at all.
fn write_anew(path: &Path, live: &Live) -> io::Result<(File, u64)> {
    let mut bytes = header().into_bytes();
    for record in live.records() {
        bytes.extend(line(&record)?);
    }
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_dir(path.parent().unwrap_or(path))?;
    // Appends, so that cutting off a failed write moves the next one too.
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, bytes.len() as u64))
}

/// Names made or removed in a directory outlive a power loss. Source: fsync(2).
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests;
