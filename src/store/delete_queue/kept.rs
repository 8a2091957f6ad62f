//! Objects of removed names that are still read or held: they are hidden, and
//! are deleted once who reads them lets go of them, or by who holds them.

use std::io;
use std::sync::Arc;

use tokio::sync::Notify;

use super::DeleteQueue;
use crate::store::{ETag, Key, StoreError};

/// An object that waits for its delete until this is dropped.
#[derive(Debug)]
pub struct Kept {
    queue: Arc<DeleteQueue>,
    key: Key,
    wanted: Arc<Notify>,
}

impl Kept {
    /// Of an object whose delete waits, as this version if one is given.
    pub(super) fn of(queue: Arc<DeleteQueue>, key: Key, etag: Option<&ETag>) -> Self {
        let wanted = queue.pending.keep(&key, etag);
        Self { queue, key, wanted }
    }

    /// A scratch object is made, as this version: a successor keeps it on for those who
    /// read it. Errors: the log's.
    pub fn made(&self, etag: &ETag) -> io::Result<()> {
        self.queue.pending.scratch_made(&self.key, etag)?;
        self.queue.late.scratch_made(&self.key);
        Ok(())
    }

    /// Returns once somebody waits for the delete.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let key = std::slice::from_ref(&self.key);
        self.queue.pending.let_go(key, &self.wanted);
        self.queue.delete_soon();
    }
}

/// Objects that wait for their deletes, which nobody but the holder of this sends until it
/// is dropped. A second one, carried out late, would take an object that the first has
/// taken already, and that is there again as the same version.
#[derive(Debug)]
pub struct Held {
    queue: Arc<DeleteQueue>,
    keys: Vec<Key>,
    kept: Arc<Notify>,
}

impl Held {
    pub(super) fn new(queue: Arc<DeleteQueue>, keys: Vec<Key>, kept: Arc<Notify>) -> Self {
        Self { queue, keys, kept }
    }

    /// Deletes them; those for which the store cannot be reached are left to be deleted
    /// once this is dropped.
    ///
    /// Returns how many are other versions by now, and stay. Errors: why objects
    /// cannot be deleted; none is tried again then, and those that are there are seen
    /// again. One without an answer may still go.
    pub async fn delete_now(&self) -> Result<usize, StoreError> {
        self.queue.bulk().delete(&self.keys).await
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.queue.pending.let_go(&self.keys, &self.kept);
        self.queue.delete_soon();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::delete_queue::tests::{delete_queue, keys, over, pending, put};
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        FoldDirectories, LIST_PAGE_LIMIT, ListRequest, ObjectStore, StoreErrorKind, StoreOp,
    };

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
    async fn a_directory_goes_after_what_is_read_in_it() {
        let memory = Arc::new(Memory::default());
        let etag = put(&*memory, "d/f").await;
        for marker in ["d/", "d/inner/", "e/"] {
            put(&*memory, marker).await;
        }
        let (store, _) = delete_queue(&memory, Vec::new());
        let runs = tokio::spawn(store.clone().run());
        let reading = store
            .delete_once_unused(pending("d/f", Some(etag)))
            .unwrap();
        for marker in ["d/inner/", "e/"] {
            assert!(!store.delete_after_kept(&Key::new(marker)).unwrap());
            store.delete_later(pending(marker, None)).unwrap();
        }
        assert!(store.delete_after_kept(&Key::new("d/")).unwrap());
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/", "d/f"]);
        assert!(keys(&*store, LIST_PAGE_LIMIT).await.is_empty());
        let reader = async move {
            reading.wanted().await;
            assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/", "d/f"]);
        };
        tokio::join!(reader, put(&*store, "d/"));
        store.settled().await;
        assert_eq!(keys(&*store, LIST_PAGE_LIMIT).await, ["d/"]);
        runs.abort();
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

    /// A delete of another key has who deletes in the background take all that waits.
    #[tokio::test(start_paused = true)]
    async fn who_holds_deletes_is_the_only_one_that_sends_them() {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (store, log) = over(faulty.clone());
        let runs = tokio::spawn(store.clone().run());
        let held = put(&*faulty, "d/f").await;
        let other = put(&*faulty, "other").await;
        let held = store.enqueue_held(&[pending("d/f", Some(held))]).unwrap();
        store.delete_later(pending("other", Some(other))).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(keys(&*faulty, LIST_PAGE_LIMIT).await, ["d/f"]);
        assert!(keys(&*store, LIST_PAGE_LIMIT).await.is_empty());
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 1);
        // What it cannot delete goes in the background, once it is done.
        let lost = Fault::Before(StoreErrorKind::Server);
        faulty.plan(StoreOp::DeleteMany, 2, lost);
        assert_eq!(held.delete_now().await.unwrap(), 0);
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 2);
        drop(held);
        store.settled().await;
        assert!(keys(&*faulty, LIST_PAGE_LIMIT).await.is_empty());
        assert!(log.pending().is_empty());
        runs.abort();
    }

    /// A store with directories of its own keeps one that has something in it.
    #[tokio::test(start_paused = true)]
    async fn who_holds_deletes_leaves_a_directory_with_others_in_it_for_later() {
        let memory = Arc::new(Memory::default());
        let (store, _) = delete_queue(&memory, Vec::new());
        let mut etags = Vec::new();
        for key in ["d/", "d/gone", "d/moved"] {
            etags.push(put(&*memory, key).await);
        }
        let of = |key: &str, at: usize| pending(key, Some(etags[at].clone()));
        store.enqueue(&[of("d/gone", 1)]).unwrap();
        let held = [pending("d/", None), of("d/moved", 2)];
        let held = store.enqueue_held(&held).unwrap();
        assert_eq!(held.delete_now().await.unwrap(), 0);
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/", "d/gone"]);
        let runs = tokio::spawn(store.clone().run());
        drop(held);
        store.settled().await;
        assert!(keys(&*memory, LIST_PAGE_LIMIT).await.is_empty());
        runs.abort();
    }
}
