//! The store as others see it: without the objects that are to be deleted, and with
//! each change of a key after the deletes that have to come before it.

use async_trait::async_trait;
use tokio::time::{Duration, timeout};

use super::pending::excludes;
use super::{DeleteQueue, listing};
use crate::store::request::*;
use crate::store::{Key, ObjectStore, StoreError, StoreErrorKind, StoreOp};

/// Times that a listing is asked for which removals overtake.
const ASK_AGAIN_LIMIT: usize = 8;
/// Where deletes take longer, a listing leaves out what they are to delete, which costs it
/// more requests.
const LISTING_WAIT: Duration = Duration::from_secs(1);

#[async_trait]
impl ObjectStore for DeleteQueue {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        if self.pending.has(&request.key) {
            let (kind, op) = (StoreErrorKind::NotFound, StoreOp::Head);
            return Err(StoreError::new(kind, op, request.key, "is being deleted"));
        }
        let key = request.key.clone();
        let meta = self.store.head(request).await?;
        if self.late.hides(&key, (&meta.etag, meta.last_modified)) {
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
            Err(error) if !error.kind.is_transient() && self.late.clear(&request.key).await => {
                tracing::debug!(%error, "a cancelled upload was in the way");
                self.store.put(request).await
            }
            answer => answer,
        };
        answer.inspect(|made| self.made.note(&key, &made.etag))
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        // What a rename that failed has left there is not what is copied now.
        if request.condition == WriteCondition::IfAbsent && self.late.is_watched(&request.target) {
            self.late.delete_if_there(&request.target).await;
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
            let (answer, overtaken) = listing::list_seen(self, request.clone()).await?;
            if !overtaken {
                return Ok(answer);
            }
        }
        Ok(listing::list_seen(self, request).await?.0)
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
        self.late
            .end_watch(StoreOp::CompleteMultipart, &key)
            .await?;
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

impl DeleteQueue {
    /// Waits for a moment for the deletes below a prefix that `counts`, unless deletes fail
    /// or are slow: a listing leaves out what is left of them.
    pub(super) async fn let_deletes_end(&self, prefix: &str, counts: impl Fn(&str) -> bool) {
        if self.is_failing() || self.pending.is_slow() {
            return;
        }
        let waits = || self.pending.has_due_below(prefix, &counts);
        if !self.is_over_within(LISTING_WAIT, waits).await {
            self.pending.note_slow();
        }
    }

    /// Waits until what lies in a directory is deleted: a store with directories of its own
    /// deletes none that has something in it. Errors: `TimedOut`.
    pub async fn deleted_below(&self, prefix: &str) -> Result<(), StoreError> {
        let is_inside = |rest: &str| !rest.is_empty();
        let waits = || self.pending.has_due_below(prefix, is_inside);
        self.wait_while(StoreOp::Delete, prefix, waits).await
    }

    /// Waits until the deletes are done that a new object under the key has to come after.
    pub(super) async fn wait_for_key(&self, op: StoreOp, key: &Key) -> Result<(), StoreError> {
        if self.pending.is_in_the_way(key.as_str()) {
            // A directory's own delete waits for those in it.
            let is_in =
                |pending: &str| key.as_str().ends_with('/') && pending.starts_with(key.as_str());
            self.pending.want(|pending| {
                excludes(pending.as_str(), key.as_str()) || is_in(pending.as_str())
            });
            self.wait_while(op, key.as_str(), || {
                self.pending.is_in_the_way(key.as_str())
            })
            .await?;
        }
        self.late.end_watch(op, key).await
    }

    pub(super) async fn wait_while(
        &self,
        op: StoreOp,
        key: &str,
        waits: impl Fn() -> bool,
    ) -> Result<(), StoreError> {
        if self.is_over_within(self.max_wait, waits).await {
            return Ok(());
        }
        Err(StoreError::new(
            StoreErrorKind::TimedOut,
            op,
            Key::new(key),
            "deletes that come first were not done in time",
        ))
    }

    async fn is_over_within(&self, limit: Duration, waits: impl Fn() -> bool) -> bool {
        if !waits() {
            return true;
        }
        self.flush_now.notify_one();
        let done = self.pending.wait_until(|_| !waits());
        timeout(limit, done).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::{Duration, timeout};

    use crate::store::delete_queue::tests::{delete_queue, keys, pending, put};
    use crate::store::memory::Memory;
    use crate::store::{Key, LIST_PAGE_LIMIT, StoreErrorKind};

    #[tokio::test(start_paused = true)]
    async fn a_name_that_is_made_again_comes_after_deletes_at_above_and_below_it() {
        for (going, made, waits) in [
            ("x", "x", true),
            ("x", "x/", true),
            ("x", "x/y/z", true),
            ("x/", "x", true),
            ("x/y", "x", true),
            ("x/y", "x/", false),
            ("x/y", "x/z", false),
            ("x", "xy", false),
            ("x-", "x/y", false),
        ] {
            let memory = Arc::new(Memory::default());
            put(&*memory, going).await;
            let (store, _) = delete_queue(&memory, Vec::new());
            store.delete_later(pending(going, None)).unwrap();
            // Nobody deletes.
            let making = timeout(Duration::from_secs(1), put(&*store, made)).await;
            assert_eq!(making.is_err(), waits, "{going} and {made}");
            let runs = tokio::spawn(store.clone().run());
            put(&*store, made).await;
            runs.abort();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_marker_goes_after_what_lies_in_its_directory() {
        let memory = Arc::new(Memory::default());
        put(&*memory, "d/").await;
        let etag = put(&*memory, "d/f").await;
        let (store, _) = delete_queue(&memory, Vec::new());
        store.delete_later(pending("d/f", Some(etag))).unwrap();
        // Nobody deletes.
        let refused = store.deleted_below("d/").await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::TimedOut);
        let runs = tokio::spawn(store.clone().run());
        store.deleted_below("d/").await.unwrap();
        assert_eq!(keys(&*memory, LIST_PAGE_LIMIT).await, ["d/"]);
        runs.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_delete_that_is_decided_has_listings_wait_again() {
        let memory = Arc::new(Memory::default());
        let (store, _) = delete_queue(&memory, Vec::new());
        // Nobody deletes.
        for key in ["d/e/f", "d/e/g"] {
            store.delete_later(pending(key, None)).unwrap();
        }
        let waited = async || {
            let began = tokio::time::Instant::now();
            store.let_deletes_end("d/", |_| true).await;
            !began.elapsed().is_zero()
        };
        assert!(waited().await);
        assert!(!waited().await, "it would be in vain");
        store.pending.settle(&[Key::new("d/e/other")]);
        assert!(!waited().await, "nothing was decided");
        store.pending.settle(&[Key::new("d/e/f")]);
        assert!(waited().await);
    }
}
