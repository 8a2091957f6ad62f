//! Objects whose names are gone and that somebody reads still: they are not seen
//! any more, and are deleted once the reader lets go of them.

use std::io;
use std::sync::Arc;

use tokio::sync::Notify;

use super::{DeletePending, DeleteQueue, LateObject, QueuedDelete};
use crate::store::{
    ETag, FoldDirectories, Key, LIST_PAGE_LIMIT, ListAnswer, ListProgress, ListRequest,
    ListedObject, StoreError, StoreOp,
};

/// An object that waits for its delete until this is dropped.
#[derive(Debug)]
pub struct Kept {
    store: Arc<DeleteQueue>,
    key: Key,
    wanted: Arc<Notify>,
}

impl Kept {
    /// A scratch object is made, as this version: a successor keeps it on for those who
    /// read it. Errors: the log's.
    pub fn made(&self, etag: &ETag) -> io::Result<()> {
        let store = &self.store;
        let pending = DeletePending::of_version(self.key.clone(), Some(etag.clone()));
        store.log.delete_pending(&pending)?;
        // Else one that comes late is to be looked for.
        if !store.late_changes.has(&self.key) {
            store.log.late_over(&self.key);
        }
        if let Some(queued) = store.pending.lock().get_mut(&self.key) {
            queued.etag = Some(etag.clone());
        }
        Ok(())
    }

    /// Returns once somebody waits for the delete.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(queued) = self.store.pending.lock().get_mut(&self.key)
            && queued
                .kept
                .as_ref()
                .is_some_and(|kept| Arc::ptr_eq(kept, &self.wanted))
        {
            queued.kept = None;
        }
        self.store.tell_waiting();
        self.store.wake.notify_one();
    }
}

impl DeleteQueue {
    /// Has the log remember deletes that wait; `each` is done after each of them.
    ///
    /// Errors: the log's; it remembers none of them then.
    pub(super) fn note_pending(
        &self,
        pending: &[DeletePending],
        each: impl Fn(),
    ) -> io::Result<()> {
        let mut noted = Vec::with_capacity(pending.len());
        let note = |one: &DeletePending| {
            self.log.delete_pending(one)?;
            noted.push(one.key.clone());
            each();
            Ok(())
        };
        let all = pending.iter().try_for_each(note);
        let synced = all.and_then(|()| self.log.sync_pending());
        synced.inspect_err(|_| self.log.settled(&noted))
    }

    /// Has the object deleted once the result is dropped; until then it can be
    /// read, and is not seen. Errors: the log's.
    pub fn delete_once_unused(self: &Arc<Self>, pending: DeletePending) -> io::Result<Kept> {
        self.note_pending(std::slice::from_ref(&pending), || ())?;
        let (key, queued) = QueuedDelete::of(pending);
        self.pending.lock().insert(key.clone(), queued);
        self.tell_waiting();
        Ok(self.keep(&key, None))
    }

    /// An object may be put under the key, which nobody sees and which is deleted
    /// once the result is dropped, by a successor if not by this daemon. Errors: the log's.
    pub fn scratch(self: &Arc<Self>, key: Key) -> io::Result<Kept> {
        self.log.late(&key, &[LateObject::any()])?;
        self.pending
            .lock()
            .insert(key.clone(), QueuedDelete::scratch());
        self.tell_waiting();
        Ok(self.keep(&key, None))
    }

    /// The object is deleted. It may come again where a request for it got no answer.
    pub(super) fn end_scratch(&self, key: &Key) {
        if self.late_changes.has(key) {
            self.watch_for_late(key.clone(), LateObject::any());
        } else {
            self.log.late_over(key);
        }
    }

    /// The same of an object that a predecessor kept, if it is still this version.
    pub fn keep_on(self: &Arc<Self>, key: &Key, etag: &ETag) -> Option<Kept> {
        let is_kept = {
            let pending = self.pending.lock();
            let queued = pending.get(key)?;
            queued.etag.as_ref().is_none_or(|pending| pending == etag)
        };
        is_kept.then(|| self.keep(key, Some(etag)))
    }

    fn keep(self: &Arc<Self>, key: &Key, etag: Option<&ETag>) -> Kept {
        let wanted = Arc::new(Notify::new());
        if let Some(queued) = self.pending.lock().get_mut(key) {
            queued.kept = Some(wanted.clone());
            queued.etag = etag.cloned().or(queued.etag.take());
        }
        Kept {
            store: self.clone(),
            key: key.clone(),
            wanted,
        }
    }

    /// Has those let go of the objects that keep them, where their delete `counts`.
    pub(super) fn want(&self, counts: impl Fn(&Key) -> bool) {
        let pending = self.pending.lock();
        let kept = pending.iter().filter_map(|(key, queued)| {
            let kept = queued.kept.as_ref()?;
            counts(key).then_some(kept)
        });
        kept.for_each(|kept| kept.notify_one());
    }

    fn unseen_below(&self, prefix: &str) -> usize {
        self.kept_below(prefix) + self.watched_below(prefix)
    }

    fn kept_below(&self, prefix: &str) -> usize {
        let pending = self.pending.lock();
        let below = pending.range(Key::new(prefix)..);
        let below = below.take_while(|(key, _)| key.as_str().starts_with(prefix));
        below.filter(|(_, queued)| queued.kept.is_some()).count()
    }

