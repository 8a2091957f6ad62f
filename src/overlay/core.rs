//! What all parts of an overlay share.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::foreground::Foreground;
use super::interrupted_uploads::{InterruptedUploads, ResumeUploads};
use super::marks::{self, Marks, MarksError, Moment, Record, hash_of};
use super::old_directory::{OldDirectory, OldStat};
use super::progress::Progress;
use crate::record_log::{Durable, RecordLog};
use crate::store::{
    Key, LateChanges, ObjectHeaders, ObjectStore, StoreError, StoreErrorKind, StoreLog, StoreOp,
};

/// What is stored with the object of an old file of this path.
pub type Describe = Arc<dyn Fn(&str, &OldStat) -> ObjectHeaders + Send + Sync>;

/// What an overlay is made of.
pub struct Parts {
    /// The bucket.
    pub store: Arc<dyn ObjectStore>,
    pub late: LateChanges,
    /// Told of multipart uploads.
    pub uploads: Arc<dyn StoreLog>,
    pub prefix: String,
    pub describe: Describe,
    /// Whether a program has a file open for writing that is open here to read.
    pub is_being_written: fn(BorrowedFd<'_>) -> bool,
    /// Longest file that is sent in one request, and length of a part.
    pub part_bytes: u64,
    pub markers: Markers,
    pub cut_off_uploads: ResumeUploads,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parts").field(&self.store).finish()
    }
}

/// Whether an empty directory is brought into the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markers {
    Wanted,
    Unwanted,
}

/// The bucket, the old directory, and what of it counts.
pub struct Core {
    pub parts: Parts,
    pub old: Arc<OldDirectory>,
    pub marks: RecordLog<Marks>,
    pub turns: KeyLocks,
    pub foreground: Foreground,
    pub progress: Progress,
    pub interrupted_uploads: InterruptedUploads,
    /// Directories of which nothing counts any more, since when.
    pub dead: Mutex<HashMap<u64, Moment>>,
    /// Whiteouts were written and not synced. Held while they are.
    pub unsynced: Mutex<bool>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} over {:?}", self.parts.store, self.old)
    }
}

/// Who has something under a key.
#[derive(Debug)]
pub enum Either<T> {
    Above(T),
    Below(OldStat),
}

/// Whose turn it is to change what is under a key.
#[derive(Debug, Default)]
pub struct KeyLocks(Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>);

/// With more, those that nobody has or waits for are dropped.
const TURNS_KEPT: usize = 64;

impl KeyLocks {
    pub async fn take(&self, key: u64) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock();
            if turns.len() > TURNS_KEPT {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(key).or_default().clone()
        };
        turn.lock_owned().await
    }
}

impl Core {
    /// Errors: the log of what counts; it is of another directory.
    pub fn open(parts: Parts, old: OldDirectory, marks: &Path) -> Result<Self, MarksError> {
        let marks = marks::open(marks, &old)?;
        let progress = Progress::default();
        if marks.with(Marks::is_ended) {
            progress.end();
        }
        Ok(Self {
            parts,
            old: Arc::new(old),
            marks,
            turns: KeyLocks::default(),
            foreground: Foreground::default(),
            progress,
            interrupted_uploads: InterruptedUploads::default(),
            dead: Mutex::default(),
            unsynced: Mutex::default(),
        })
    }

