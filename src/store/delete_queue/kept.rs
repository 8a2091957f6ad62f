//! Objects whose names are gone and that somebody reads still: they are not seen
//! any more, and are deleted once the reader lets go of them.

use std::io;
use std::sync::Arc;

use tokio::sync::Notify;

use super::DeleteQueue;
use crate::store::{ETag, Key};

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
        self.queue.pending.let_go(&self.key, &self.wanted);
        self.queue.delete_soon();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::delete_queue::tests::{delete_queue, keys, pending, put};
    use crate::store::memory::Memory;
    use crate::store::{FoldDirectories, LIST_PAGE_LIMIT, ListRequest, ObjectStore};

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
