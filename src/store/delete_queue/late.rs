//! Objects that a cancelled upload, or a request without an answer, may still make:
//! looked for during a bounded time, not seen, and deleted.
//!
//! The log has them for as long, and each daemon looks for what its predecessor left
//! for the whole time from its own start: then the connections of the dead one end.
//! A store that does not answer carries nothing out: the time begins anew when it answers.
//!
//! Nothing but the bytes tells such an object from one that another client has put since.
//! So the time is short where the key is not this mount's alone, and what was made after
//! it stays, whoever made it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::StoreLog;
use super::late_object::{LateObject, PAUSE_FIRST, Watched};
use super::pending::excludes;
use super::refusals::Refusals;
use crate::store::{
    ETag, HeadRequest, Key, LateChanges, ObjectMeta, ObjectStore, StoreClock, StoreError,
    StoreErrorKind, StoreOp,
};

/// The keys that are watched for late objects.
#[derive(Debug)]
pub struct LateObjects {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) log: Arc<dyn StoreLog>,
    pub(super) changes: LateChanges,
    clock: Arc<StoreClock>,
    pub(super) watched: Mutex<BTreeMap<Key, Watched>>,
    /// Shared while a late object is deleted, alone while a key becomes one that is written.
    pub(super) deleting: tokio::sync::RwLock<()>,
    pub(super) added: Notify,
    refusals: Arc<Refusals>,
}

