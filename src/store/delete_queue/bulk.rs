//! Deletes in bulk, and what becomes of each of them.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};

use super::LateObjects;
use super::enqueue::QueuedDelete;
use super::pending::{PendingDeletes, is_marker};
use super::refusals::Refusals;
use crate::store::{
    DELETE_MANY_LIMIT, DeleteRequest, ETag, HeadRequest, Key, ObjectStore, StoreError,
    StoreErrorKind, log_failure,
};

/// `DeleteObjects` requests that run at once.
pub(super) const BATCHES_AT_ONCE: usize = 4;
const LOOKS_AT_ONCE: usize = 16;

/// So many times a store fails for a key in bulk before it is asked what is there, and
/// to delete it alone.
const FAILURES_LIMIT: u32 = 3;

/// Sends the deletes that wait, many with one request.
pub(super) struct BulkDeletes<'a> {
    pub store: &'a dyn ObjectStore,
    pub pending: &'a PendingDeletes,
    pub late: &'a LateObjects,
    pub refusals: &'a Refusals,
}

impl BulkDeletes<'_> {
    /// Deletes pending objects; those for which the store cannot be reached are
    /// left to be deleted soon.
    ///
    /// Returns how many are other versions by now, and stay. Errors: why objects
    /// cannot be deleted; then none is tried again, and those that are there are seen
    /// again. One without an answer may still go.
    pub async fn delete(&self, keys: &[Key]) -> Result<usize, StoreError> {
        let mut outcome = Ok(());
        let mut newer = 0;
        for chunk in deepest_first(self.requests(keys)).chunks(DELETE_MANY_LIMIT) {
            let (chunk, answer) = self.send(chunk.to_vec()).await;
            let failed = match answer {
                Ok(failed) => failed,
                Err(error) if error.kind.is_no_answer() => {
                    log_failure!(
                        warn,
                        &error,
                        [],
                        "deletes failed: they are tried again soon"
                    );
                    continue;
                }
                Err(error) => of_each(&chunk, &error),
            };
            let settled = self.settle_chunk(&chunk, failed);
            newer += settled.newer.len();
            self.leave(&settled.newer);
            if let Some(error) = settled.refused.into_iter().next_back() {
                outcome = Err(error);
                break;
            }
        }
        if outcome.is_err() {
            self.settle_keys(keys);
        }
        outcome.map(|()| newer)
    }

    /// Deletes some of what nobody keeps. Errors: why some of it is still to be deleted.
    pub async fn delete_some(&self) -> Result<(), StoreError> {
        let batch = self.pending.last_due(BATCHES_AT_ONCE * DELETE_MANY_LIMIT);
        let (known, unknown): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|(key, queued)| queued.etag.is_some() || is_marker(key));
        let request = |(key, queued): (Key, QueuedDelete)| DeleteRequest {
            key,
            if_match: queued.etag,
        };
        let mut requests: Vec<DeleteRequest> = known.into_iter().map(request).collect();
        let (found, mut outcome) = self.found(unknown).await;
        requests.extend(found);
        let chunks: Vec<Vec<DeleteRequest>> = deepest_first(requests)
            .chunks(DELETE_MANY_LIMIT)
            .map(<[DeleteRequest]>::to_vec)
            .collect();
        let mut answers = stream::iter(chunks)
            .map(|chunk| self.send(chunk))
            .buffer_unordered(BATCHES_AT_ONCE);
        while let Some((chunk, answer)) = answers.next().await {
            let settled = match answer {
                Ok(failed) => self.settle_chunk(&chunk, failed),
                Err(error) if error.kind.is_no_answer() => {
                    outcome = Err(error);
                    continue;
                }
                // It would not be taken a second time either.
                Err(error) => self.settle_chunk(&chunk, of_each(&chunk, &error)),
            };
            let mut failing = chunk;
            failing.retain(|request| settled.failing.contains(&request.key));
            outcome = self.tell(settled).await.and(outcome);
            self.delete_alone(failing).await;
        }
        outcome
    }

    /// What of a chunk was sent, and the answer.
    async fn send(
        &self,
        chunk: Vec<DeleteRequest>,
    ) -> (
        Vec<DeleteRequest>,
        Result<Vec<(Key, StoreError)>, StoreError>,
    ) {
        let chunk = self.hold_back_parents(chunk);
        let answer = match chunk.is_empty() {
            true => Ok(Vec::new()),
            false => self.store.delete_many(chunk.clone()).await,
        };
        (chunk, answer)
    }

    /// A directory waits until what else waits in it is done: it goes with the last of it.
    fn hold_back_parents(&self, mut chunk: Vec<DeleteRequest>) -> Vec<DeleteRequest> {
        if chunk.iter().any(|request| is_marker(&request.key)) {
            let these: BTreeSet<Key> = chunk.iter().map(|request| request.key.clone()).collect();
            let is_filled = |key: &Key| is_marker(key) && self.pending.has_others_in(key, &these);
            chunk.retain(|request| !is_filled(&request.key));
        }
        chunk
    }

    /// Tells what is not done, and leaves what another client has put. Errors: why some is
    /// still to be deleted.
    async fn tell(&self, settled: Settled) -> Result<(), StoreError> {
        for error in settled.refused {
            let key = &error.key;
            tracing::error!(%key, %error, "delete refused: the file shows again");
        }
        let left = self.leave_newer(settled.newer).await;
        settled.pending.map_or(left, Err)
    }

    /// Objects that a store fails to delete again and again, though it answers. What is
    /// not there needs no delete; what it fails for alone too is tried again.
    async fn delete_alone(&self, failing: Vec<DeleteRequest>) {
        for request in failing {
            let key = request.key.clone();
            let there = self.store.head(HeadRequest { key: key.clone() }).await;
            let deleted = match there {
                Err(error) if error.kind == StoreErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(_) => self.store.delete(request.clone()).await,
            };
            let failed = deleted.err().map(|error| (key, error));
            let settled = self.settle_chunk(&[request], failed.into_iter().collect());
            if self.tell(settled).await.is_err() {
                return;
            }
        }
    }

    /// What is to be deleted of objects of which no version is known, and why some could
    /// not be looked at; the others are settled.
    async fn found(
        &self,
        unknown: Vec<(Key, QueuedDelete)>,
    ) -> (Vec<DeleteRequest>, Result<(), StoreError>) {
        let mut looks = stream::iter(unknown)
            .map(|(key, queued)| async move {
                let found = self.meant(&key, &queued).await;
                (key, found)
            })
            .buffer_unordered(LOOKS_AT_ONCE);
        let (mut requests, mut outcome) = (Vec::new(), Ok(()));
        while let Some((key, found)) = looks.next().await {
            match found {
                Ok(Found::Meant(etag)) => requests.push(DeleteRequest {
                    key,
                    if_match: Some(etag),
                }),
                Ok(Found::Newer) => self.leave(&[key]),
                Ok(Found::Nothing) => self.settle_keys(&[key]),
                Err(error) => {
                    // In an outage each look takes its whole deadline.
                    if let Err(error) = self.not_seen(&key, error) {
                        outcome = Err(error);
                        break;
                    }
                }
            }
        }
        (requests, outcome)
    }

    /// An object that nobody may look at stays, and keeps no other from going.
    /// Errors: the store has not answered.
    fn not_seen(&self, key: &Key, error: StoreError) -> Result<(), StoreError> {
        if error.kind.is_no_answer() {
            return Err(error);
        }
        tracing::error!(%key, %error, "delete dropped: the store refuses HEAD");
        self.refusals.note(vec![key.clone()]);
        self.settle_keys(std::slice::from_ref(key));
        Ok(())
    }

    /// Looks at what is there now.
    async fn meant(&self, key: &Key, queued: &QueuedDelete) -> Result<Found, StoreError> {
        let there = match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(there) => there,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error),
        };
        let is_meant = queued.means_older(&there) || self.late.was_awaited(key, &there).await?;
        Ok(match is_meant {
            true => Found::Meant(there.etag),
            false => Found::Newer,
        })
    }

    /// Other clients have put new objects under these keys.
    fn leave(&self, newer: &[Key]) {
        for key in newer {
            tracing::warn!(%key, "not deleted: another client has put a new object");
        }
        self.refusals.note_stayed(newer.len());
        self.settle_keys(newer);
    }

    /// What is to become of objects that are not the versions that were to be deleted.
    async fn leave_newer(&self, found: Vec<Key>) -> Result<(), StoreError> {
        for key in found {
            let Some(queued) = self.pending.get(&key) else {
                continue;
            };
            match self.meant(&key, &queued).await {
                Ok(Found::Meant(etag)) => self.pending.set_version(&key, etag),
                Ok(Found::Newer) => self.leave(&[key]),
                Ok(Found::Nothing) => self.settle_keys(&[key]),
                Err(error) => self.not_seen(&key, error)?,
            }
        }
        Ok(())
    }

    /// Of these keys, those that are still pending, each with the version that goes.
    fn requests(&self, keys: &[Key]) -> Vec<DeleteRequest> {
        let request = |key: &Key| {
            let if_match = self.pending.get(key)?.etag;
            let is_known = if_match.is_some() || is_marker(key);
            is_known.then(|| DeleteRequest {
                key: key.clone(),
                if_match,
            })
        };
        keys.iter().filter_map(request).collect()
    }

    /// What a bulk delete came to; what is decided is not pending any more.
    fn settle_chunk(&self, chunk: &[DeleteRequest], failed: Vec<(Key, StoreError)>) -> Settled {
        let mut settled = Settled::default();
        let mut undecided = BTreeSet::new();
        for (key, error) in failed {
            if error.kind.is_no_answer() {
                if self.pending.note_failure(&key) >= FAILURES_LIMIT {
                    settled.failing.push(key.clone());
                }
                undecided.insert(key);
                settled.pending = Some(error);
            } else if error.kind == StoreErrorKind::PreconditionFailed {
                undecided.insert(key.clone());
                settled.newer.push(key);
            } else {
                settled.refused.push(error);
            }
        }
        let keys = chunk.iter().map(|request| &request.key);
        let decided: Vec<Key> = keys
            .filter(|key| !undecided.contains(key))
            .cloned()
            .collect();
        let refused = settled.refused.iter().map(|error| error.key.clone());
        let refused: Vec<Key> = refused.collect();
        // Who waits for the end of the deletes asks then whether any was refused.
        self.refusals.note(refused);
        self.settle_keys(&decided);
        settled
    }

    fn settle_keys(&self, keys: &[Key]) {
        for (key, queued) in self.pending.settle(keys) {
            if queued.is_scratch {
                self.late.scratch_deleted(key);
            }
        }
    }
}

