//! Where records go: a queue in memory, and from there the file.
//!
//! Whoever changes a table notes it in the queue while the table is locked, so that
//! records stand in the order of the changes, and has the queue written once the
//! lock is free. One write takes what all threads have noted.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::encode;
use super::record::{Record, SavedSession};
use super::state::SessionState;
use crate::journal::{LogError, LogFile, LogState, Replayed, compact_from, io_error, rewrite};
use crate::private;
use crate::task::caught_now;

/// A file that the disk did not take is tried again after this time.
const AWAY: Duration = Duration::from_secs(1);
/// As much as this is copied to a file written anew while nobody else can write.
const CATCH_UP_BYTES: u64 = 256 << 10;
/// Attempts to come so near the end of a file that is being written.
const CATCH_UP_LIMIT: usize = 8;

/// Where records go; nowhere, for a mount whose session ends with its daemon.
#[derive(Debug, Default)]
pub struct SessionLog(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    queue: Mutex<Vec<Record>>,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    to: Target,
    /// Whether it is worth writing anew is next asked at this size.
    compact_from: u64,
    /// Some thread writes it anew.
    is_compacting: bool,
}

#[derive(Debug)]
enum Target {
    File(LogFile),
    /// Before the file is begun, and while the disk takes no records: then no file
    /// is there rather than one that misses something.
    Memory {
        saved: Box<SessionState>,
        again_at: Option<Instant>,
    },
}

impl SessionLog {
    /// For a session that is about to begin: records wait for `begin`.
    pub fn awaiting(path: &Path) -> Self {
        let saved = Box::default();
        let to = Target::Memory {
            saved,
            again_at: None,
        };
        Self::with(path, to, 0)
    }

    fn with(path: &Path, to: Target, needed_bytes: u64) -> Self {
        Self(Some(Arc::new(Kept {
            path: path.to_owned(),
            queue: Mutex::default(),
            writer: Mutex::new(Writer {
                to,
                compact_from: compact_from(needed_bytes),
                is_compacting: false,
            }),
        })))
    }

    /// The session is there: from now on the successor knows.
    ///
    /// Errors: the disk's.
    pub fn begin(&self, session: SavedSession) -> io::Result<()> {
        self.queue(|| Record::Session(session));
        match &self.0 {
            Some(kept) => kept.begin(),
            None => Ok(()),
        }
    }

    /// For a session that another daemon began: its file is gone on with as it is,
    /// and written anew first only where it is of an older version or damaged.
    pub fn resume(path: &Path, saved: &SessionState) -> Result<Self, LogError> {
        let failed = |source| io_error::<SessionState>(path, source);
        let file = match saved.append_at {
            Some((header, bytes, chain)) => {
                let mut options = fs::OpenOptions::new();
                let file = private::open(path, options.read(true).write(true)).map_err(failed)?;
                // What a kill has torn is not part of what is gone on with.
                file.set_len(bytes).map_err(failed)?;
                let file = LogFile {
                    file,
                    header,
                    bytes,
                    chain,
                };
                file.note_end(bytes).map_err(failed)?;
                file
            }
            None => rewrite(path, saved).map_err(failed)?,
        };
        Ok(Self::with(path, Target::File(file), saved.needed_bytes()))
    }

    /// Whether somebody goes on with the session once this daemon is dead.
    pub fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Notes what the kernel is about to be told, and writes it.
    pub fn record(&self, record: impl FnOnce() -> Record) {
        self.queue(record);
        self.commit();
    }

    /// Notes it, to be written by the next `commit`.
    pub fn queue(&self, record: impl FnOnce() -> Record) {
        if let Some(kept) = &self.0 {
            let record = record();
            push(&mut kept.queue.lock(), record);
        }
    }

    /// What was noted before is written once this returns.
    pub fn commit(&self) {
        if let Some(kept) = &self.0 {
            Kept::commit(kept);
        }
    }
}

