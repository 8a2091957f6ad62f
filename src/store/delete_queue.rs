//! Deletes that nobody waits for: gathered, sent in bulk, and until then the
//! objects are not seen any more.

mod as_store;
mod bulk;
mod enqueue;
mod kept;
mod late;
mod late_look;
mod late_object;
mod listing;
mod made;
#[cfg(test)]
pub mod memory_log;
mod pending;
mod refusals;
mod store_log;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

pub use enqueue::DeletePending;
pub use kept::{Held, Kept};
pub use late::LateObjects;
pub use late_object::LateObject;
pub use store_log::{RecoveredWork, StoreLog};

use bulk::{BATCHES_AT_ONCE, BulkDeletes};
use made::Made;
use pending::PendingDeletes;
use refusals::Refusals;

use super::request::*;
use super::{DELETE_MANY_LIMIT, ETag, Key, LateChanges, ObjectStore, StoreClock, StoreOp};
use crate::backoff::Backoff;
use crate::failpoint::{self, Point};
use crate::task::kept_up;

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Time for one more delete to come, and for all that come so, unless somebody waits
/// for those that are there.
const GATHER: Duration = Duration::from_millis(250);
const GATHER_LIMIT: Duration = Duration::from_secs(1);

/// A store whose deletes can be put off.
///
/// A key that waits for its delete has no object for `head` and `list`; a write
/// to it waits for the delete.
#[derive(Debug)]
pub struct DeleteQueue {
    store: Arc<dyn ObjectStore>,
    log: Arc<dyn StoreLog>,
    /// Longest wait of another request for deletes.
    max_wait: Duration,
    pending: PendingDeletes,
    /// What cancelled uploads may still make.
    late: LateObjects,
    made: Made,
    wake: Notify,
    flush_now: Notify,
    retry_now: Notify,
    failing: watch::Sender<bool>,
    refusals: Arc<Refusals>,
}

