//! The deletes that wait, in memory and in the log.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::StoreLog;
use super::enqueue::{DeletePending, QueuedDelete};
use crate::store::{ETag, Key};

/// Keys whose objects are to be deleted.
///
/// Lock order: the channel's own, then `keys`, as who waits takes them.
#[derive(Debug)]
pub(super) struct PendingDeletes {
    log: Arc<dyn StoreLog>,
    keys: Mutex<BTreeMap<Key, QueuedDelete>>,
    /// How many they are.
    count: watch::Sender<usize>,
    /// Somebody has waited for some of them in vain, and none has been decided since.
    is_slow: AtomicBool,
}

impl PendingDeletes {
    /// `left` by a predecessor, whose log has them.
    pub fn new(log: Arc<dyn StoreLog>, left: Vec<DeletePending>) -> Self {
        let keys: BTreeMap<Key, QueuedDelete> = left.into_iter().map(QueuedDelete::of).collect();
        Self {
            log,
            count: watch::Sender::new(keys.len()),
            keys: Mutex::new(keys),
            is_slow: AtomicBool::new(false),
        }
    }

    /// `noted` is done after the log has each of them. They are kept by who has `kept`.
    ///
    /// Errors: the log's; none of them waits then, but for what did before.
    pub fn add(
        &self,
        pending: &[DeletePending],
        kept: Option<&Arc<Notify>>,
        noted: impl Fn(),
    ) -> io::Result<()> {
        let pending = self.with_earlier(pending);
        let mut new = Vec::with_capacity(pending.len());
        let note = |(one, is_new): &(DeletePending, bool)| {
            self.log.delete_pending(one)?;
            if *is_new {
                new.push(one.key.clone());
            }
            noted();
            Ok(())
        };
        let all = pending.iter().try_for_each(note);
        let synced = all.and_then(|()| self.log.sync_deletes());
        synced.inspect_err(|_| self.log.settled(&new))?;
        let mut keys = self.keys.lock();
        for (one, _) in pending {
            let (key, queued) = QueuedDelete::of(one);
            match keys.entry(key) {
                Entry::Vacant(free) => {
                    free.insert(queued).kept = kept.cloned();
                }
                // Its readers keep it.
                Entry::Occupied(earlier) => {
                    let earlier = earlier.into_mut();
                    (earlier.etag, earlier.removed_at) = (queued.etag, queued.removed_at);
                }
            }
        }
        drop(keys);
        self.tell_count();
        Ok(())
    }

    /// The same, with what waits already under their keys; whether nothing does.
    fn with_earlier(&self, pending: &[DeletePending]) -> Vec<(DeletePending, bool)> {
        let keys = self.keys.lock();
        let with_earlier = |one: DeletePending| match keys.get(&one.key) {
            Some(earlier) => (earlier.and(one), false),
            None => (one, true),
        };
        pending.iter().cloned().map(with_earlier).collect()
    }

    /// An object that is to be made under the key, of which the log has been told.
    pub fn add_scratch(&self, key: Key) {
        self.keys.lock().insert(key, QueuedDelete::scratch());
        self.tell_count();
    }

    /// The scratch object is made, as this version. Errors: the log's.
    pub fn scratch_made(&self, key: &Key, etag: &ETag) -> io::Result<()> {
        let pending = DeletePending::of_version(key.clone(), Some(etag.clone()));
        self.log.delete_pending(&pending)?;
        self.set_version(key, etag.clone());
        Ok(())
    }