impl Kept {
    fn begin(&self) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let noted = std::mem::take(&mut *self.queue.lock());
        if let Target::Memory { saved, .. } = &mut writer.to {
            noted.into_iter().for_each(|record| saved.apply(record));
            let file = rewrite(&self.path, &**saved)?;
            writer.compact_from = compact_from(file.bytes);
            writer.to = Target::File(file);
        }
        Ok(())
    }

    fn commit(kept: &Arc<Self>) {
        let mut writer = kept.writer.lock();
        // Whoever had the lock before may have written it.
        let noted = std::mem::take(&mut *kept.queue.lock());
        if noted.is_empty() {
            return;
        }
        match &mut writer.to {
            Target::Memory { .. } => kept.remember(&mut writer, noted),
            Target::File(file) => {
                if let Err(error) = append(file, &noted) {
                    kept.withdraw(&mut writer, noted, &error);
                } else if file.bytes > writer.compact_from && !writer.is_compacting {
                    Self::compact_aside(kept, writer);
                }
            }
        }
    }

    fn remember(&self, writer: &mut Writer, noted: Vec<Record>) {
        let Target::Memory { saved, again_at } = &mut writer.to else {
            return;
        };
        noted.into_iter().for_each(|record| saved.apply(record));
        if !again_at.is_some_and(|at| Instant::now() >= at) {
            return;
        }
        *again_at = Some(Instant::now() + AWAY);
        if let Ok(file) = rewrite(&self.path, &**saved) {
            tracing::info!("the session log is written again");
            writer.compact_from = compact_from(file.bytes);
            writer.to = Target::File(file);
        }
    }

    /// The disk takes no records: what they come to is kept in memory.
    fn withdraw(&self, writer: &mut Writer, noted: Vec<Record>, error: &io::Error) {
        tracing::error!(%error, "cannot write the session log: a restart would mount again");
        let Target::File(file) = &writer.to else {
            return;
        };
        let before = replayed(&self.path, file, file.bytes);
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::error!(%error, "cannot remove the incomplete session file");
        }
        let (saved, again_at) = match before {
            Ok(saved) => (Box::new(saved), Some(Instant::now() + AWAY)),
            // Never begun again: something would be missing.
            Err(error) => {
                tracing::error!(%error, "cannot write a complete session file: a restart would mount again");
                (Box::default(), None)
            }
        };
        writer.to = Target::Memory { saved, again_at };
        self.remember(writer, noted);
    }

    /// Has another thread write the file anew, with what still counts.
    fn compact_aside(kept: &Arc<Self>, mut writer: MutexGuard<'_, Writer>) {
        writer.is_compacting = true;
        drop(writer);
        let of = kept.clone();
        let thread = std::thread::Builder::new().name("session-file".to_owned());
        let begun = thread.spawn(move || of.compact());
        if let Err(error) = begun {
            tracing::warn!(%error, "cannot shorten the session file");
            kept.compacted(None);
        }
    }

    fn compact(&self) {
        let outcome = caught_now("session file", || self.written_anew());
        let outcome = outcome.map_err(io::Error::other).flatten();
        if let Err(error) = &outcome {
            tracing::warn!(%error, "cannot shorten the session file");
        }
        self.compacted(outcome.ok());
    }

    fn compacted(&self, needed: Option<u64>) {
        let mut writer = self.writer.lock();
        writer.is_compacting = false;
        let bytes = match &writer.to {
            Target::File(file) => file.bytes,
            Target::Memory { .. } => 0,
        };
        writer.compact_from = compact_from(needed.unwrap_or(bytes));
    }

    /// Takes the place of the file by one that says the same. Returns its length.
    fn written_anew(&self) -> io::Result<u64> {
        let gone = || io::Error::other("the file was given up meanwhile");
        let (old, upto) = match &self.writer.lock().to {
            Target::File(file) => (file.copy()?, file.bytes),
            Target::Memory { .. } => return Err(gone()),
        };
        let saved = replayed(&self.path, &old, upto)?;
        let aside = self.path.with_extension("shorter");
        let mut new = rewrite(&aside, &saved)?;
        drop(saved);
        let needed = new.bytes;
        let mut at = (upto, old.chain);
        let mut writer;
        let mut attempts = 0;
        loop {
            writer = self.writer.lock();
            let Target::File(file) = &writer.to else {
                return Err(gone());
            };
            let end = file.bytes;
            attempts += 1;
            if end - at.0 <= CATCH_UP_BYTES || attempts == CATCH_UP_LIMIT {
                carry_over(&old, at.0..end, at.1, &mut new)?;
                break;
            }
            let chain = file.chain;
            drop(writer);
            carry_over(&old, at.0..end, at.1, &mut new)?;
            at = (end, chain);
        }
        new.note_end(new.bytes)?;
        fs::rename(&aside, &self.path)?;
        writer.to = Target::File(new);
        Ok(needed)
    }
}

/// A name and its first reference are one record.
fn push(queue: &mut Vec<Record>, record: Record) {
    let joined = match (queue.last(), &record) {
        (Some(Record::Placed { ino, kind, place }), Record::Lookup { ino: of, count })
            if ino == of =>
        {
            Some(Record::Inode {
                ino: *ino,
                kind: *kind,
                place: place.clone(),
                lookups: *count,
            })
        }
        _ => None,
    };
    match (joined, queue.last_mut()) {
        (Some(joined), Some(last)) => *last = joined,
        _ => queue.push(record),
    }
}

/// Appends records, which then count as said.
fn append(file: &mut LogFile, records: &[Record]) -> io::Result<()> {
    let (mut frames, mut payload, mut chain) = (Vec::new(), Vec::new(), file.chain);
    for record in records {
        payload.clear();
        encode::encode(record, &mut payload)?;
        chain.push(&mut frames, encode::subject(record), &payload);
    }
    file.append(&frames, chain)?;
    file.note_end(file.bytes)
}

/// What a file came to when it was so long.
fn replayed(path: &Path, file: &LogFile, upto: u64) -> io::Result<SessionState> {
    let mut bytes = vec![0; usize::try_from(upto).unwrap_or(0)];
    file.file.read_exact_at(&mut bytes, 0)?;
    file.header.set_end(&mut bytes, upto);
    let saved = Replayed::<SessionState>::of(path, &bytes).map_err(io::Error::other)?;
    let damaged = saved.append_at.is_none();
    (!damaged)
        .then_some(saved.state)
        .ok_or_else(|| io::Error::other("the disk has changed the session's file"))
}

/// Appends the records of a part of a file to another.
fn carry_over(
    from: &LogFile,
    range: std::ops::Range<u64>,
    chain: crate::journal::Chain,
    to: &mut LogFile,
) -> io::Result<()> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    from.file.read_exact_at(&mut bytes, range.start)?;
    let (mut frames, mut after) = (Vec::new(), to.chain);
    for frame in chain.frames(&bytes) {
        let (subject, payload) =
            frame.ok_or_else(|| io::Error::other("the disk has changed the session's file"))?;
        after.push(&mut frames, subject, payload);
    }
    to.append(&frames, after)
}
