//! Deletes that nobody waits for: gathered, sent in bulk, and until then the
//! objects are not seen any more. Multipart uploads that a crash left are aborted.

mod bulk;
mod enqueue;
mod kept;
mod late;
mod late_object;
mod made;
#[cfg(test)]
pub mod memory_log;
mod order;
mod refusals;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub use kept::Kept;
pub use late_object::LateObject;
use late_object::Watched;
use made::Made;

pub use enqueue::DeletePending;
use enqueue::QueuedDelete;
use refusals::Refusals;

use super::request::*;
use super::{ETag, Key, LateChanges, ObjectStore, StoreClock, StoreError, StoreErrorKind, StoreOp};
use crate::backoff::Backoff;
use crate::task::kept_up;

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Times that a listing is asked for which removals overtake.
const ASK_AGAIN_LIMIT: usize = 8;

/// Remembers for the successor what is to be deleted or aborted.
pub trait StoreLog: Send + Sync + fmt::Debug {
    /// Errors: the disk's; nothing is to be deleted then.
    fn delete_pending(&self, pending: &DeletePending) -> io::Result<()>;
    /// Of what was noted to be deleted, as much as must outlives a power loss once this
    /// returns. Errors: the disk's.
    fn sync_pending(&self) -> io::Result<()> {
        Ok(())
    }
    fn settled(&self, keys: &[Key]);
    /// One of these may come to be under the key, and is to be deleted then.
    fn late(&self, key: &Key, objects: &[LateObject]) -> io::Result<()>;
    /// None will.
    fn late_over(&self, key: &Key);
    /// The key is about to get an object that is wanted, and that even a power loss
    /// must not have deleted. Errors: the disk's.
    fn late_wanted(&self, key: &Key) -> io::Result<()>;
    fn upload_begun(&self, key: Key, upload: UploadId);
    fn upload_ended(&self, key: Key, upload: UploadId);
}

/// What a predecessor left undone.
#[derive(Debug, Default)]
pub struct RecoveredWork {
    pub pending: Vec<DeletePending>,
    /// What their requests may still make, and nobody wants.
    pub late: Vec<(Key, LateObject)>,
    pub uploads: Vec<(Key, UploadId)>,
}

/// A store whose deletes can be put off.
///
/// A key that waits for its delete has no object for `head` and `list`; a write
/// to it waits for the delete.
#[derive(Debug)]
pub struct DeleteQueue {
    store: Arc<dyn ObjectStore>,
    log: Arc<dyn StoreLog>,
    late_changes: LateChanges,
    clock: Arc<StoreClock>,
    /// Longest wait of another request for deletes.
    max_wait: Duration,
    pending: Mutex<BTreeMap<Key, QueuedDelete>>,
    orphans: Mutex<Vec<(Key, UploadId)>>,
    /// What cancelled uploads may still make.
    late: Mutex<BTreeMap<Key, Watched>>,
    /// Held while one of these is deleted.
    late_turn: tokio::sync::Mutex<()>,
    late_added: Notify,
    made: Made,
    wake: Notify,
    flush_now: Notify,
    retry_now: Notify,
    /// Keys that wait.
    waiting: watch::Sender<usize>,
    failing: watch::Sender<bool>,
    refusals: Refusals,
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
        let pending: BTreeMap<Key, QueuedDelete> =
            left.pending.into_iter().map(QueuedDelete::of).collect();
        let wake = Notify::new();
        wake.notify_one();
        Self {
            store,
            log,
            late_changes,
            clock: Arc::default(),
            max_wait,
            waiting: watch::Sender::new(pending.len()),
            pending: Mutex::new(pending),
            orphans: Mutex::new(left.uploads),
            late: Mutex::new(Watched::of_left(left.late)),
            late_turn: tokio::sync::Mutex::default(),
            late_added: Notify::new(),
            made: Made::default(),
            wake,
            flush_now: Notify::new(),
            retry_now: Notify::new(),
            failing: watch::Sender::new(false),
            refusals: Refusals::default(),
        }
    }

    /// The clock that times of objects are of.
    pub fn with_clock(self, clock: Arc<StoreClock>) -> Self {
        Self { clock, ..self }
    }

    /// A time that has come in the store, where that is known.
    pub fn time(&self) -> Option<SystemTime> {
        self.clock.now()
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
        self.note_pending(std::slice::from_ref(&pending), || ())?;
        let (key, queued) = QueuedDelete::of(pending);
        self.pending.lock().insert(key, queued);
        self.tell_waiting();
        self.wake.notify_one();
        Ok(())
    }

    /// Deletes what is pending and aborts what was left, as long as the run time lasts.
    pub async fn run(self: Arc<Self>) {
        let delete = || {
            self.wake.notify_one();
            self.delete_pending()
        };
        tokio::join!(
            kept_up("abort uploads", || self.abort_orphans()),
            kept_up("delete", delete),
            kept_up("look for late objects", || self.watch()),
        );
    }

    async fn delete_pending(&self) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        let mut failures: u32 = 0;
        loop {
            self.wake.notified().await;
            while self.due() > 0 {
                self.gather().await;
                let outcome = self.delete_some().await;
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

    /// What fails is left to the successor.
    async fn abort_orphans(&self) {
        let orphans = std::mem::take(&mut *self.orphans.lock());
        for (key, upload) in orphans {
            tracing::info!(%key, "aborting an unfinished multipart upload of the predecessor");
            if let Err(error) = self.abort_multipart(key, upload).await {
                tracing::warn!(%error, "not aborted: the next mount tries again");
            }
        }
    }

    /// Keys to delete.
    pub fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }

    /// Those that nobody keeps.
    fn due(&self) -> usize {
        let pending = self.pending.lock();
        pending
            .values()
            .filter(|queued| queued.kept.is_none())
            .count()
    }

    /// Returns once nothing waits for its delete.
    pub async fn settled(&self) {
        self.want(|_| true);
        self.flush_now.notify_one();
        let mut waiting = self.waiting.subscribe();
        // The sender is in `self`.
        if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("nothing to wait for");
        }
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

    /// Waits for objects that are there again though they were to go.
    pub async fn refused(&self) -> Vec<Key> {
        self.refusals.next().await
    }

    fn is_pending(&self, key: &Key) -> bool {
        self.pending.lock().contains_key(key)
    }
}