impl DeleteQueue {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        log: Arc<dyn StoreLog>,
        max_wait: Duration,
        left: RecoveredWork,
        late_changes: LateChanges,
    ) -> Self {
        for DeletePending { key, etag, .. } in &left.pending {
            let condition = etag.clone().map(WriteCondition::IfMatch);
            late_changes.note(StoreOp::DeleteMany, key, condition.unwrap_or_default());
        }
        let refusals = Arc::<Refusals>::default();
        let late = LateObjects::new(
            store.clone(),
            log.clone(),
            late_changes,
            left.late,
            refusals.clone(),
        );
        let wake = Notify::new();
        wake.notify_one();
        Self {
            max_wait,
            pending: PendingDeletes::new(log.clone(), left.pending),
            late,
            store,
            log,
            made: Made::default(),
            wake,
            flush_now: Notify::new(),
            retry_now: Notify::new(),
            failing: watch::Sender::new(false),
            refusals,
        }
    }

    /// The clock that times of objects are of.
    pub fn with_clock(self, clock: Arc<StoreClock>) -> Self {
        let late = self.late.with_clock(clock);
        Self { late, ..self }
    }

    /// A time that has come in the store, where that is known.
    pub fn time(&self) -> Option<SystemTime> {
        self.late.time()
    }

    /// What requests without an answer may still make.
    pub fn late(&self) -> &LateObjects {
        &self.late
    }

    /// The version that this mount has made of a key that it removes, within a short time.
    pub fn take_made(&self, key: &Key) -> Option<ETag> {
        self.made.take(key)
    }

    /// Whether this mount has made this version of a key, a short time ago.
    pub fn has_made(&self, key: &Key, etag: &ETag) -> bool {
        self.made.is_last(key, etag)
    }

    /// Has the object deleted soon. Errors: the log's.
    pub fn delete_later(&self, pending: DeletePending) -> io::Result<()> {
        self.add(&[pending], None, || ())?;
        self.delete_soon();
        Ok(())
    }

    /// Notes objects as to be deleted: from now on they are not seen any more,
    /// and the successor deletes them if this one does not.
    ///
    /// Errors: the log's; none of them is to be deleted then.
    pub fn enqueue(&self, pending: &[DeletePending]) -> io::Result<()> {
        self.add(pending, None, || {
            failpoint::at(Point::RenameDirectoryEnqueues)
        })
    }

    /// The same, for who deletes them by what this returns.
    pub fn enqueue_held(self: &Arc<Self>, pending: &[DeletePending]) -> io::Result<Held> {
        let kept = Arc::new(Notify::new());
        let noted = || failpoint::at(Point::RenameDirectoryEnqueues);
        self.add(pending, Some(&kept), noted)?;
        let keys = pending.iter().map(|one| one.key.clone());
        Ok(Held::new(self.clone(), keys.collect(), kept))
    }

    /// What was to come late under these names before they were written is not wanted there
    /// any more either.
    fn add(
        &self,
        pending: &[DeletePending],
        kept: Option<&Arc<Notify>>,
        noted: impl Fn(),
    ) -> io::Result<()> {
        self.pending.add(pending, kept, noted)?;
        for one in pending {
            self.late.resume_watch(&one.key);
        }
        Ok(())
    }

    /// Has what is pending deleted by who does that in the background.
    pub fn delete_soon(&self) {
        self.wake.notify_one();
    }

    /// Has a directory deleted after what somebody still reads of it, if anybody does.
    /// Returns whether that is so. Errors: the log's.
    pub fn delete_after_kept(&self, marker: &Key) -> io::Result<bool> {
        let keeps = self.pending.has_others_in(marker, &BTreeSet::new());
        if keeps {
            self.delete_later(DeletePending::of_version(marker.clone(), None))?;
        }
        Ok(keeps)
    }

    /// Has the object deleted once the result is dropped; until then it can be
    /// read, and is not seen. Errors: the log's.
    pub fn delete_once_unused(self: &Arc<Self>, pending: DeletePending) -> io::Result<Kept> {
        let key = pending.key.clone();
        self.add(&[pending], None, || ())?;
        Ok(Kept::of(self.clone(), key, None))
    }

    /// An object may be put under the key, which nobody sees and which is deleted
    /// once the result is dropped, by a successor if not by this daemon. Errors: the log's.
    pub fn scratch(self: &Arc<Self>, key: Key) -> io::Result<Kept> {
        self.late.scratch_begins(&key)?;
        self.pending.add_scratch(key.clone());
        Ok(Kept::of(self.clone(), key, None))
    }

    /// Keeps an object that a predecessor kept, if it is still this version.
    pub fn keep_on(self: &Arc<Self>, key: &Key, etag: &ETag) -> Option<Kept> {
        let queued = self.pending.get(key)?;
        let is_kept = queued.etag.is_none_or(|pending| pending == *etag);
        is_kept.then(|| Kept::of(self.clone(), key.clone(), Some(etag)))
    }

    /// Deletes what is pending, as long as the run time lasts.
    pub async fn run(self: Arc<Self>) {
        let delete = || {
            self.delete_soon();
            self.delete_pending()
        };
        tokio::join!(
            kept_up("delete", delete),
            kept_up("look for late objects", || self.late.run()),
        );
    }

    async fn delete_pending(&self) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        let mut failures: u32 = 0;
        loop {
            self.wake.notified().await;
            while self.pending.due() > 0 {
                self.gather().await;
                let outcome = self.bulk().delete_some().await;
                self.failing.send_replace(outcome.is_err());
                let Err(error) = outcome else {
                    backoff.reset();
                    failures = 0;
                    continue;
                };
                let pause = backoff.next_pause();
                failures = failures.saturating_add(1);
                // One is worth a line, and each time they have doubled.
                if failures.is_power_of_two() {
                    let waiting = self.waiting();
                    tracing::warn!(%error, ?pause, failures, waiting, "deletes failed: trying again");
                }
                drop(timeout(pause, self.retry_now.notified()).await);
            }
        }
    }

    /// Waits while more deletes come, up to a bound.
    async fn gather(&self) {
        let began = Instant::now();
        let mut due = self.pending.due();
        while due < BATCHES_AT_ONCE * DELETE_MANY_LIMIT && began.elapsed() < GATHER_LIMIT {
            if timeout(GATHER, self.flush_now.notified()).await.is_ok() {
                return;
            }
            let before = std::mem::replace(&mut due, self.pending.due());
            if due <= before {
                return;
            }
        }
    }

    fn bulk(&self) -> BulkDeletes<'_> {
        BulkDeletes {
            store: &*self.store,
            pending: &self.pending,
            late: &self.late,
            refusals: &self.refusals,
        }
    }

    /// Keys to delete.
    pub fn waiting(&self) -> usize {
        self.pending.count()
    }

    /// Returns once nothing waits for its delete.
    pub async fn settled(&self) {
        self.pending.want(|_| true);
        self.flush_now.notify_one();
        self.pending.wait_until(|count| count == 0).await;
    }

    /// Whether the last attempt to delete failed.
    pub fn is_failing(&self) -> bool {
        *self.failing.borrow()
    }

    /// Sends what waits without waiting for more, or for the end of a pause.
    pub fn flush_now(&self) {
        self.flush_now.notify_one();
        self.retry_now.notify_waiters();
    }

    /// Notes that the store refuses deletes, where somebody has waited for the answer.
    pub fn note_refusal(&self) {
        self.refusals.note_told();
    }

    /// Whether the store has refused a delete a short time ago.
    pub fn is_refusing(&self) -> bool {
        self.refusals.is_recent()
    }

    /// How many objects have stayed that were to be deleted, since the mount.
    pub fn stayed(&self) -> u64 {
        self.refusals.stayed()
    }

    /// Waits for objects that are there again though they were to go.
    pub async fn refused(&self) -> Vec<Key> {
        self.refusals.next().await
    }
}

