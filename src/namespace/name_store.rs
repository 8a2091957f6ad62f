//! What this mount keeps of names on its own disk: numbers that are not derived, and
//! what it knows of directories that the store does not tell.
//!
//! Written a little later than it is known: what a crash loses of it, the store and
//! the derived numbers stand for.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableError,
};

use super::checked;
use super::kept_database;
use super::name::Name;
use crate::private;
use crate::task::caught_now;
use crate::vocabulary::{Ino, Timestamp};

/// Number by parent and name.
const NUMBERS: TableDefinition<(u64, &str), u64> = TableDefinition::new("numbers.1");
/// What is known of a directory, by its number.
const DIRECTORIES: TableDefinition<u64, &[u8]> = TableDefinition::new("directories.2");
/// Most entries of the table of directories; a bucket with more starts it over.
const DIRECTORIES_LIMIT: u64 = 1_000_000;
const WRITE_EVERY: Duration = Duration::from_secs(1);

type Changes<K, V> = HashMap<K, Option<V>>;

/// Where the table of directories has the time when it was begun. No directory has
/// these numbers.
const BEGUN_AT: u64 = 0;
/// And the time when the kernel's session began.
const SESSION: u64 = 2;
/// And the place of the names.
const PLACE: u64 = 3;

/// Whether the kernel's session is another daemon's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    New,
    Resumed,
}

/// Nothing is kept where there is no database: the disk is full or read-only.
#[derive(Debug)]
pub struct NameStore {
    database: Option<Database>,
    /// When the kernel's session began.
    session: SystemTime,
    begun_at: SystemTime,
    unwritten: Mutex<Unwritten>,
    /// The log tells that it cannot be written.
    is_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Unwritten {
    numbers: Changes<(Ino, Name), Ino>,
    directories: Changes<Ino, Vec<u8>>,
}

impl Unwritten {
    fn is_empty(&self) -> bool {
        self.numbers.is_empty() && self.directories.is_empty()
    }
}

impl NameStore {
    /// Opens the file, or starts again where it is damaged, or of another `place`:
    /// names of another bucket have the same numbers. What the place was called before
    /// counts as it.
    pub fn open(path: &Path, place: &str, before: Option<&str>, session: Session) -> Self {
        let opened = private::database(path).or_else(|error| {
            // It may be whole: the next mount reads it.
            if kept_database::is_full(&error) {
                return Err(error);
            }
            tracing::warn!(path = %path.display(), %error, "the store of names was unreadable: starting with an empty one");
            std::fs::remove_file(path)?;
            private::database(path)
        });
        let database = opened.map_err(redb::Error::from);
        let database = database.and_then(|database| prepared(database, place, before));
        if let Err(error) = &database {
            tracing::warn!(path = %path.display(), %error, "cannot open the store of names: inode numbers and directory attributes are not kept");
        }
        let mut store = Self {
            database: database.ok(),
            session: SystemTime::now(),
            begun_at: SystemTime::now(),
            unwritten: Mutex::default(),
            is_failed: AtomicBool::new(false),
        };
        match session {
            Session::New => store.note_time(SESSION, store.session),
            Session::Resumed => store.session = store.time(SESSION),
        }
        store.begun_at = store.time(BEGUN_AT);
        store.write_out();
        store
    }

    /// When the kernel's session began.
    pub fn session(&self) -> SystemTime {
        self.session
    }

    /// When this file was first used: the time of directories that have none.
    pub fn begun_at(&self) -> SystemTime {
        self.begun_at
    }

    /// A time that is kept; now, where there is none yet.
    fn time(&self, number: u64) -> SystemTime {
        let known = self.directory(Ino(number));
        let known = known.and_then(|json| serde_json::from_slice::<Timestamp>(&json).ok());
        known.map_or_else(
            || {
                let now = SystemTime::now();
                self.note_time(number, now);
                now
            },
            SystemTime::from,
        )
    }

    fn note_time(&self, number: u64, time: SystemTime) {
        let time = serde_json::to_vec(&Timestamp::from(time));
        self.note_directory(Ino(number), time.ok());
    }

    /// Every number that is kept.
    pub fn numbers(&self) -> Vec<((Ino, Name), Ino)> {
        let mut found = Vec::new();
        let read = self.read(NUMBERS, |table| {
            for entry in table.iter()? {
                let (place, ino) = entry?;
                let (parent, name) = place.value();
                if let Some(name) = Name::from_segment(name) {
                    found.push(((Ino(parent), name), Ino(ino.value())));
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(%error, "cannot read the stored inode numbers");
        }
        found
    }

    /// None where the derived number is the right one.
    pub fn note_number(&self, place: &(Ino, Name), ino: Option<Ino>) {
        if self.database.is_some() {
            self.unwritten.lock().numbers.insert(place.clone(), ino);
        }
    }

    pub fn directory(&self, ino: Ino) -> Option<Vec<u8>> {
        if let Some(unwritten) = self.unwritten.lock().directories.get(&ino) {
            return unwritten.clone();
        }
        let mut found = None;
        let read = self.read(DIRECTORIES, |table| {
            let value = table.get(ino.0)?;
            let key = ino.0.to_le_bytes();
            found = value.and_then(|value| Some(checked::opened(&key, value.value())?.to_vec()));
            Ok(())
        });
        if let Err(error) = read {
            tracing::warn!(%error, "cannot read the stored attributes of a directory");
        }
        found
    }

    pub fn note_directory(&self, ino: Ino, record: Option<Vec<u8>>) {
        if self.database.is_some() {
            self.unwritten.lock().directories.insert(ino, record);
        }
    }

    fn read<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        table: TableDefinition<K, V>,
        read: impl FnOnce(ReadOnlyTable<K, V>) -> Result<(), redb::Error>,
    ) -> Result<(), redb::Error> {
        let Some(database) = &self.database else {
            return Ok(());
        };
        match database.begin_read()?.open_table(table) {
            Err(TableError::TableDoesNotExist(_)) => Ok(()),
            table => read(table?),
        }
    }

    /// Writes what has changed every now and then, until nobody has the store any more.
    pub async fn run(this: Weak<Self>) {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            let Some(store) = this.upgrade() else { return };
            // A thread that blocks is not taken for nothing.
            if store.unwritten.lock().is_empty() {
                continue;
            }
            let written = tokio::task::spawn_blocking(move || store.write_out()).await;
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write the store of names");
            }
        }
    }

