//! A log of deletes in memory, for unit tests.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{DeletePending, LateObject, StoreLog};
use crate::store::{Key, UploadId};

#[derive(Debug)]
pub struct MemoryLog {
    room: usize,
    pending: Mutex<Vec<Key>>,
    over: Mutex<Vec<String>>,
    settled: AtomicUsize,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::with_room(usize::MAX)
    }
}

impl MemoryLog {
    /// Has room for so many keys.
    pub fn with_room(room: usize) -> Self {
        Self {
            room,
            pending: Mutex::default(),
            over: Mutex::default(),
            settled: AtomicUsize::new(0),
        }
    }

    /// How many keys were noted as settled.
    pub fn settled_keys(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }

    /// Keys that are to be deleted, or may be.
    pub fn pending(&self) -> Vec<Key> {
        self.pending.lock().clone()
    }

    /// Keys of which no late object comes any more.
    pub fn over(&self) -> Vec<String> {
        let mut over = self.over.lock().clone();
        over.sort();
        over
    }
}

impl StoreLog for MemoryLog {
    fn delete_pending(&self, pending: &DeletePending) -> io::Result<()> {
        let mut log = self.pending.lock();
        if log.len() >= self.room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        log.push(pending.key.clone());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn settled(&self, keys: &[Key]) {
        self.settled.fetch_add(keys.len(), Ordering::Relaxed);
        self.pending.lock().retain(|key| !keys.contains(key));
    }

    fn expect_late(&self, key: &Key, _: &[LateObject]) -> io::Result<()> {
        let mut log = self.pending.lock();
        log.retain(|known| known != key);
        log.push(key.clone());
        Ok(())
    }

    fn forget_late(&self, key: &Key) {
        self.settled(std::slice::from_ref(key));
        self.over.lock().push(key.as_str().to_owned());
    }

    fn keep_late(&self, key: &Key) -> io::Result<()> {
        self.forget_late(key);
        Ok(())
    }

    fn upload_begun(&self, _: Key, _: UploadId) {}

    fn upload_ended(&self, _: Key, _: UploadId) {}
}