#[cfg(test)]
mod tests {
    use super::memory_log::MemoryLog;
    use super::*;
    use crate::store::StoreErrorKind;
    use crate::store::memory::Memory;

    pub(super) async fn put(store: &dyn ObjectStore, key: &str) -> ETag {
        let request = PutRequest {
            key: Key::new(key),
            body: bytes::Bytes::from(key.to_owned()),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        store.put(request).await.unwrap().etag
    }

    pub(super) async fn keys(store: &dyn ObjectStore, max_keys: u16) -> Vec<String> {
        let request = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys,
        };
        let objects = store.list(request).await.unwrap().objects;
        let keys = objects.into_iter();
        keys.map(|object| object.key.as_str().to_owned()).collect()
    }

    pub(super) fn delete_queue(
        store: &Arc<Memory>,
        left: Vec<DeletePending>,
    ) -> (Arc<DeleteQueue>, Arc<MemoryLog>) {
        with_left(
            store.clone(),
            RecoveredWork {
                pending: left,
                ..RecoveredWork::default()
            },
        )
    }

    pub(super) fn left_late(
        store: &Arc<Memory>,
        late: Vec<(Key, LateObject)>,
    ) -> (Arc<DeleteQueue>, Arc<MemoryLog>) {
        with_left(
            store.clone(),
            RecoveredWork {
                late,
                ..RecoveredWork::default()
            },
        )
    }

    pub(super) fn over(store: Arc<dyn ObjectStore>) -> (Arc<DeleteQueue>, Arc<MemoryLog>) {
        with_left(store, RecoveredWork::default())
    }

    fn with_left(
        store: Arc<dyn ObjectStore>,
        left: RecoveredWork,
    ) -> (Arc<DeleteQueue>, Arc<MemoryLog>) {
        let log = Arc::new(MemoryLog::default());
        let max_wait = Duration::from_secs(30);
        let store = DeleteQueue::new(store, log.clone(), max_wait, left, LateChanges::default());
        (Arc::new(store), log)
    }