    /// The path of a key in the old directory; none for one that is not below the prefix.
    pub fn path<'a>(&self, key: &'a Key) -> Option<&'a str> {
        let path = key.as_str().strip_prefix(&self.parts.prefix)?;
        (!path.is_empty()).then_some(path)
    }

    pub fn key(&self, path: &str) -> Key {
        Key::new(format!("{}{path}", self.parts.prefix))
    }

    /// The turn of a key. None once the overlay has ended: nothing is imported then.
    ///
    /// An old file that is hidden has a turn too: an import of it may be under way.
    pub async fn turn(&self, path: &str) -> Option<OwnedMutexGuard<()>> {
        match self.marks.with(Marks::is_ended) {
            true => None,
            false => Some(self.turns.take(hash_of(path)).await),
        }
    }

    /// What the old directory has under a key, if that counts: nothing of what is hidden,
    /// or was in the bucket.
    pub async fn below(&self, key: &Key) -> Result<Option<OldStat>, StoreError> {
        match self.path(key) {
            Some(path) if self.counts(key) => self.stat(key, path).await,
            _ => Ok(None),
        }
    }

    fn counts(&self, key: &Key) -> bool {
        let hash = self.path(key).map(hash_of);
        hash.is_some_and(|hash| self.marks.with(|marks| marks.counts(hash)))
    }

    /// What the old directory has, whether it counts or not.
    pub async fn stat(&self, key: &Key, path: &str) -> Result<Option<OldStat>, StoreError> {
        let owned = path.to_owned();
        let found = self.on_disk(move |old| old.stat(&owned)).await;
        found.map_err(|error| of_old(StoreOp::Head, key, &error))
    }

    /// Asks the bucket, and the old directory where that has nothing: both again, where the
    /// old file stopped to count in between. The bucket has something then.
    ///
    /// Errors: `NotFound`, where neither has something; the bucket's; the disk's.
    pub async fn either<T, F>(
        &self,
        key: &Key,
        ask: impl Fn() -> F,
    ) -> Result<Either<T>, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        loop {
            let counted = self.counts(key);
            let absent = match ask().await {
                Ok(answer) => return Ok(Either::Above(answer)),
                Err(error) if error.kind == StoreErrorKind::NotFound && counted => error,
                Err(error) => return Err(error),
            };
            match self.below(key).await? {
                Some(stat) => return Ok(Either::Below(stat)),
                None if self.counts(key) => return Err(absent),
                None => {}
            }
        }
    }

    /// Runs what waits for the disk of the old directory.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        run: impl FnOnce(&OldDirectory) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let old = self.old.clone();
        match tokio::task::spawn_blocking(move || run(&old)).await {
            Ok(outcome) => outcome,
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Writes a record that outlives a power loss. Errors: the disk's.
    pub async fn append_synced(self: &Arc<Self>, record: Record) -> io::Result<()> {
        let core = self.clone();
        // Nobody else waits for the disk meanwhile.
        let written = tokio::task::spawn_blocking(move || {
            core.marks.append(record, Durable::No)?;
            core.marks.sync()
        });
        written.await.map_err(io::Error::other)?
    }

    /// These do not count any more. Errors: the disk's.
    pub fn hide<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
        durable: Durable,
    ) -> io::Result<()> {
        let Some(record) = Record::hidden(paths) else {
            return Ok(());
        };
        self.marks.append(record, durable)?;
        if durable == Durable::No {
            *self.unsynced.lock() = true;
        }
        Ok(())
    }

    /// What was hidden so far outlives a power loss once this returns. Errors: the disk's.
    pub fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        if *unsynced {
            self.marks.sync()?;
            *unsynced = false;
        }
        Ok(())
    }

    /// The same of one whose object has another version by now: where it is lost, the next
    /// look finds that version.
    pub fn hide_replaced(&self, path: &str) {
        let is_open = self.marks.with(|marks| marks.may_count(hash_of(path)));
        if is_open && let Err(error) = self.hide([path], Durable::No) {
            tracing::warn!(%error, path, "cannot write the log of the overlay");
        }
    }
}

/// An error of the old directory's disk.
pub fn of_old(op: StoreOp, key: &Key, error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => StoreErrorKind::AccessDenied,
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        _ => StoreErrorKind::Rejected,
    };
    StoreError::new(kind, op, key.clone(), format!("old directory: {error}"))
}

/// What was asked for is not under the key.
pub fn refused(op: StoreOp, key: &Key) -> StoreError {
    let why = "another version is there, of the bucket or of the old directory";
    StoreError::new(StoreErrorKind::PreconditionFailed, op, key.clone(), why)
}
