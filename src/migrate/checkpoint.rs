//! What an earlier run has proved and begun, on the local disk: never in the bucket.
//!
//! What is lost of it costs time, not safety: a file is compared again.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parking_lot::Mutex;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
};
use serde::{Deserialize, Serialize};

use super::entry::{Snapshot, Stat};
use crate::config::AttributesMode;
use crate::journal::UploadStart;
use crate::private;
use crate::store::UploadId;

/// Which file, as it was, is which version of its object; by path.
const EQUAL: TableDefinition<&str, &[u8]> = TableDefinition::new("equal.1");
/// Uploads in parts that are not ended; by path.
const UPLOADS: TableDefinition<&str, &[u8]> = TableDefinition::new("uploads.1");
/// Entries that wait in memory for one transaction.
const BATCH_LIMIT: usize = 256;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("another import or export of the same places is running: wait for its end")]
    InUse,
    #[error("the checkpoint {path} cannot be used")]
    Unusable { path: PathBuf, source: redb::Error },
}

/// A file, or an object of another bucket, that has the bytes of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equal {
    #[serde(rename = "stat")]
    pub other: Snapshot,
    pub etag: String,
    #[serde(default)]
    pub with: With,
    /// When the object was made, in seconds since 1970, where attributes were compared: a
    /// copy onto itself, which changes them, keeps the ETag.
    #[serde(default)]
    pub modified: Option<u64>,
}

/// The version of a marker where there is none.
const NO_MARKER: &str = "none";

impl Equal {
    /// Of a directory that the store has, but no marker that a listing tells of: what is
    /// stored with it would be lost.
    pub fn without_marker(stat: &Stat) -> Self {
        Self {
            other: Snapshot::File(*stat),
            etag: NO_MARKER.to_owned(),
            with: With::Bytes,
            modified: None,
        }
    }
}

/// What of both is equal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum With {
    #[default]
    Bytes,
    /// And owner, mode, time, extended attributes.
    Attributes,
}

impl With {
    /// What a run compares and brings over.
    pub fn of(mode: AttributesMode) -> Self {
        match mode {
            AttributesMode::Fixed => Self::Bytes,
            AttributesMode::Stored => Self::Attributes,
        }
    }
}

/// An upload in parts that a run has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    #[serde(rename = "stat")]
    pub source: Snapshot,
    pub since: SystemTime,
    /// Uploads of the key that were there before, whoever's they are; none where S3 did not
    /// tell of them.
    #[serde(default)]
    pub before: Option<Vec<UploadId>>,
    /// None where it may have been begun.
    pub sending: Option<UploadStart>,
}

#[derive(Debug)]
pub struct Checkpoint {
    database: Database,
    unwritten: Mutex<Vec<(String, Equal)>>,
}

type Outcome<T> = Result<T, redb::Error>;

