//! A database of what can be asked for again, on a disk that may be full or read-only.
//!
//! An error of the disk closes it: what is in it is not known then, and what is new is
//! not kept. It is opened again after a while.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redb::{Database, DatabaseError, StorageError};

use crate::private;

/// One that the disk failed is opened again after this time.
const AGAIN: Duration = Duration::from_secs(10);

type Prepare = Box<dyn Fn(&Database) -> Result<(), redb::Error> + Send + Sync>;

pub struct KeptDatabase {
    path: PathBuf,
    prepare: Prepare,
    inner: RwLock<Inner>,
}

impl fmt::Debug for KeptDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeptDatabase").field(&self.path).finish()
    }
}

struct Inner {
    database: Option<Database>,
    again_at: Instant,
}

impl KeptDatabase {
    /// Opens the file, or starts again where it is damaged. `prepare` comes before its use.
    ///
    /// Errors: those that are not of a disk which is full or read-only.
    pub fn open(path: &Path, prepare: Prepare) -> Result<Self, redb::Error> {
        let open = || {
            let database = private::database(path).map_err(redb::Error::from)?;
            prepare(&database)?;
            Ok(database)
        };
        let opened = open().or_else(|error| {
            // It may be whole.
            if is_of_the_disk(&error) {
                return Err(error);
            }
            tracing::warn!(path = %path.display(), %error, "attribute cache was unreadable: starting with an empty one");
            std::fs::remove_file(path).map_err(redb::Error::Io)?;
            open()
        });
        let database = match opened {
            Err(error) if is_of_the_disk(&error) => {
                tracing::warn!(path = %path.display(), %error, "cannot use the attribute cache: it is tried again");
                None
            }
            opened => Some(opened?),
        };
        Ok(Self {
            path: path.to_owned(),
            prepare,
            inner: RwLock::new(Inner {
                database,
                again_at: Instant::now() + AGAIN,
            }),
        })
    }

    /// Uses it; none where it cannot be used, which is said once.
    pub fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Option<T> {
        self.reopen_if_due();
        let inner = self.inner.read();
        let error = match run(inner.database.as_ref()?) {
            Ok(found) => return Some(found),
            Err(error) => error,
        };
        drop(inner);
        tracing::warn!(path = %self.path.display(), %error, "cannot use the attribute cache");
        if is_of_the_disk(&error) {
            let mut inner = self.inner.write();
            inner.database = None;
            inner.again_at = Instant::now() + AGAIN;
        }
        None
    }

    fn reopen_if_due(&self) {
        let is_due = |inner: &Inner| inner.database.is_none() && Instant::now() >= inner.again_at;
        if !is_due(&self.inner.read()) {
            return;
        }
        let mut inner = self.inner.write();
        if !is_due(&inner) {
            return;
        }
        let opened = private::database(&self.path).map_err(redb::Error::from);
        let prepared = opened.and_then(|database| (self.prepare)(&database).map(|()| database));
        match prepared {
            Ok(database) => {
                tracing::info!(path = %self.path.display(), "the attribute cache is used again");
                inner.database = Some(database);
            }
            Err(error) => {
                tracing::debug!(%error, "the attribute cache still cannot be used");
                inner.again_at = Instant::now() + AGAIN;
            }
        }
    }
}

/// Whether it may be whole all the same.
pub(super) fn is_full(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Storage(StorageError::Io(error)) if is_full_or_read_only(error))
}

/// After one, the database refuses everything until it is opened again.
fn is_of_the_disk(error: &redb::Error) -> bool {
    match error {
        redb::Error::Io(error) => is_full_or_read_only(error),
        redb::Error::PreviousIo => true,
        _ => false,
    }
}

fn is_full_or_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    )
}