    /// A page without the objects that are to be deleted, and whether it says of a
    /// directory that it is gone which is not.
    ///
    /// The marker that takes the place of a directory's last object is there before that
    /// is to be deleted. An answer that is older than the marker has neither.
    pub(super) async fn list_seen(
        &self,
        request: ListRequest,
    ) -> Result<(ListAnswer, bool), StoreError> {
        let folds = request.fold_directories == FoldDirectories::Yes;
        let short = request.max_keys < LIST_PAGE_LIMIT;
        // A folded name stands for keys that it does not tell, and a short page
        // may be all of keys that are not to be seen.
        let counts = |rest: &str| short || (folds && rest.contains('/'));
        self.wait_below(StoreOp::List, &request.prefix, counts)
            .await?;
        // An object that goes while the listing is under way is in the answer, and
        // is not pending any more when that comes.
        let going = self.pending_below(&request.prefix);
        let mut answer = self.list_unkept(request).await?;
        let mut overtaken = false;
        answer.objects.retain(|object| {
            let goes = going.contains(&object.key);
            let went = !goes && self.is_pending(&object.key);
            overtaken |= went;
            !goes && !went && !self.is_late(&object.key, &object.etag)
        });
        Ok((answer, overtaken && !folds))
    }

    /// A page without the objects that are kept or watched for: nobody waits for them.
    async fn list_unkept(&self, mut request: ListRequest) -> Result<ListAnswer, StoreError> {
        let kept = self.unseen_below(&request.prefix);
        if kept == 0 {
            return self.store.list(request).await;
        }
        // A short page may be all of keys that are not to be seen.
        let more = u16::try_from(kept).unwrap_or(u16::MAX);
        request.max_keys = request.max_keys.saturating_add(more).min(LIST_PAGE_LIMIT);
        let mut answer = self.store.list(request).await?;
        let mut seen = Vec::with_capacity(answer.prefixes.len());
        for prefix in std::mem::take(&mut answer.prefixes) {
            let below = self.unseen_below(&prefix);
            if below == 0 || self.has_others_below(&prefix, below).await? {
                seen.push(prefix);
            }
        }
        answer.prefixes = seen;
        Ok(answer)
    }

    async fn has_others_below(&self, prefix: &str, kept: usize) -> Result<bool, StoreError> {
        let one_more = u16::try_from(kept).unwrap_or(u16::MAX).saturating_add(1);
        let (mut token, mut progress) = (None, ListProgress::default());
        loop {
            let request = ListRequest {
                prefix: prefix.to_owned(),
                fold_directories: FoldDirectories::No,
                token,
                max_keys: one_more.min(LIST_PAGE_LIMIT),
            };
            let answer = self.store.list(request).await?;
            progress.step(prefix, &answer)?;
            let is_seen = |object: &ListedObject| {
                !self.is_pending(&object.key) && !self.is_late(&object.key, &object.etag)
            };
            if answer.objects.iter().any(is_seen) {
                return Ok(true);
            }
            // What is removed meanwhile may fill a page by itself.
            token = answer.next;
            if token.is_none() {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::ObjectStore;
    use crate::store::delete_queue::tests::{delete_queue, keys, pending, put};
    use crate::store::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn a_kept_object_is_not_seen_delays_no_listing_and_goes_with_its_reader() {
        let memory = Arc::new(Memory::default());
        let etag = put(&*memory, "d/f").await;
        put(&*memory, "e/f").await;
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        let kept = store
            .delete_once_unused(pending("d/f", Some(etag)))
            .unwrap();
        for max_keys in [1, LIST_PAGE_LIMIT] {
            assert_eq!(keys(&*store, max_keys).await, ["e/f"]);
        }
        let folded = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::Yes,
            token: None,
            max_keys: LIST_PAGE_LIMIT,
        };
        assert_eq!(store.list(folded.clone()).await.unwrap().prefixes, ["e/"]);
        put(&*memory, "d/other").await;
        assert_eq!(store.list(folded).await.unwrap().prefixes, ["d/", "e/"]);
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await.len(), 3, "it is read");
        drop(kept);
        store.settled().await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/other", "e/f"]);
        assert!(log.pending().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_there_where_removals_fill_the_page_before_what_stays() {
        let memory = Arc::new(Memory::default());
        for key in ["d/a", "d/b", "d/c", "d/d", "d/stays"] {
            put(&*memory, key).await;
        }
        let (store, _) = delete_queue(&memory, Vec::new());
        let _kept = store.delete_once_unused(pending("d/a", None)).unwrap();
        // As they come while the directory above is listed.
        for key in ["d/b", "d/c", "d/d"] {
            store.delete_later(pending(key, None)).unwrap();
        }
        assert!(store.has_others_below("d/", 1).await.unwrap());
        store.delete_later(pending("d/stays", None)).unwrap();
        assert!(!store.has_others_below("d/", 1).await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scratch_object_is_made_unseen_and_goes_when_it_is_let_go_of() {
        let memory = Arc::new(Memory::default());
        let (store, log) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        let kept = store.scratch(Key::new("scratch")).unwrap();
        assert_eq!(
            log.pending(),
            [Key::new("scratch")],
            "known before it is made"
        );
        put(&*store, "scratch").await;
        put(&*store, "f").await;
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["f"]);
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["f", "scratch"]);
        drop(kept);
        store.settled().await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["f"]);
        assert!(log.pending().is_empty());
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_of_the_key_has_the_reader_let_go_of_it() {
        let memory = Arc::new(Memory::default());
        let etag = put(&*memory, "f").await;
        let (store, _) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        let kept = store.delete_once_unused(pending("f", Some(etag))).unwrap();
        let reader = async move {
            kept.wanted().await;
            assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["f"]);
        };
        tokio::join!(reader, put(&*store, "f"));
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["f"]);
        runs.abort();
    }
}