    pub(super) fn pending(key: &str, etag: Option<ETag>) -> DeletePending {
        DeletePending::of_version(Key::new(key), etag)
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_to_be_deleted_is_not_seen_and_goes_in_bulk() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        for number in 0..2500 {
            let key = format!("d/{number:04}");
            let etag = put(&*memory, &key).await;
            store.delete_later(pending(&key, Some(etag))).unwrap();
        }
        put(&*memory, "kept").await;
        let head = HeadRequest {
            key: Key::new("d/0000"),
        };
        let error = store.head(head).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NotFound);
        assert!(
            keys(&*store, LIST_PAGE_LIMIT).await.is_empty(),
            "first page"
        );
        assert_eq!(log.pending().len(), 2500);
        tokio::spawn(store.clone().run());
        assert_eq!(keys(&*store, 2).await, ["kept"], "a short page waits");
        store.settled().await;
        assert_eq!(keys(&*memory, 10).await, ["kept"]);
        assert!(log.pending().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_comes_after_the_delete_of_its_key() {
        let memory = Arc::new(Memory::default());
        let etag = put(&*memory, "a").await;
        let (store, _) = delete_queue(&memory, Vec::new());
        store.delete_later(pending("a", Some(etag))).unwrap();
        tokio::spawn(store.clone().run());
        put(&*store, "a").await;
        store.settled().await;
        assert_eq!(keys(&*memory, 10).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_client_put_since_is_left_alone() {
        let memory = Arc::new(Memory::default());
        let old = put(&*memory, "old").await;
        let other = Some(ETag::new("another version"));
        put(&*memory, "new").await;
        let left = vec![
            pending("old", Some(old)),
            pending("new", other),
            pending("gone", Some(ETag::new("e"))),
        ];
        let (store, _) = delete_queue(&memory, left);
        tokio::spawn(store.clone().run());
        store.settled().await;
        assert_eq!(keys(&*memory, 10).await, ["new"]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_unknown_version_what_was_there_before_or_is_awaited_goes() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        for key in ["awaited", "before", "moved", "since"] {
            put(&*memory, key).await;
        }
        let late = LateObject::of_bytes(b"awaited");
        store.late().watch_for(Key::new("awaited"), late);
        // Times of objects are those of the first seconds.
        let first = std::time::UNIX_EPOCH;
        let of_name = |key: &str, at| DeletePending::of_name(Key::new(key), None, Some(at));
        store.delete_later(pending("awaited", None)).unwrap();
        let at = first + Duration::from_secs(60);
        store.delete_later(of_name("before", at)).unwrap();
        store.delete_later(pending("moved", None)).unwrap();
        store.delete_later(of_name("since", first)).unwrap();
        let runs = tokio::spawn(store.clone().run());
        store.settled().await;
        assert_eq!(keys(&*memory, 10).await, ["moved", "since"]);
        assert!(!log.pending().contains(&Key::new("moved")));
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_goes_again_before_its_object_is_deleted_takes_it_along() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let etag = put(&*memory, "a").await;
        let kept = store.delete_once_unused(pending("a", Some(etag)));
        store.delete_later(pending("a", None)).unwrap();
        let runs = tokio::spawn(store.clone().run());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(keys(&*memory, 10).await, ["a"], "it is read still");
        drop(kept);
        store.settled().await;
        assert!(keys(&*memory, 10).await.is_empty());
        assert!(log.pending().is_empty());
        runs.abort();
    }

    /// What was cancelled lands between the write and the removal, or after both.
    #[tokio::test(start_paused = true)]
    async fn what_was_cancelled_before_the_name_was_written_goes_with_the_name() {
        for is_there in [true, false] {
            let memory = Arc::new(Memory::default());
            let (store, log) = delete_queue(&memory, Vec::new());
            let late = LateObject::of_bytes(b"f");
            store.late().watch_for(Key::new("f"), late);
            // A version whose answer is lost: what comes late finds the name free.
            store
                .late()
                .end_watch(StoreOp::Put, &Key::new("f"))
                .await
                .unwrap();
            let written = Some(ETag::new("written"));
            if is_there {
                put(&*memory, "f").await;
            }
            store.delete_later(pending("f", written)).unwrap();
            let runs = tokio::spawn(store.clone().run());
            store.settled().await;
            if !is_there {
                put(&*memory, "f").await;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            assert!(keys(&*memory, 10).await.is_empty(), "{is_there}");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(log.pending().is_empty());
            runs.abort();
        }
    }

    #[test]
    fn a_delete_that_the_log_has_no_room_for_takes_no_earlier_one_away() {
        let log = Arc::new(MemoryLog::with_room(1));
        let waiting = PendingDeletes::new(log.clone(), Vec::new());
        let first = pending("a", Some(ETag::new("version")));
        waiting.add(&[first], None, || ()).unwrap();
        waiting.add(&[pending("a", None)], None, || ()).unwrap_err();
        assert_eq!(log.pending(), [Key::new("a")]);
        assert_eq!(waiting.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_deletes_for_ever() {
        let memory = Arc::new(Memory::default());
        let (store, _) = delete_queue(&memory, Vec::new());
        store.delete_later(pending("a", None)).unwrap();
        let waiting = store.wait_for_key(StoreOp::Put, &Key::new("a")).await;
        assert_eq!(waiting.unwrap_err().kind, StoreErrorKind::TimedOut);
        assert!(
            store
                .wait_for_key(StoreOp::Put, &Key::new("ab"))
                .await
                .is_ok()
        );
    }
}