impl LateObjects {
    /// `left` by a predecessor: watched from now on.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        log: Arc<dyn StoreLog>,
        changes: LateChanges,
        left: Vec<(Key, LateObject)>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            store,
            log,
            changes,
            clock: Arc::default(),
            watched: Mutex::new(Watched::of_left(left)),
            deleting: tokio::sync::RwLock::default(),
            added: Notify::new(),
            refusals,
        }
    }

    pub(super) fn with_clock(self, clock: Arc<StoreClock>) -> Self {
        Self { clock, ..self }
    }

    /// A time that has come in the store, where that is known.
    pub(super) fn time(&self) -> Option<SystemTime> {
        self.clock.now()
    }

    /// The changes that may make them.
    pub fn changes(&self) -> &LateChanges {
        &self.changes
    }

    /// Deletes what a cancelled upload makes of the key, should it still come;
    /// until then it is not seen. A write of the key by this mount ends that: its
    /// own condition counts then.
    pub fn watch_for(&self, key: Key, object: LateObject) {
        let object = match self.clock.now() {
            Some(now) => object.given_up_at(now),
            None => object,
        };
        let objects = {
            let mut late = self.watched.lock();
            let now = Instant::now();
            let watched = late.entry(key.clone()).or_insert_with(|| Watched::new(now));
            // Of what came before the last write, too, some may still come.
            let objects = std::mem::take(&mut watched.objects);
            let foreign = watched.foreign.take();
            *watched = Watched {
                objects,
                foreign,
                silence: watched.silence,
                next: now + PAUSE_FIRST,
                ..Watched::new(now)
            };
            watched.add(object, now);
            watched.objects.clone()
        };
        self.note(&key, &objects);
        self.added.notify_one();
    }

    /// An object that nobody sees may be made under the key, and is not to stay.
    ///
    /// Errors: the log's.
    pub(super) fn scratch_begins(&self, key: &Key) -> io::Result<()> {
        self.log.expect_late(key, &[LateObject::any()])
    }

    /// It is made. It is to be looked for only where a request for it got no answer.
    pub(super) fn scratch_made(&self, key: &Key) {
        if !self.changes.has(key) {
            self.log.forget_late(key);
        }
    }

    /// It is deleted. It may come again where a request for it got no answer.
    pub(super) fn scratch_deleted(&self, key: &Key) {
        if self.changes.has(key) {
            self.watch_for(key.clone(), LateObject::any());
        } else {
            self.log.forget_late(key);
        }
    }

    fn note(&self, key: &Key, objects: &[LateObject]) {
        if let Err(error) = self.log.expect_late(key, objects) {
            tracing::warn!(%key, %error, "journal write failed: after a crash a cancelled upload that is applied late would not be deleted");
        }
    }

    /// A look for late objects of the key, sent then, was answered or not.
    pub(super) fn note_look(&self, key: &Key, sent: Instant, is_answered: bool) {
        let time = self.clock.now().unwrap_or_else(SystemTime::now);
        let news = {
            let mut late = self.watched.lock();
            let watched = late.get_mut(key).filter(|watched| !watched.is_written);
            watched.and_then(|watched| {
                let is_new = match is_answered {
                    true => watched.heard(sent, time),
                    false => watched.silent(),
                };
                is_new.then(|| watched.objects.clone())
            })
        };
        if let Some(objects) = news {
            self.note(key, &objects);
        }
    }

    /// Returns once no request of a predecessor can be carried out any more for these keys
    /// or below them.
    ///
    /// Errors: `TimedOut` where the store does not answer, or not by the time that is given.
    pub async fn wait_for_predecessor(
        &self,
        places: &[Key],
        answer_by: Option<Instant>,
    ) -> Result<(), StoreError> {
        let ask = |key: Key| async move {
            let Some(answer_by) = answer_by else {
                return self.ask(&key).await;
            };
            let answer = timeout_at(answer_by, self.ask(&key)).await;
            answer.unwrap_or_else(|_| {
                let (kind, op) = (StoreErrorKind::TimedOut, StoreOp::Head);
                Err(StoreError::new(kind, op, key.clone(), "no answer in time"))
            })
        };
        self.changes.wait_for_predecessor(places, ask).await
    }

    pub(super) async fn ask(&self, key: &Key) -> Result<(), StoreError> {
        let request = HeadRequest { key: key.clone() };
        self.store.head(request).await.map(drop)
    }

    /// Keys below a prefix that are watched.
    pub(super) fn watched_below(&self, prefix: &str) -> usize {
        let late = self.watched.lock();
        let below = late.range(Key::new(prefix)..);
        let below = below.take_while(|(key, _)| key.as_str().starts_with(prefix));
        below.filter(|(_, watched)| !watched.is_written).count()
    }

    pub(super) fn is_watched(&self, key: &Key) -> bool {
        let late = self.watched.lock();
        late.get(key).is_some_and(|watched| !watched.is_written)
    }

    /// The key is about to be written by this mount.
    ///
    /// Errors: the log's. It would have the new object deleted by a successor, if it
    /// has the same bytes.
    pub(super) async fn end_watch(&self, op: StoreOp, key: &Key) -> Result<(), StoreError> {
        if !self.is_watched(key) {
            return Ok(());
        }
        // No delete is under way that could take what is written.
        let _turn = self.deleting.write().await;
        let (log, of_log) = (self.log.clone(), key.clone());
        let noted = tokio::task::spawn_blocking(move || log.keep_late(&of_log)).await;
        if let Err(error) = noted.map_err(io::Error::other).flatten() {
            let detail = format!("the journal cannot be written: {error}");
            let kind = StoreErrorKind::Rejected;
            return Err(StoreError::new(kind, op, key.clone(), detail));
        }
        if let Some(watched) = self.watched.lock().get_mut(key) {
            watched.is_written = true;
        }
        Ok(())
    }

    /// This mount has removed the name: what was watched for before it was written counts
    /// again, as long as it would have.
    pub fn resume_watch(&self, key: &Key) {
        let objects = {
            let mut late = self.watched.lock();
            let Some(watched) = late.get_mut(key).filter(|watched| watched.is_written) else {
                return;
            };
            watched.is_written = false;
            watched.pause = PAUSE_FIRST;
            watched.next = Instant::now() + PAUSE_FIRST;
            watched.objects.clone()
        };
        self.note(key, &objects);
        self.added.notify_one();
    }

    /// Deletes late objects that exclude one under the key. Whether there were any.
    pub(super) async fn clear(&self, key: &Key) -> bool {
        let in_the_way: Vec<Key> = {
            let late = self.watched.lock();
            let watched = late.iter().filter(|(_, watched)| !watched.is_written);
            let keys = watched.map(|(other, _)| other);
            let excluding = keys.filter(|other| excludes(other.as_str(), key.as_str()));
            excluding.cloned().collect()
        };
        for other in &in_the_way {
            self.delete_if_there(other).await;
        }
        !in_the_way.is_empty()
    }

    /// Whether an object that was found may be one that is to be deleted, and is not seen
    /// before that is decided, soon.
    pub(super) fn hides(&self, key: &Key, found: (&ETag, SystemTime)) -> bool {
        let mut late = self.watched.lock();
        let watched = late.get_mut(key).filter(|watched| !watched.is_written);
        let Some(watched) = watched.filter(|watched| watched.hides(found)) else {
            return false;
        };
        if watched.look_soon() {
            self.added.notify_one();
        }
        true
    }

    /// The object that was found is another client's: it is seen from now on.
    pub(super) fn show(&self, key: &Key, found: &ObjectMeta) {
        let mut late = self.watched.lock();
        let watched = late.get_mut(key).filter(|watched| !watched.is_written);
        if watched.is_some_and(|it| it.show((&found.etag, found.last_modified))) {
            self.refusals.reappear(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::time::sleep;

    use super::super::late_look::PAUSE_LIMIT;
    use super::super::late_object::{Original, SCRATCH_WATCHED_FOR};
    use super::*;
    use crate::store::delete_queue::tests::{delete_queue, keys, left_late, over, put};
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        DeleteRequest, FoldDirectories, LATE_LIMIT, LIST_PAGE_LIMIT, ListRequest, ObjectStore,
    };

    #[tokio::test(start_paused = true)]
    async fn a_copy_goes_once_its_original_is_known_to_be_there_and_stays_where_it_is_gone() {
        for is_there in [true, false] {
            let memory = Arc::new(Memory::default());
            let faulty = Arc::new(Faulty::new(memory.clone()));
            let (store, _) = over(faulty.clone());
            put(&*memory, "original").await;
            let request = ListRequest::page("original", FoldDirectories::No, None);
            let listed = memory.list(request).await.unwrap().objects.remove(0);
            let copy = put(&*memory, "copy").await;
            // The first look at the original, after that at the copy.
            faulty.plan(StoreOp::Head, 2, Fault::Before(StoreErrorKind::TimedOut));
            if !is_there {
                let request = DeleteRequest::any(Key::new("original"));
                memory.delete(request).await.unwrap();
            }
            store
                .late()
                .watch_for(Key::new("copy"), LateObject::of_copy(&listed, copy));
            let runs = tokio::spawn(store.clone().run());
            sleep(PAUSE_FIRST * 2).await;
            assert!(faulty.seen(StoreOp::Head) >= 2);
            assert!(
                keys(&*memory, LIST_PAGE_LIMIT)
                    .await
                    .contains(&"copy".to_owned())
            );
            sleep(LATE_LIMIT * 2).await;
            let left = keys(&*memory, LIST_PAGE_LIMIT).await;
            let wanted = if is_there { "original" } else { "copy" };
            assert_eq!(left, [wanted]);
            runs.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_goes_by_its_bytes_and_what_another_put_stays() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        store
            .late()
            .watch_for(Key::new("late"), LateObject::of_bytes(b"late"));
        store
            .late()
            .watch_for(Key::new("another"), LateObject::of_bytes(b"late"));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(log.pending().len(), 2, "the successor would look");
        put(&*memory, "late").await;
        put(&*memory, "another").await;
        sleep(LATE_LIMIT).await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["another"]);
        assert!(log.pending().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_bytes_that_another_client_puts_later_stay_and_are_seen() {
        let memory = Arc::new(Memory::default());
        for left in [
            Vec::new(),
            vec![(Key::new("f"), LateObject::of_bytes(b"f"))],
        ] {
            let is_live = left.is_empty();
            let (store, log) = left_late(&memory, left);
            let runs = tokio::spawn(store.clone().run());
            if is_live {
                store
                    .late()
                    .watch_for(Key::new("f"), LateObject::of_bytes(b"f"));
            }
            sleep(LATE_LIMIT + Duration::from_secs(1)).await;
            put(&*memory, "f").await;
            assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["f"]);
            sleep(SCRATCH_WATCHED_FOR + PAUSE_LIMIT).await;
            assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["f"]);
            assert!(log.pending().is_empty());
            memory
                .delete(DeleteRequest::any(Key::new("f")))
                .await
                .unwrap();
            runs.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_copy_goes_unless_another_client_has_moved_its_original() {
        for is_moved in [false, true] {
            let memory = Arc::new(Memory::default());
            let (store, _) = delete_queue(&memory, Vec::new());
            let runs = tokio::spawn(store.clone().run());
            let copy = put(&*memory, "e/f").await;
            let (key, etag) = (Key::new("d/f"), put(&*memory, "d/f").await);
            let mut late = LateObject::of_parts(copy);
            late.original = Some(Original {
                key: key.clone(),
                etag,
            });
            if is_moved {
                memory.delete(DeleteRequest::any(key)).await.unwrap();
            }
            store.late().watch_for(Key::new("e/f"), late);
            let seen = keys(&*store, LIST_PAGE_LIMIT).await;
            assert_eq!(seen.len(), usize::from(!is_moved));
            sleep(PAUSE_FIRST * 3).await;
            let seen = keys(&*store, LIST_PAGE_LIMIT).await;
            assert_eq!(seen, [if is_moved { "e/f" } else { "d/f" }]);
            sleep(LATE_LIMIT * 2).await;
            let left = keys(&*memory, LIST_PAGE_LIMIT).await;
            assert_eq!(left, [if is_moved { "e/f" } else { "d/f" }]);
            runs.abort();
        }
    }

    /// A copy that may be late, and what another client has moved to its name.
    async fn moved_by_another(memory: &Memory) -> LateObject {
        let mut late = LateObject::of_parts(put(memory, "e/f").await);
        let etag = put(memory, "d/f").await;
        let key = Key::new("d/f");
        late.original = Some(Original {
            key: key.clone(),
            etag,
        });
        memory.delete(DeleteRequest::any(key)).await.unwrap();
        late
    }

    /// Each daemon watches for the whole time again.
    #[tokio::test(start_paused = true)]
    async fn what_another_client_has_moved_is_seen_soon_by_each_of_several_daemons() {
        let memory = Arc::new(Memory::default());
        let late = moved_by_another(&memory).await;
        let mut silent = late.clone();
        silent.silent();
        for left in [&late, &late, &silent] {
            let (store, _) = left_late(&memory, vec![(Key::new("e/f"), left.clone())]);
            let runs = tokio::spawn(store.clone().run());
            sleep(PAUSE_FIRST).await;
            assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["e/f"]);
            let anew = store.refused().await;
            assert_eq!(anew, [Key::new("e/f")], "it is listed anew");
            assert!(!store.is_refusing());
            runs.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_shown_as_anothers_stays_whatever_becomes_of_the_original() {
        let memory = Arc::new(Memory::default());
        let mut late = moved_by_another(&memory).await;
        let (store, _) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        let key = Key::new("e/f");
        store.late().watch_for(key.clone(), late.clone());
        sleep(PAUSE_FIRST * 2).await;
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["e/f"]);
        let etag = put(&*memory, "d/f").await;
        late.original = Some(Original {
            key: Key::new("d/f"),
            etag,
        });
        store.late().watch_for(key, late);
        sleep(LATE_LIMIT * 2).await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/f", "e/f"]);
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_what_a_silent_store_has_begins_when_it_answers() {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (store, log) = over(faulty.clone());
        let runs = tokio::spawn(store.clone().run());
        for nth in 1..=5 {
            faulty.plan(StoreOp::Head, nth, Fault::Before(StoreErrorKind::TimedOut));
        }
        store
            .late()
            .watch_for(Key::new("late"), LateObject::of_bytes(b"late"));
        // Looks go unanswered for longer than a store that answers takes.
        sleep(LATE_LIMIT * 2).await;
        assert_eq!(log.pending().len(), 1, "still looked for");
        sleep(LATE_LIMIT - Duration::from_secs(1)).await;
        put(&*faulty, "late").await;
        sleep(LATE_LIMIT * 2).await;
        assert!(keys(&*faulty, LIST_PAGE_LIMIT).await.is_empty());
        assert!(log.pending().is_empty());
        runs.abort();
    }

    /// Another client writes the key at the same time, whenever it is deleted.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_passes_is_not_the_end_of_the_watch() {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (store, log) = over(faulty.clone());
        let runs = tokio::spawn(store.clone().run());
        for nth in 1..=100 {
            faulty.plan(
                StoreOp::Delete,
                nth,
                Fault::Before(StoreErrorKind::Conflict),
            );
        }
        store
            .late()
            .watch_for(Key::new("late"), LateObject::of_bytes(b"late"));
        sleep(Duration::from_secs(2)).await;
        put(&*faulty, "late").await;
        sleep(LATE_LIMIT * 2).await;
        assert_eq!(log.pending().len(), 1, "still looked for");
        sleep(Duration::from_secs(3600)).await;
        assert!(keys(&*faulty, LIST_PAGE_LIMIT).await.is_empty());
        assert!(log.pending().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_written_again_is_left_alone() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        store
            .late()
            .watch_for(Key::new("again"), LateObject::of_bytes(b"again"));
        put(&*store, "again").await;
        sleep(LATE_LIMIT + PAUSE_LIMIT).await;
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["again"]);
        assert!(log.pending().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_predecessor_left_is_watched_for_as_long_and_not_seen() {
        let memory = Arc::new(Memory::default());
        let late = vec![
            (Key::new("d/late"), LateObject::of_bytes(b"other")),
            (Key::new("d/late"), LateObject::any()),
            (Key::new("scratch"), LateObject::any()),
        ];
        let (store, log) = left_late(&memory, late);
        let runs = tokio::spawn(store.clone().run());
        sleep(SCRATCH_WATCHED_FOR - PAUSE_LIMIT * 2).await;
        put(&*memory, "d/late").await;
        put(&*memory, "scratch").await;
        assert!(keys(&*store, LIST_PAGE_LIMIT).await.is_empty());
        let folded = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::Yes,
            token: None,
            max_keys: LIST_PAGE_LIMIT,
        };
        let prefixes = store.list(folded).await.unwrap().prefixes;
        assert!(prefixes.is_empty(), "{prefixes:?}");
        sleep(PAUSE_LIMIT * 4).await;
        assert!(keys(&*memory, LIST_PAGE_LIMIT).await.is_empty());
        assert_eq!(log.over(), ["d/late", "scratch"]);
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_was_cancelled_before_the_key_was_written_counts_once_it_is_removed() {
        let memory = Arc::new(Memory::default());
        let (store, _) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        store
            .late()
            .watch_for(Key::new("f"), LateObject::of_bytes(b"f"));
        put(&*store, "f").await;
        memory
            .delete(DeleteRequest::any(Key::new("f")))
            .await
            .unwrap();
        store
            .late()
            .watch_for(Key::new("f"), LateObject::of_bytes(b"second"));
        put(&*memory, "f").await;
        sleep(PAUSE_LIMIT).await;
        assert!(keys(&*memory, LIST_PAGE_LIMIT).await.is_empty());
        runs.abort();
    }
}