    /// Writes what waits in memory.
    pub fn write_out(&self) {
        let Some(database) = &self.database else {
            return;
        };
        let changes = std::mem::take(&mut *self.unwritten.lock());
        if changes.is_empty() {
            return;
        }
        let written = caught_now("names", || write(database, &changes));
        let written = written.map_err(|error| redb::Error::Io(io::Error::other(error)));
        let written = written.flatten();
        let was_failed = self.is_failed.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written {
            if !was_failed {
                tracing::warn!(%error, "cannot write the store of names: if the disk is full, what changes from now on is not kept until the next mount");
            }
            let mut unwritten = self.unwritten.lock();
            keep_older(&mut unwritten.numbers, changes.numbers);
            keep_older(&mut unwritten.directories, changes.directories);
        }
    }
}

impl Default for NameStore {
    fn default() -> Self {
        Self {
            database: None,
            session: SystemTime::UNIX_EPOCH,
            begun_at: SystemTime::UNIX_EPOCH,
            unwritten: Mutex::default(),
            is_failed: AtomicBool::new(false),
        }
    }
}

impl Drop for NameStore {
    fn drop(&mut self) {
        self.write_out();
    }
}

/// Puts changes back that were not written, behind what came since.
fn keep_older<K: Eq + Hash, V>(newer: &mut Changes<K, V>, older: Changes<K, V>) {
    for (key, change) in older {
        newer.entry(key).or_insert(change);
    }
}

fn write(database: &Database, changes: &Unwritten) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(NUMBERS)?;
        for ((parent, name), ino) in &changes.numbers {
            let place = (parent.0, name.as_str());
            match ino {
                Some(ino) => drop(table.insert(place, ino.0)?),
                None => drop(table.remove(place)?),
            }
        }
        let mut table = transaction.open_table(DIRECTORIES)?;
        for (ino, record) in &changes.directories {
            match record {
                Some(record) => {
                    let record = checked::sealed(&ino.0.to_le_bytes(), record);
                    drop(table.insert(ino.0, record.as_slice())?);
                }
                None => drop(table.remove(ino.0)?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The same database, with nothing of another place, and no more directories than
/// there is room for.
fn prepared(
    database: Database,
    place: &str,
    before: Option<&str>,
) -> Result<Database, redb::Error> {
    let transaction = database.begin_write()?;
    let (of_another, too_many) = {
        let table = transaction.open_table(DIRECTORIES)?;
        let known = table.get(PLACE)?.map(|known| known.value().to_vec());
        let mut names = std::iter::once(place).chain(before);
        (
            known.is_some_and(|known| names.all(|name| known != name.as_bytes())),
            table.len()? > DIRECTORIES_LIMIT,
        )
    };
    if of_another || too_many {
        transaction.delete_table(DIRECTORIES)?;
    }
    if of_another {
        transaction.delete_table(NUMBERS)?;
    }
    transaction
        .open_table(DIRECTORIES)?
        .insert(PLACE, place.as_bytes())?;
    transaction.commit()?;
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_full_disk_keeps_from_being_read_is_not_thrown_away() {
        let Some(disk) = crate::record_log::small_disk::SmallDisk::new(8 << 20) else {
            return;
        };
        let (path, killed) = (disk.path("names"), disk.path("killed"));
        let record = Some(b"record".to_vec());
        let store = NameStore::open(&path, "a", None, Session::New);
        store.note_directory(Ino(7), record.clone());
        store.write_out();
        // As a kill leaves it: to be repaired, which takes room.
        std::fs::copy(&path, &killed).unwrap();
        disk.fill();
        drop(NameStore::open(&killed, "a", None, Session::Resumed));
        disk.free();
        let store = NameStore::open(&killed, "a", None, Session::Resumed);
        assert_eq!(store.directory(Ino(7)), record);
    }

    #[test]
    fn what_is_kept_of_directories_outlives_the_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("names");
        let record = Some(b"record".to_vec());
        let times;
        {
            let store = NameStore::open(&path, "a", None, Session::New);
            times = (store.begun_at(), store.session());
            store.note_directory(Ino(7), record.clone());
            store.note_directory(Ino(8), record.clone());
            assert_eq!(store.directory(Ino(7)), record);
            store.write_out();
            store.note_directory(Ino(8), None);
        }
        let store = NameStore::open(&path, "a", None, Session::Resumed);
        assert_eq!((store.begun_at(), store.session()), times);
        assert_eq!(store.directory(Ino(7)), record);
        assert_eq!(store.directory(Ino(8)), None);
        drop(store);
        let store = NameStore::open(&path, "moved", Some("a"), Session::New);
        assert_eq!(store.directory(Ino(7)), record);
        drop(store);
        let store = NameStore::open(&path, "another bucket", Some("a"), Session::New);
        assert_eq!(store.directory(Ino(7)), None);
        drop(store);
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let store = NameStore::open(&path, "a", None, Session::New);
        assert_eq!(store.directory(Ino(7)), None);
        assert!(store.begun_at() >= times.0 && store.session() > times.1);
    }
}