    /// These are decided: what was known of those that waited.
    pub fn settle<'a>(&self, keys: &'a [Key]) -> Vec<(&'a Key, QueuedDelete)> {
        let waiting: Vec<Key> = {
            let pending = self.keys.lock();
            let waiting = keys.iter().filter(|key| pending.contains_key(*key));
            waiting.cloned().collect()
        };
        self.log.settled(&waiting);
        let settled: Vec<_> = {
            let mut pending = self.keys.lock();
            let of_key = |key: &'a Key| Some((key, pending.remove(key)?));
            keys.iter().filter_map(of_key).collect()
        };
        if !settled.is_empty() {
            self.is_slow.store(false, Ordering::Relaxed);
        }
        self.tell_count();
        settled
    }

    pub fn has(&self, key: &Key) -> bool {
        self.keys.lock().contains_key(key)
    }

    pub fn get(&self, key: &Key) -> Option<QueuedDelete> {
        self.keys.lock().get(key).cloned()
    }

    /// The version that goes.
    pub fn set_version(&self, key: &Key, etag: ETag) {
        if let Some(queued) = self.keys.lock().get_mut(key) {
            queued.etag = Some(etag);
        }
    }

    /// How often the store has failed for the key now, though it answered.
    pub fn note_failure(&self, key: &Key) -> u32 {
        let mut pending = self.keys.lock();
        pending.get_mut(key).map_or(0, |queued| {
            queued.failures = queued.failures.saturating_add(1);
            queued.failures
        })
    }

    /// The object is not deleted before its reader lets go of it, who hears by the result
    /// that others wait.
    pub fn keep(&self, key: &Key, etag: Option<&ETag>) -> Arc<Notify> {
        let wanted = Arc::new(Notify::new());
        if let Some(queued) = self.keys.lock().get_mut(key) {
            queued.kept = Some(wanted.clone());
            queued.etag = etag.cloned().or(queued.etag.take());
        }
        wanted
    }

    /// Who has kept them has let go of them.
    pub fn let_go(&self, keys: &[Key], wanted: &Arc<Notify>) {
        let mut pending = self.keys.lock();
        for key in keys {
            let kept = pending.get_mut(key).map(|queued| &mut queued.kept);
            let is_this = |kept: &mut Arc<Notify>| Arc::ptr_eq(kept, wanted);
            kept.and_then(|kept| kept.take_if(is_this));
        }
        drop(pending);
        self.tell_count();
    }

    /// Has those let go of the objects that keep them, where their delete `counts`.
    pub fn want(&self, counts: impl Fn(&Key) -> bool) {
        let pending = self.keys.lock();
        let kept = pending.iter().filter_map(|(key, queued)| {
            let kept = queued.kept.as_ref()?;
            counts(key).then_some(kept)
        });
        kept.for_each(|kept| kept.notify_one());
    }

    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// How many can go now.
    pub fn due(&self) -> usize {
        due(&self.keys.lock()).count()
    }

    /// The last of those that can go now.
    pub fn last_due(&self, limit: usize) -> Vec<(Key, QueuedDelete)> {
        let pending = self.keys.lock();
        let last = due(&pending).take(limit);
        last.map(|(key, it)| (key.clone(), it.clone())).collect()
    }

    /// Whether others than these wait in a directory: a store with directories of its own
    /// keeps it as long as they are there, and does not delete it with the last of them.
    pub fn has_others_in(&self, marker: &Key, these: &BTreeSet<Key>) -> bool {
        let pending = self.keys.lock();
        let mut inside = below(&pending, marker.as_str()).filter(|(key, _)| *key != marker);
        inside.any(|(key, _)| !these.contains(key))
    }

    pub fn below(&self, prefix: &str) -> BTreeSet<Key> {
        let pending = self.keys.lock();
        let below = below(&pending, prefix);
        below.map(|(key, _)| key.clone()).collect()
    }

    pub fn count_below(&self, prefix: &str) -> usize {
        below(&self.keys.lock(), prefix).count()
    }

    pub fn has_below(&self, prefix: &str) -> bool {
        below(&self.keys.lock(), prefix).next().is_some()
    }

    /// Whether one below a prefix is due of which the rest of the key `counts`.
    pub fn has_due_below(&self, prefix: &str, counts: impl Fn(&str) -> bool) -> bool {
        let pending = self.keys.lock();
        below(&pending, prefix)
            .filter(|(_, queued)| queued.kept.is_none())
            .filter_map(|(key, _)| key.as_str().strip_prefix(prefix))
            .any(counts)
    }

    /// Whether an object waits for its delete that a new one under the key replaces,
    /// or excludes on stores where `x` and what lies under `x/` exclude each other.
    pub fn is_in_the_way(&self, key: &str) -> bool {
        let pending = self.keys.lock();
        let above = key.match_indices('/').filter_map(|(at, _)| key.get(..at));
        let mut above = above.chain([key]).map(Key::new);
        let in_the_way = |queued: &QueuedDelete| !queued.is_scratch || queued.kept.is_none();
        if above.any(|key| pending.get(&key).is_some_and(in_the_way)) {
            return true;
        }
        let inside = format!("{key}/");
        !key.ends_with('/') && below(&pending, &inside).next().is_some()
    }

    /// Returns once it `is_so`, which is looked at after each change, with their number.
    pub async fn wait_until(&self, is_so: impl Fn(usize) -> bool) {
        let mut count = self.count.subscribe();
        // The sender is in `self`.
        if count.wait_for(|count| is_so(*count)).await.is_err() {
            tracing::debug!("nothing to wait for");
        }
    }

    /// Whether who waits for a moment would wait in vain.
    pub fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    pub fn note_slow(&self) {
        self.is_slow.store(true, Ordering::Relaxed);
    }

    fn tell_count(&self) {
        self.count
            .send_modify(|count| *count = self.keys.lock().len());
    }
}

/// Those that nobody keeps, the last one first; no directory in which somebody keeps one.
fn due(pending: &BTreeMap<Key, QueuedDelete>) -> impl Iterator<Item = (&Key, &QueuedDelete)> {
    let mut kept: Option<&Key> = None;
    pending.iter().rev().filter(move |(key, queued)| {
        let is_kept_in = |kept: &Key| is_marker(key) && kept.as_str().starts_with(key.as_str());
        let is_due = queued.kept.is_none() && !kept.is_some_and(is_kept_in);
        if !is_due {
            kept = Some(key);
        }
        is_due
    })
}

/// The object of a directory. It has no bytes of anybody: whichever is there goes.
pub(super) fn is_marker(key: &Key) -> bool {
    key.as_str().ends_with('/')
}

fn below<'a>(
    pending: &'a BTreeMap<Key, QueuedDelete>,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a QueuedDelete)> {
    let after = pending.range(Key::new(prefix)..);
    after.take_while(move |(key, _)| key.as_str().starts_with(prefix))
}

/// Whether there cannot be an object under both keys on stores where `x` and what
/// lies under `x/` exclude each other.
pub(super) fn excludes(key: &str, other: &str) -> bool {
    let is_above = |above: &str, below: &str| {
        let rest = below.strip_prefix(above);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    key == other || is_above(key, other) || is_above(other, key)
}