impl Checkpoint {
    /// Opens what a run with the same places has left.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join("checkpoint");
        let begin_anew = |error: DatabaseError| {
            if !is_broken(&error) {
                return Err(error);
            }
            tracing::warn!(path = %path.display(), %error, "the checkpoint cannot be read and is kept as checkpoint.broken: what earlier runs have done is compared again, and uploads in parts that they began may be left");
            std::fs::rename(&path, directory.join("checkpoint.broken"))?;
            private::database(&path)
        };
        let opened = match private::database(&path) {
            Err(DatabaseError::DatabaseAlreadyOpen) => return Err(CheckpointError::InUse),
            opened => opened.or_else(begin_anew),
        };
        let prepared = opened.map_err(redb::Error::from).and_then(|database| {
            let this = Self {
                database,
                unwritten: Mutex::default(),
            };
            this.prepare().map(|()| this)
        });
        prepared.map_err(|source| CheckpointError::Unusable { path, source })
    }

    fn prepare(&self) -> Outcome<()> {
        let transaction = self.database.begin_write()?;
        transaction.open_table(EQUAL)?;
        transaction.open_table(UPLOADS)?;
        transaction.commit()?;
        Ok(())
    }

    /// Whether this file, as it is, was found to have the bytes of this version.
    pub fn is_equal(&self, path: &str, equal: &Equal) -> bool {
        self.known(path).is_some_and(|known| {
            let is_same = known.other == equal.other && known.etag == equal.etag;
            let has_others = equal.with == With::Attributes && known.modified != equal.modified;
            is_same && known.with >= equal.with && !has_others
        })
    }

    /// The version that some file of this path was found equal to.
    pub fn etag(&self, path: &str) -> Option<String> {
        self.known(path).map(|known| known.etag)
    }

    fn known(&self, path: &str) -> Option<Equal> {
        let unwritten = self
            .unwritten
            .lock()
            .iter()
            .rev()
            .find_map(|(known, it)| (known == path).then(|| it.clone()));
        unwritten.or_else(|| self.read(EQUAL, path).ok().flatten())
    }

    fn read<T: for<'a> Deserialize<'a>>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        path: &str,
    ) -> Outcome<Option<T>> {
        let table = self.database.begin_read()?.open_table(table)?;
        let found = table.get(path)?;
        Ok(found.and_then(|found| serde_json::from_slice(found.value()).ok()))
    }

    /// Remembers that a file has the bytes of an object.
    pub fn note_equal(&self, path: &str, equal: Equal) {
        let mut unwritten = self.unwritten.lock();
        unwritten.push((path.to_owned(), equal));
        if unwritten.len() >= BATCH_LIMIT {
            self.write_equal(&mut unwritten);
        }
    }

    /// Writes what waits in memory.
    pub fn flush(&self) {
        self.write_equal(&mut self.unwritten.lock());
    }

    fn write_equal(&self, batch: &mut Vec<(String, Equal)>) {
        let write = || {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(EQUAL)?;
                for (path, equal) in batch.iter() {
                    if let Ok(text) = serde_json::to_vec(equal) {
                        table.insert(path.as_str(), text.as_slice())?;
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        let outcome: Outcome<()> = write();
        batch.clear();
        if let Err(error) = outcome {
            tracing::warn!(%error, "cannot write the checkpoint: the next run compares again");
        }
    }

    /// An upload in parts is about to be begun, or was. Errors: the disk's; then it must not be.
    pub fn begin(&self, path: &str, begun: &Begun) -> Outcome<()> {
        let transaction = self.database.begin_write()?;
        {
            let text = serde_json::to_vec(begun).unwrap_or_default();
            let mut table = transaction.open_table(UPLOADS)?;
            table.insert(path, text.as_slice())?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// What was begun under this path, and not ended.
    pub fn begun(&self, path: &str) -> Option<Begun> {
        self.read(UPLOADS, path).ok().flatten()
    }

    /// Nothing of an upload of this path is left.
    pub fn end(&self, path: &str) {
        let end = || {
            let transaction = self.database.begin_write()?;
            transaction.open_table(UPLOADS)?.remove(path)?;
            transaction.commit()?;
            Ok(())
        };
        let outcome: Outcome<()> = end();
        if let Err(error) = outcome {
            tracing::warn!(path, %error, "cannot write the checkpoint");
        }
    }

    /// Every upload that was begun and not ended.
    pub fn all_begun(&self) -> Outcome<Vec<(String, Begun)>> {
        let table = self.database.begin_read()?.open_table(UPLOADS)?;
        let mut all = Vec::new();
        for entry in table.iter()? {
            let (path, begun) = entry?;
            if let Ok(begun) = serde_json::from_slice(begun.value()) {
                all.push((path.value().to_owned(), begun));
            }
        }
        Ok(all)
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Whether the file is no checkpoint. Other errors say nothing of what it has.
fn is_broken(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::UpgradeRequired(_) => true,
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::entry::Stat;

    #[test]
    fn a_file_that_a_full_disk_left_half_made_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        for left in [vec![], vec![0; 1 << 20], b"redb".to_vec()] {
            std::fs::write(dir.path().join("checkpoint"), &left).unwrap();
            let checkpoint = Checkpoint::open(dir.path()).unwrap();
            assert!(checkpoint.begun("f").is_none());
        }
    }

    fn stat(size_bytes: u64) -> Stat {
        Stat {
            device: 1,
            inode: 2,
            size_bytes,
            mtime: (3, 4),
            ctime: (5, 6),
            mode: 0o100_644,
            uid: 7,
            gid: 8,
        }
    }

    #[test]
    fn what_one_run_proved_the_next_one_knows() {
        let dir = tempfile::tempdir().unwrap();
        let equal = |size: u64, etag: &str| Equal {
            other: Snapshot::File(stat(size)),
            etag: etag.to_owned(),
            with: With::Bytes,
            modified: None,
        };
        let first = Checkpoint::open(dir.path()).unwrap();
        first.note_equal("a", equal(1, "old"));
        first.note_equal("a", equal(1, "e"));
        assert!(first.is_equal("a", &equal(1, "e")));
        let begun = Begun {
            source: Snapshot::File(stat(1)),
            since: SystemTime::UNIX_EPOCH,
            before: None,
            sending: None,
        };
        first.begin("long", &begun).unwrap();
        first.begin("done", &begun).unwrap();
        first.end("done");
        assert!(matches!(
            Checkpoint::open(dir.path()),
            Err(CheckpointError::InUse)
        ));
        drop(first);
        let second = Checkpoint::open(dir.path()).unwrap();
        assert!(second.is_equal("a", &equal(1, "e")));
        let attributes = Equal {
            with: With::Attributes,
            modified: None,
            ..equal(1, "e")
        };
        for other in [equal(2, "e"), equal(1, "old"), attributes] {
            assert!(!second.is_equal("a", &other));
        }
        assert_eq!(second.begun("long"), Some(begun.clone()));
        assert_eq!(second.all_begun().unwrap(), [("long".to_owned(), begun)]);
    }
}
