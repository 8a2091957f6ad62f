//! Where records go: a queue in memory, and from there the file.
//!
//! Whoever changes a table notes it in the queue while the table is locked, so that
//! records stand in the order of the changes, and has the queue written once the
//! lock is free. One write takes what all threads have noted.
//!
//! On a full disk the file lives on the room that it has. When that is used up it is
//! rewritten in its spare, which makes room again. Only what does not fit there
//! costs the file; it is kept in memory then, and tried again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::record::{Record, SavedSession};
use super::session_file::{append, carry_over, push, replayed};
use super::state::SessionState;
use crate::record_log::{
    COMPACT_FROM_BYTES, LogError, LogFile, LogState, io_error, is_full, rename_over, rewrite,
    write_beside,
};
use crate::task::caught_now;

/// Rewritten when it is this many times as long as what it still has to say: programs
/// wait while a successor reads all of it.
const COMPACT_RATIO: u64 = 2;
/// A file that the disk did not take is tried again after this time.
const AWAY: Duration = Duration::from_secs(1);
/// It doubles up to this.
const AWAY_LIMIT: Duration = Duration::from_secs(8);
/// What a file that was shortened has room for, or it was not worth it.
const ROOM_BYTES: u64 = 64 << 10;
/// Longest wait for another thread to shorten it.
const SHORTENED_WITHIN: Duration = Duration::from_secs(30);
/// As much as this is copied to a rewritten file while nobody else can write.
const CATCH_UP_BYTES: u64 = 256 << 10;
/// Attempts to come so near the end of a file that is being written.
const CATCH_UP_LIMIT: usize = 8;

/// The size from which a file with so many bytes to say is rewritten.
fn compact_from(needed: u64) -> u64 {
    needed.saturating_mul(COMPACT_RATIO).max(COMPACT_FROM_BYTES)
}

/// Where records go; nowhere, for a mount whose session ends with its daemon.
#[derive(Debug, Default)]
pub struct SessionLog(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    queue: Mutex<Vec<Record>>,
    writer: Mutex<Writer>,
    /// Nobody rewrites it any more.
    is_compacted: Condvar,
}

#[derive(Debug)]
struct Writer {
    to: Target,
    /// Whether it is worth rewriting is next asked at this size.
    compact_from: u64,
    /// Some thread rewrites it, in the spare.
    is_compacting: bool,
    /// Some thread tries again and again to write what is in memory.
    is_restoring: bool,
    /// When it was last written from there.
    restored_at: Option<Instant>,
}

#[derive(Debug)]
enum Target {
    File(LogFile),
    /// Before the file is begun, and while the disk takes no records: then no file
    /// is there rather than one that misses something.
    Memory {
        saved: Box<SessionState>,
        /// It was begun, and nothing of it is missing.
        is_complete: bool,
    },
}

impl SessionLog {
    /// For a session that is about to begin: records wait for `begin`.
    pub fn awaiting(path: &Path) -> Self {
        let saved = Box::default();
        let to = Target::Memory {
            saved,
            is_complete: false,
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
                is_restoring: false,
                restored_at: None,
            }),
            is_compacted: Condvar::new(),
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

    /// For a session that another daemon began: its file is appended to as it is,
    /// and rewritten first only where it is of an older version or damaged.
    pub fn resume(path: &Path, saved: &SessionState) -> Result<Self, LogError> {
        let failed = |source| io_error::<SessionState>(path, source);
        let mut file = match saved.append_at {
            Some(at) => LogFile::resume(path, at, saved.needed_bytes())
                .and_then(|file| file.note_end(file.bytes).map(|()| file)),
            None => rewrite(path, saved),
        };
        if let Ok(file) = &mut file
            && !file.keep_spare(path)
        {
            tracing::warn!(path = %path.display(), "the disk is full: no room can be kept for the session log");
        }
        let file = Target::File(file.map_err(failed)?);
        Ok(Self::with(path, file, saved.needed_bytes()))
    }

    /// Whether somebody resumes the session once this daemon is dead.
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

