//! What the store said of object versions, on disk: each version is asked for once, ever.
//!
//! A cache: what is lost or unreadable is asked for again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};

use super::attributes::{Attributes, Described};
use super::checked;
use super::kept_database::KeptDatabase;
use crate::store::{Key, ObjectHeaders};
use crate::vocabulary::{Kind, ObjectVersion};

/// By key; the version is part of the value.
const TABLE: TableDefinition<&str, &[u8]> = TableDefinition::new("attributes.3");
/// One entry: the place of the keys.
const PLACE: TableDefinition<(), &str> = TableDefinition::new("place");
/// Entries that wait in memory for one transaction.
const BATCH_LIMIT: usize = 256;
/// Most entries; a bucket with more starts the cache over.
const ENTRIES_LIMIT: u64 = 2_000_000;

/// Why the cache's file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("attribute cache {path}: {source}: remove the file if it stays so")]
pub struct AttributeCacheError {
    path: PathBuf,
    source: redb::Error,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cached {
    etag: String,
    /// Whole seconds since 1970.
    last_modified: u64,
    headers: ObjectHeaders,
    /// Otherwise it tells only what kind of file the object is.
    settled: bool,
}

#[derive(Debug)]
pub struct AttributeCache {
    database: KeptDatabase,
    /// None where what is known is to be forgotten.
    unwritten: Mutex<HashMap<Key, Option<Cached>>>,
}

impl AttributeCache {
    /// Opens the file, or starts again where it is damaged, or of another `place`: a
    /// copy of a bucket has the same keys and ETags, and its own attributes.
    pub fn open(path: &Path, place: &str) -> Result<Self, AttributeCacheError> {
        let place = place.to_owned();
        let prepare = Box::new(move |database: &Database| prepare(database, &place));
        let database = KeptDatabase::open(path, prepare);
        let database = database.map_err(|source| AttributeCacheError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            database,
            unwritten: Mutex::default(),
        })
    }

    /// What is stored with exactly this version, if it has been asked for before.
    pub fn get(&self, key: &Key, version: &ObjectVersion) -> Option<Attributes> {
        let cached = self.cached(key, version)?;
        let same = cached.last_modified == seconds(version.last_modified);
        (cached.settled && same).then(|| Attributes::decode(cached.headers))
    }

    /// What kind of file the object is, if that is known: a change of attributes
    /// alone does not change it.
    pub fn kind(&self, key: &Key, version: &ObjectVersion) -> Option<Kind> {
        let cached = self.cached(key, version)?;
        Some(Attributes::decode(cached.headers).kind)
    }

    /// What is known of a key, if that is of an object with the version's ETag.
    fn cached(&self, key: &Key, version: &ObjectVersion) -> Option<Cached> {
        let unwritten = self.unwritten.lock().get(key).cloned();
        let cached = match unwritten {
            Some(cached) => cached?,
            None => self.read(key)?,
        };
        (cached.etag == version.etag.as_str()).then_some(cached)
    }

    fn read(&self, key: &Key) -> Option<Cached> {
        let found = self.database.with(|database| {
            let table = database.begin_read()?.open_table(TABLE)?;
            let value = table.get(key.as_str())?;
            Ok(value.and_then(|value| {
                let value = checked::opened(key.as_str().as_bytes(), value.value())?;
                serde_json::from_slice(value).ok()
            }))
        });
        found.flatten()
    }

    pub fn put(&self, key: &Key, version: &ObjectVersion, described: &Described) {
        let attributes = &described.attributes;
        if !described.settled && attributes.kind == Kind::File {
            return self.remove(key);
        }
        let cached = Cached {
            settled: described.settled,
            etag: version.etag.as_str().to_owned(),
            last_modified: seconds(version.last_modified),
            headers: attributes.headers.clone(),
        };
        self.note(key, Some(cached));
    }

    /// Another key has a copy of the version: what kind of file it is goes along.
    pub fn copied(&self, from: &Key, to: &Key, version: &ObjectVersion) {
        let known = self.cached(from, version);
        let known = known.map(|cached| Described {
            attributes: Attributes::decode(cached.headers).into(),
            settled: false,
        });
        if let Some(described) = known.filter(|known| known.attributes.kind != Kind::File) {
            self.put(to, version, &described);
        }
    }

    fn remove(&self, key: &Key) {
        let known = self.unwritten.lock().contains_key(key);
        if known || self.read(key).is_some() {
            self.note(key, None);
        }
    }

    fn note(&self, key: &Key, cached: Option<Cached>) {
        let mut unwritten = self.unwritten.lock();
        unwritten.insert(key.clone(), cached);
        let full = unwritten.len() >= BATCH_LIMIT;
        drop(unwritten);
        if full {
            self.write_out();
        }
    }

    /// Writes what waits in memory.
    pub fn write_out(&self) {
        let batch = std::mem::take(&mut *self.unwritten.lock());
        if batch.is_empty() {
            return;
        }
        // What is lost is asked for again.
        self.database.with(|database| write(database, &batch));
    }
}