/// What a look at a pending key comes to.
#[derive(Debug)]
enum Found {
    /// This version is to go.
    Meant(ETag),
    /// Another client's, which stays.
    Newer,
    Nothing,
}

/// What a bulk delete has not done.
#[derive(Debug, Default)]
struct Settled {
    /// Why some are still to be deleted.
    pub pending: Option<StoreError>,
    /// Those of them for which the store has failed often.
    pub failing: Vec<Key>,
    /// Why others never will be.
    pub refused: Vec<StoreError>,
    /// Those that are other versions; still pending.
    pub newer: Vec<Key>,
}

/// The failure of a bulk delete, of each of its keys.
fn of_each(chunk: &[DeleteRequest], error: &StoreError) -> Vec<(Key, StoreError)> {
    let of_key = |request: &DeleteRequest| {
        let key = request.key.clone();
        let error = error.clone();
        (key.clone(), StoreError { key, ..error })
    };
    chunk.iter().map(of_key).collect()
}

/// What lies in a directory before the directory, where a store has such.
fn deepest_first(mut requests: Vec<DeleteRequest>) -> Vec<DeleteRequest> {
    requests.sort_unstable_by(|a, b| b.key.cmp(&a.key));
    requests
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::super::memory_log::MemoryLog;
    use super::super::{DeletePending, DeleteQueue, RecoveredWork};
    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        FoldDirectories, LIST_PAGE_LIMIT, LateChanges, ListRequest, ObjectHeaders, ObjectStore,
        PutRequest, StoreOp, WriteCondition,
    };

    async fn with_objects(
        room: usize,
    ) -> (Arc<Faulty>, Arc<MemoryLog>, DeleteQueue, Vec<DeletePending>) {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let mut pending = Vec::new();
        for key in ["d/a", "d/b", "d/c"].map(Key::new) {
            let request = PutRequest {
                key: key.clone(),
                body: bytes::Bytes::from_static(b"x"),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            let etag = Some(store.put(request).await.unwrap().etag);
            pending.push(DeletePending::of_version(key, etag));
        }
        let log = Arc::new(MemoryLog::with_room(room));
        let max_wait = Duration::from_secs(1);
        let delete_queue = DeleteQueue::new(
            store.clone(),
            log.clone(),
            max_wait,
            RecoveredWork::default(),
            LateChanges::default(),
        );
        (store, log, delete_queue, pending)
    }

    async fn listed(store: &dyn ObjectStore) -> usize {
        let request = ListRequest {
            prefix: "d/".to_owned(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: LIST_PAGE_LIMIT,
        };
        store.list(request).await.unwrap().objects.len()
    }

    fn keys(pending: &[DeletePending]) -> Vec<Key> {
        pending.iter().map(|one| one.key.clone()).collect()
    }

    /// Threads that block each other block for good: the test waits for them outside.
    #[test]
    fn who_waits_for_deletes_and_who_settles_them_never_block_each_other() {
        const ROUNDS: usize = 500;
        const KEYS: usize = 500;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .enable_all()
            .build()
            .unwrap();
        let (_, _, delete_queue, _) = runtime.block_on(with_objects(usize::MAX));
        let pending: Vec<DeletePending> = (0..KEYS)
            .map(|number| Key::new(format!("d/{number:03}")))
            .map(|key| DeletePending::of_version(key, None))
            .collect();
        let (waiting, settling) = (Arc::new(delete_queue), keys(&pending));
        let delete_queue = waiting.clone();
        let (done, is_done) = std::sync::mpsc::channel();
        let rounds = Arc::new(AtomicUsize::new(0));
        let counted = rounds.clone();
        std::thread::spawn(move || {
            let settler = runtime.spawn(async move {
                for _ in 0..ROUNDS {
                    counted.fetch_add(1, Ordering::Relaxed);
                    delete_queue.enqueue(&pending).unwrap();
                    tokio::task::yield_now().await;
                    delete_queue.bulk().settle_keys(&settling);
                    tokio::task::yield_now().await;
                }
            });
            let waiter = runtime.spawn(async move {
                while !settler.is_finished() {
                    let waits = || waiting.pending.has_due_below("d/", |rest| rest == "499");
                    // It may see only moments in which something waits.
                    drop(waiting.wait_while(StoreOp::List, "d/", waits).await);
                    tokio::task::yield_now().await;
                }
            });
            runtime.block_on(waiter).unwrap();
            done.send(()).unwrap();
        });
        let mut seen = 0;
        while is_done.recv_timeout(Duration::from_secs(30)).is_err() {
            let now = rounds.load(Ordering::Relaxed);
            assert!(now > seen, "they block each other");
            seen = now;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_does_not_show_what_was_deleted_while_it_was_under_way() {
        let (store, _, delete_queue, pending) = with_objects(9).await;
        delete_queue.enqueue(&pending).unwrap();
        store.plan(StoreOp::List, 1, Fault::Late(Duration::from_secs(5)));
        let deleting = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            delete_queue.bulk().delete(&keys(&pending)).await
        };
        let (seen, deleted) = tokio::join!(listed(&delete_queue), deleting);
        deleted.unwrap();
        assert_eq!(seen, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_noted_is_not_deleted_at_all() {
        let (_, log, delete_queue, pending) = with_objects(2).await;
        assert!(delete_queue.enqueue(&pending).is_err());
        assert!(log.pending().is_empty());
        assert_eq!(listed(&delete_queue).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_another_client_has_put_since_is_left_alone_and_seen_again() {
        let (store, log, delete_queue, pending) = with_objects(9).await;
        delete_queue.enqueue(&pending).unwrap();
        let theirs = PutRequest {
            key: Key::new("d/b"),
            body: bytes::Bytes::from_static(b"theirs"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::Always,
        };
        store.put(theirs).await.unwrap();
        delete_queue.bulk().delete(&keys(&pending)).await.unwrap();
        assert_eq!((listed(&*store).await, listed(&delete_queue).await), (1, 1));
        assert!(log.pending().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_now_stays_unseen_and_goes_later() {
        let (store, log, delete_queue, pending) = with_objects(9).await;
        delete_queue.enqueue(&pending).unwrap();
        assert_eq!(listed(&delete_queue).await, 0);
        store.plan(
            StoreOp::DeleteMany,
            1,
            Fault::Before(StoreErrorKind::Server),
        );
        delete_queue.bulk().delete(&keys(&pending)).await.unwrap();
        assert_eq!((listed(&*store).await, listed(&delete_queue).await), (3, 0));
        let delete_queue = Arc::new(delete_queue);
        let background = tokio::spawn(delete_queue.clone().run());
        delete_queue.settled().await;
        background.abort();
        assert_eq!(listed(&*store).await, 0);
        assert!(log.pending().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_store_refuses_to_delete_is_seen_again() {
        let (store, log, delete_queue, pending) = with_objects(9).await;
        delete_queue.enqueue(&pending).unwrap();
        store.plan(
            StoreOp::DeleteMany,
            1,
            Fault::Before(StoreErrorKind::AccessDenied),
        );
        let refused = delete_queue.bulk().delete(&keys(&pending)).await;
        assert_eq!(refused.unwrap_err().kind, StoreErrorKind::AccessDenied);
        assert_eq!(listed(&delete_queue).await, 3);
        assert!(log.pending().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_decided_before_a_refusal_is_noted_once() {
        let (store, log, delete_queue, pending) = with_objects(9).await;
        delete_queue.enqueue(&pending).unwrap();
        store.plan(
            StoreOp::DeleteMany,
            1,
            Fault::Before(StoreErrorKind::AccessDenied),
        );
        let keys = keys(&pending);
        let refused = delete_queue.bulk().delete(&keys).await;
        refused.unwrap_err();
        assert_eq!(log.settled_keys(), keys.len());
    }
}