    /// Nobody writes the file any more.
    #[cfg(test)]
    pub fn end(self) {
        if let Some(kept) = &self.0 {
            let mut writer = kept.writer.lock();
            kept.is_compacted
                .wait_while(&mut writer, |writer| writer.is_compacting);
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
        loop {
            // Whoever had the lock before may have written it.
            let noted = std::mem::take(&mut *kept.queue.lock());
            if noted.is_empty() {
                return;
            }
            let Target::File(file) = &mut writer.to else {
                return Self::remember(kept, &mut writer, noted);
            };
            let Err(error) = append(file, &noted) else {
                file.keep_room(&kept.path);
                if file.bytes > writer.compact_from && !writer.is_compacting {
                    Self::compact_aside(kept, writer);
                }
                return;
            };
            if !is_full(&error) {
                return Self::withdraw(kept, &mut writer, noted, &error);
            }
            if writer.is_compacting {
                kept.queue.lock().splice(0..0, noted);
                let busy = |writer: &mut Writer| writer.is_compacting;
                kept.is_compacted
                    .wait_while_for(&mut writer, busy, SHORTENED_WITHIN);
                if writer.is_compacting {
                    return Self::withdraw(kept, &mut writer, Vec::new(), &error);
                }
                continue;
            }
            let shortened = kept.shorten(&mut writer);
            let Target::File(file) = &mut writer.to else {
                return;
            };
            if let Err(error) = shortened.and_then(|()| append(file, &noted)) {
                Self::withdraw(kept, &mut writer, noted, &error);
            }
            return;
        }
    }

    /// Rewrites it for room while nobody else writes. Errors: it got none.
    fn shorten(&self, writer: &mut Writer) -> io::Result<()> {
        let Target::File(file) = &writer.to else {
            return Ok(());
        };
        let saved = replayed(file, file.bytes)?;
        let file = rewrite(&self.path, &saved)?;
        let room_bytes = file.room_bytes();
        writer.compact_from = compact_from(file.bytes);
        writer.to = Target::File(file);
        if room_bytes < ROOM_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Keeps in memory what the disk does not take, and has it tried again.
    fn remember(kept: &Arc<Self>, writer: &mut Writer, noted: Vec<Record>) {
        let Target::Memory { saved, is_complete } = &mut writer.to else {
            return;
        };
        noted.into_iter().for_each(|record| saved.apply(record));
        if !*is_complete || writer.is_restoring {
            return;
        }
        let of = Arc::downgrade(kept);
        let thread = std::thread::Builder::new().name("session-file".to_owned());
        match thread.spawn(move || Self::restore_later(&of)) {
            Ok(_) => writer.is_restoring = true,
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread that writes the session log again")
            }
        }
    }

    /// Tries until the disk takes the file, or nobody wants it any more.
    fn restore_later(of: &Weak<Self>) {
        let mut pause = AWAY;
        while let Some(kept) = of.upgrade() {
            let mut writer = kept.writer.lock();
            let restored = caught_now("session file", || kept.restore(&mut writer));
            if matches!(restored, Ok(true)) {
                writer.is_restoring = false;
                return;
            }
            drop(writer);
            drop(kept);
            std::thread::sleep(pause);
            pause = (pause * 2).min(AWAY_LIMIT);
        }
    }

    /// Whether nothing is to be tried any more.
    fn restore(&self, writer: &mut Writer) -> bool {
        let Target::Memory { saved, .. } = &writer.to else {
            return true;
        };
        let was_just = |at: Instant| at.elapsed() < AWAY;
        if writer.is_compacting || writer.restored_at.is_some_and(was_just) {
            return false;
        }
        let Ok(file) = rewrite(&self.path, &**saved) else {
            return false;
        };
        tracing::info!("the session log is complete");
        writer.compact_from = compact_from(file.bytes);
        writer.to = Target::File(file);
        writer.restored_at = Some(Instant::now());
        true
    }

    /// The disk takes no records: what they come to is kept in memory.
    fn withdraw(kept: &Arc<Self>, writer: &mut Writer, noted: Vec<Record>, error: &io::Error) {
        tracing::error!(%error, "cannot write the session log: no successor can resume");
        let Target::File(file) = &writer.to else {
            return;
        };
        let before = replayed(file, file.bytes);
        if let Err(error) = fs::remove_file(&kept.path) {
            tracing::error!(%error, "cannot remove the incomplete session file");
        }
        let (saved, is_complete) = match before {
            Ok(saved) => (Box::new(saved), true),
            // Never begun again: something would be missing.
            Err(error) => {
                tracing::error!(%error, "cannot write a complete session file: no successor can resume");
                (Box::default(), false)
            }
        };
        writer.to = Target::Memory { saved, is_complete };
        Self::remember(kept, writer, noted);
    }

    /// Has another thread rewrite the file, with what still counts.
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
        self.is_compacted.notify_all();
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
        let saved = replayed(&old, upto)?;
        let mut new = write_beside(&self.path, &saved)?;
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
        rename_over::<SessionState>(&mut new, &self.path)?;
        writer.to = Target::File(new);
        Ok(needed)
    }
}