fn write(database: &Database, batch: &HashMap<Key, Option<Cached>>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(TABLE)?;
        for (key, cached) in batch {
            match cached.as_ref().map(serde_json::to_vec) {
                None => drop(table.remove(key.as_str())?),
                Some(Ok(value)) => {
                    let value = checked::sealed(key.as_str().as_bytes(), &value);
                    drop(table.insert(key.as_str(), value.as_slice())?);
                }
                Some(Err(error)) => {
                    tracing::warn!(%key, %error, "cannot write to the attribute cache")
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Starts the table again where it is of another place, or too long.
fn prepare(database: &Database, place: &str) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    let is_of_it = {
        let mut known = transaction.open_table(PLACE)?;
        let before = known.insert((), place)?;
        before.is_some_and(|before| before.value() == place)
    };
    let entries = transaction.open_table(TABLE)?.len()?;
    if !is_of_it || entries > ENTRIES_LIMIT {
        transaction.delete_table(TABLE)?;
        transaction.open_table(TABLE)?;
    }
    transaction.commit()?;
    Ok(())
}

impl Drop for AttributeCache {
    fn drop(&mut self) {
        self.write_out();
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn version(etag: &str, last_modified: u64) -> ObjectVersion {
        ObjectVersion {
            etag: ETag::new(etag),
            size_bytes: 1,
            last_modified: UNIX_EPOCH + std::time::Duration::from_secs(last_modified),
        }
    }

    fn described(mode: &str, settled: bool) -> Described {
        Described {
            attributes: attributes(mode).into(),
            settled,
        }
    }

    fn attributes(mode: &str) -> Attributes {
        let mut headers = ObjectHeaders::default();
        headers
            .user_metadata
            .insert("mode".to_owned(), mode.to_owned());
        Attributes::decode(headers)
    }

    #[test]
    fn a_version_is_remembered_over_a_restart_and_another_version_is_not_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attributes");
        let key = Key::new("a");
        {
            let cache = AttributeCache::open(&path, "a").unwrap();
            for count in 0..BATCH_LIMIT + 3 {
                let key = Key::new(format!("k{count}"));
                cache.put(&key, &version("x", 1), &described("33188", true));
            }
            cache.put(&key, &version("e", 5), &described("33152", true));
            assert!(cache.get(&Key::new("k0"), &version("x", 1)).is_some());
        }
        let cache = AttributeCache::open(&path, "a").unwrap();
        assert_eq!(cache.get(&key, &version("e", 5)), Some(attributes("33152")));
        assert_eq!(cache.get(&key, &version("e", 6)), None);
        assert_eq!(cache.get(&key, &version("f", 5)), None);
        assert_eq!(cache.get(&Key::new("b"), &version("e", 5)), None);
        cache.put(&key, &version("e", 5), &described("33152", false));
        assert_eq!(cache.get(&key, &version("e", 5)), None);
        let link = Key::new("link");
        cache.put(&link, &version("e", 5), &described("41471", false));
        drop(cache);
        let cache = AttributeCache::open(&path, "a").unwrap();
        assert_eq!(cache.get(&key, &version("e", 5)), None);
        assert_eq!(
            cache.get(&link, &version("e", 5)),
            None,
            "it may have changed"
        );
        assert_eq!(cache.kind(&link, &version("e", 6)), Some(Kind::Symlink));
        assert_eq!(cache.kind(&link, &version("f", 6)), None);
    }

    #[test]
    fn what_is_known_of_one_place_is_not_taken_for_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attributes");
        let key = Key::new("a");
        for (place, known) in [("a", false), ("a", true), ("b", false), ("a", false)] {
            let cache = AttributeCache::open(&path, place).unwrap();
            let found = cache.get(&key, &version("e", 5));
            assert_eq!(found.is_some(), known, "{place}");
            cache.put(&key, &version("e", 5), &described("33152", true));
        }
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attributes");
        std::fs::write(&path, vec![7; 10_000]).unwrap();
        let cache = AttributeCache::open(&path, "a").unwrap();
        cache.put(&Key::new("a"), &version("e", 5), &described("33152", true));
        cache.write_out();
        assert!(cache.get(&Key::new("a"), &version("e", 5)).is_some());
    }

    #[test]
    fn one_that_is_damaged_inside_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attributes");
        let other: TableDefinition<u64, u64> = TableDefinition::new("place");
        let database = crate::private::database(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(other).unwrap().insert(1, 1).unwrap();
        transaction.commit().unwrap();
        drop(database);
        let cache = AttributeCache::open(&path, "a").unwrap();
        cache.put(&Key::new("a"), &version("e", 5), &described("33152", true));
        cache.write_out();
        assert!(cache.get(&Key::new("a"), &version("e", 5)).is_some());
    }
}