#[async_trait]
impl ObjectStore for DeleteQueue {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        if self.is_pending(&request.key) {
            let (kind, op) = (StoreErrorKind::NotFound, StoreOp::Head);
            return Err(StoreError::new(kind, op, request.key, "is being deleted"));
        }
        let key = request.key.clone();
        let meta = self.store.head(request).await?;
        if self.is_late(&key, &meta.etag) {
            let (kind, op) = (StoreErrorKind::NotFound, StoreOp::Head);
            return Err(StoreError::new(kind, op, key, "is to be deleted"));
        }
        Ok(meta)
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        self.store.get(request).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        self.store.tags(key).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        self.wait_for_key(StoreOp::Put, &request.key).await?;
        let key = request.key.clone();
        let answer = match self.store.put(request.clone()).await {
            Err(error) if !error.kind.is_transient() && self.clear_late(&request.key).await => {
                tracing::debug!(%error, "a cancelled upload was in the way");
                self.store.put(request).await
            }
            answer => answer,
        };
        answer.inspect(|made| self.made.note(&key, &made.etag))
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        // What a rename that failed has left there is not what is copied now.
        if request.condition == WriteCondition::IfAbsent && self.is_watched(&request.target) {
            self.delete_if_there(&request.target).await;
        }
        self.wait_for_key(StoreOp::Copy, &request.target).await?;
        let key = request.target.clone();
        let answer = self.store.copy(request).await;
        answer.inspect(|made| self.made.note(&key, &made.etag))
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        self.store.delete(request).await
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        self.store.delete_many(requests).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        for _ in 1..ASK_AGAIN_LIMIT {
            let (answer, overtaken) = self.list_seen(request.clone()).await?;
            if !overtaken {
                return Ok(answer);
            }
        }
        Ok(self.list_seen(request).await?.0)
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.wait_for_key(StoreOp::CreateMultipart, &request.key)
            .await?;
        let key = request.key.clone();
        let upload = self.store.create_multipart(request).await?;
        self.log.upload_begun(key, upload.clone());
        Ok(upload)
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        self.store.upload_part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        self.store.upload_part_copy(request).await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let (key, upload) = (request.key.clone(), request.upload.clone());
        self.end_watch(StoreOp::CompleteMultipart, &key).await?;
        let answer = self.store.complete_multipart(request).await?;
        self.made.note(&key, &answer.etag);
        self.log.upload_ended(key, upload);
        Ok(answer)
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        let outcome = self
            .store
            .abort_multipart(key.clone(), upload.clone())
            .await;
        if outcome.is_ok() {
            self.log.upload_ended(key, upload);
        }
        outcome
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.store.list_parts(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::memory_log::MemoryLog;
    use super::*;
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
    async fn a_doomed_object_is_not_seen_and_goes_in_bulk() {
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
        store.watch_for_late(Key::new("awaited"), late);
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
