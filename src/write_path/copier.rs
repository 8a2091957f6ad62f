//! Copies inside the bucket: one request, or parts in parallel for long objects.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::written_headers::WrittenHeaders;
use crate::error::FsError;
use crate::store::{
    COPY_LIMIT_BYTES, CompleteMultipartRequest, CompletedPart, CopyHeaders, CopyRequest,
    CreateMultipartRequest, ETag, GetRequest, HeadRequest, Key, ObjectHeaders, ObjectMeta,
    ObjectStore, PART_COUNT_LIMIT, PART_MIN_BYTES, PartNumber, PutRequest, StoreError,
    StoreErrorKind, UploadId, UploadPartCopyRequest, UserMetadata, WriteCondition, if_there,
};

/// Parts of one copy that are under way at once; no bytes pass through here.
const PARTS_AT_ONCE: usize = 16;
/// What tells one client's file from another's with the same bytes, where it is stored.
const MTIME: &str = "mtime";
/// What is longer is sent in parts where a store has no copies.
const READ_WHOLE_LIMIT_BYTES: u64 = 16 << 20;
/// Attempts of a copy whose target other clients replace meanwhile.
const REPLACE_TRIES: usize = 8;

/// Objects longer than this are copied in parts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyPartSize(u64);

impl CopyPartSize {
    /// Takes 5 MiB, the least part of S3, to 5 GiB, the most that one copy takes.
    pub fn new(bytes: u64) -> Option<Self> {
        (PART_MIN_BYTES..=COPY_LIMIT_BYTES)
            .contains(&bytes)
            .then_some(Self(bytes))
    }

    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Part size with which `PART_COUNT_LIMIT` parts hold the object.
    fn for_len(self, len: u64) -> u64 {
        self.0.max(len.div_ceil(u64::from(PART_COUNT_LIMIT)))
    }
}

/// What a copy takes the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CopyOver {
    /// Whatever is there; this is known of it, `Always` where nothing is.
    Any(WriteCondition),
    /// This alone: a version, or nothing.
    Only(WriteCondition),
    /// Nothing; the first copy wins, and a doubtful one counts as another client's.
    Free,
}

impl CopyOver {
    /// What is known of it.
    pub fn condition(&self) -> &WriteCondition {
        match self {
            Self::Any(known) | Self::Only(known) => known,
            Self::Free => &WriteCondition::IfAbsent,
        }
    }
}

/// A copy to make of one version of an object.
#[derive(Debug, Clone)]
pub struct CopyTask {
    pub source: Key,
    pub version: ETag,
    pub size_bytes: u64,
    pub target: Key,
    pub over: CopyOver,
    pub headers: CopyHeaders,
}

/// Copies objects with all that is stored with them.
#[derive(Debug)]
pub struct Copier {
    store: Arc<dyn ObjectStore>,
    part_size: CopyPartSize,
    written: Arc<WrittenHeaders>,
}

impl Copier {
    /// Of what is `written` the store is not asked again.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        part_size: CopyPartSize,
        written: Arc<WrittenHeaders>,
    ) -> Self {
        Self {
            store,
            part_size,
            written,
        }
    }

    /// Copies exactly this version and returns the copy's.
    ///
    /// Each attempt names what it takes the place of: one that the store carries
    /// out late finds another version.
    /// Errors: `Stale` when the source, or what it may take the place of, is no longer
    /// this version; `Exists` when something is where nothing may be; the store's.
    pub async fn copy(&self, task: &CopyTask) -> Result<ETag, FsError> {
        // Before, for a copy that is applied and nobody waits for any more.
        self.written.forget(&task.target);
        let outcome = self.copy_over(task).await;
        self.written.forget(&task.target);
        outcome
    }

    async fn copy_over(&self, task: &CopyTask) -> Result<ETag, FsError> {
        let mut condition = match &task.over {
            CopyOver::Any(WriteCondition::Always) => self.current(&task.target).await?,
            over => over.condition().clone(),
        };
        let mut refused = FsError::STALE;
        for _ in 0..REPLACE_TRIES {
            match self.copy_on_condition(task, condition).await {
                // Not found: the source, or the version that is taken the place of.
                // Source: S3 API, CopyObject, `If-Match`.
                Err(error @ (FsError::Stale(_) | FsError::NotFound(_))) => refused = error,
                outcome => return outcome,
            }
            // Did the source change, or the target?
            if self.current(&task.source).await? != WriteCondition::IfMatch(task.version.clone()) {
                return Err(refused);
            }
            condition = self.current(&task.target).await?;
            match &task.over {
                CopyOver::Any(_) => {}
                over if condition == *over.condition() => {}
                over => {
                    return Err(match over.condition() {
                        WriteCondition::IfAbsent => refused.into_exists(),
                        _ => refused,
                    });
                }
            }
            tracing::info!(key = %task.target, "another version is there: replacing it");
        }
        Err(refused)
    }

    pub fn copies_in_parts(&self, size_bytes: u64) -> bool {
        size_bytes > self.part_size.0
    }

    /// The condition that holds for the key now.
    async fn current(&self, key: &Key) -> Result<WriteCondition, FsError> {
        let looked = self.store.head(HeadRequest { key: key.clone() }).await;
        Ok(match if_there(looked)? {
            Some(there) => WriteCondition::IfMatch(there.etag),
            None => WriteCondition::IfAbsent,
        })
    }

    async fn copy_on_condition(
        &self,
        task: &CopyTask,
        condition: WriteCondition,
    ) -> Result<ETag, FsError> {
        if self.copies_in_parts(task.size_bytes) {
            return self.copy_in_parts(task, condition).await;
        }
        // Class and encryption of the source do not go along by themselves.
        let headers = self.headers(task).await?;
        let placement = headers.placement.clone();
        let (attempt, began) = ((task, headers.user_metadata.clone()), Instant::now());
        let replace_headers = match &task.headers {
            CopyHeaders::Same => None,
            // Replacing one header replaces all of them.
            CopyHeaders::ContentType(_) | CopyHeaders::Replace(_) => Some(headers),
        };
        let request = CopyRequest {
            source: task.source.clone(),
            source_if_match: Some(task.version.clone()),
            size_bytes: task.size_bytes,
            target: task.target.clone(),
            condition: condition.clone(),
            replace_headers,
            placement,
        };
        let error = match self.store.copy(request).await {
            Ok(answer) => return Ok(answer.etag),
            Err(error) if !error.lacks_copy_object() => error,
            Err(_) if task.size_bytes > READ_WHOLE_LIMIT_BYTES => {
                return self.copy_in_parts(task, condition).await;
            }
            Err(_) => match self.read_and_put(task, &condition).await? {
                Ok(etag) => return Ok(etag),
                Err(error) => error,
            },
        };
        // By an attempt of its own, whose answer was lost?
        let refused = error.kind == StoreErrorKind::PreconditionFailed && error.maybe_applied;
        let copy = WriteCondition::IfMatch(task.version.clone());
        let may_be_own = refused && condition != copy;
        if may_be_own
            && self.is_own(attempt, began).await?
            && self.current(&task.source).await? == copy
        {
            return Ok(task.version.clone());
        }
        Err(error.into())
    }

    /// A copy where the store has none: the outer errors are those of the source.
    async fn read_and_put(
        &self,
        task: &CopyTask,
        condition: &WriteCondition,
    ) -> Result<Result<ETag, StoreError>, FsError> {
        let mut headers = self.headers(task).await?;
        headers.tags = self.tags(&task.source).await?;
        let get = GetRequest {
            key: task.source.clone(),
            range: None,
            if_match: Some(task.version.clone()),
            sink: None,
        };
        let body = self.store.get(get).await?.body;
        if body.len() as u64 != task.size_bytes {
            return Err(FsError::STALE);
        }
        let request = PutRequest {
            key: task.target.clone(),
            body,
            headers,
            condition: condition.clone(),
        };
        Ok(self.store.put(request).await.map(|made| made.etag))
    }

    /// Whether what is under the new key is a copy that was begun here. Where the name is
    /// whose copy was first, that must be told by what is stored with it: times of changes.
    async fn is_own(
        &self,
        (task, user_metadata): (&CopyTask, UserMetadata),
        began: Instant,
    ) -> Result<bool, FsError> {
        let request = HeadRequest {
            key: task.target.clone(),
        };
        let there = match self.store.head(request).await {
            Ok(there) => there,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if there.etag != task.version {
            return Ok(false);
        }
        let is_told = || {
            let is_same = there.headers.user_metadata == user_metadata;
            is_same && user_metadata.contains_key(MTIME)
        };
        let is_older = there.is_older_by(began.elapsed());
        Ok(task.over != CopyOver::Free || (!is_older && is_told()))
    }

    /// What is to be stored with the copy.
    async fn headers(&self, task: &CopyTask) -> Result<ObjectHeaders, FsError> {
        if let CopyHeaders::Replace(headers) = &task.headers {
            return Ok((**headers).clone());
        }
        let mut headers = match self.written.of(&task.source, &task.version) {
            Some(written) => written,
            None => self.source(&task.source, &task.version).await?.headers,
        };
        if let CopyHeaders::ContentType(content_type) = &task.headers {
            headers.content_type = Some(content_type.clone());
        }
        Ok(headers)
    }

    /// What is stored with exactly this version besides its bytes, tags too.
    ///
    /// Errors: `Stale` when there is another one; the store's.
    pub async fn headers_of(&self, key: &Key, version: &ETag) -> Result<ObjectHeaders, FsError> {
        let meta = self.source(key, version).await?;
        let mut headers = meta.headers;
        if meta.tag_count > 0 {
            headers.tags = self.tags(key).await?;
        }
        Ok(headers)
    }

    async fn source(&self, key: &Key, version: &ETag) -> Result<ObjectMeta, FsError> {
        let meta = self.store.head(HeadRequest { key: key.clone() }).await?;
        if meta.etag == *version {
            Ok(meta)
        } else {
            Err(FsError::STALE)
        }
    }

    /// None also where they cannot be read: rights to an object's bytes are none to its tags.
    async fn tags(&self, key: &Key) -> Result<Option<String>, FsError> {
        match self.store.tags(key.clone()).await {
            Err(error) if !error.kind.is_transient() => {
                tracing::warn!(%key, %error, "tags are not kept: they cannot be read");
                Ok(None)
            }
            tags => Ok(tags?),
        }
    }

    /// A multipart upload knows nothing of the source: headers go along by hand.
    async fn copy_in_parts(
        &self,
        task: &CopyTask,
        condition: WriteCondition,
    ) -> Result<ETag, FsError> {
        let mut headers = self.headers(task).await?;
        headers.tags = self.tags(&task.source).await?;
        let create = CreateMultipartRequest {
            key: task.target.clone(),
            headers,
        };
        let upload = self.store.create_multipart(create).await?;
        let mut maybe_made = None;
        let copied = async {
            let request = self.copy_parts(task, &upload, condition).await?;
            let made = request.expected_etag();
            let completed = self.store.complete_multipart(request).await;
            let completed =
                completed.inspect_err(|error| maybe_made = made.filter(|_| error.maybe_applied));
            Ok::<_, FsError>(completed?.etag)
        };
        let error = match copied.await {
            Ok(etag) => return Ok(etag),
            Err(error) => error,
        };
        let key = task.target.clone();
        if let Err(error) = self.store.abort_multipart(key, upload).await {
            tracing::warn!(%error, "multipart copy not aborted");
        } else if let Some(made) = maybe_made
            && let Ok(WriteCondition::IfMatch(there)) = self.current(&task.target).await
            && there == made
        {
            // By an attempt whose answer was lost. None is carried out from now on.
            return Ok(made);
        }
        Err(error)
    }

    async fn copy_parts(
        &self,
        task: &CopyTask,
        upload: &UploadId,
        condition: WriteCondition,
    ) -> Result<CompleteMultipartRequest, FsError> {
        let part_bytes = self.part_size.for_len(task.size_bytes);
        let parts: Vec<CompletedPart> = stream::iter(0..task.size_bytes.div_ceil(part_bytes))
            .map(|index| self.copy_part(task, upload, index, part_bytes))
            .buffered(PARTS_AT_ONCE)
            .try_collect()
            .await?;
        Ok(CompleteMultipartRequest {
            key: task.target.clone(),
            upload: upload.clone(),
            parts,
            condition,
        })
    }

    async fn copy_part(
        &self,
        task: &CopyTask,
        upload: &UploadId,
        index: u64,
        part_bytes: u64,
    ) -> Result<CompletedPart, FsError> {
        let number = u16::try_from(index + 1).ok().and_then(PartNumber::new);
        let start = index * part_bytes;
        let request = UploadPartCopyRequest {
            source: task.source.clone(),
            source_if_match: task.version.clone(),
            range: start..task.size_bytes.min(start + part_bytes),
            target: task.target.clone(),
            upload: upload.clone(),
            number: number.ok_or(FsError::TOO_LARGE)?,
        };
        Ok(self.store.upload_part_copy(request).await?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{DeleteRequest, GetRequest, Placement, PutRequest, StoreOp, UserMetadata};

    const LEN: usize = 23 << 20;

    async fn source() -> (Arc<Faulty>, Copier, CopyTask) {
        let store = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let body: Bytes = (0..LEN).map(|i| (i % 251) as u8).collect();
        let user_metadata = UserMetadata::from([("owner".to_owned(), "me".to_owned())]);
        let content_type = Some("text/plain".to_owned());
        let placement = Placement {
            storage_class: Some("STANDARD_IA".to_owned()),
            encryption: None,
        };
        let request = PutRequest {
            key: Key::new("a.txt"),
            body,
            headers: ObjectHeaders {
                content_type,
                user_metadata,
                tags: Some("team=media".to_owned()),
                expires: Some(7),
                placement: placement.clone(),
                ..ObjectHeaders::default()
            },
            condition: WriteCondition::Always,
        };
        let task = CopyTask {
            source: Key::new("a.txt"),
            version: store.put(request).await.unwrap().etag,
            size_bytes: LEN as u64,
            target: Key::new("b.html"),
            over: CopyOver::Any(WriteCondition::IfAbsent),
            headers: CopyHeaders::ContentType("text/html".to_owned()),
        };
        let copier = Copier::new(
            store.clone(),
            CopyPartSize::new(5 << 20).unwrap(),
            Arc::new(WrittenHeaders::new(std::time::Duration::ZERO)),
        );
        (store, copier, task)
    }

    async fn get(store: &Faulty, key: &Key) -> crate::store::GetAnswer {
        let key = key.clone();
        store
            .get(GetRequest {
                key,
                range: None,
                if_match: None,
                sink: None,
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_long_object_is_copied_in_parts_with_its_metadata_and_new_content_type() {
        let (store, copier, task) = source().await;
        let etag = copier.copy(&task).await.unwrap();
        assert_eq!(store.seen(StoreOp::UploadPartCopy), 5);
        assert_eq!(store.seen(StoreOp::Copy), 0);
        let (original, copy) = (
            get(&store, &task.source).await,
            get(&store, &task.target).await,
        );
        assert!(original.body == copy.body);
        assert_eq!(copy.meta.etag, etag);
        assert_eq!(copy.meta.headers.content_type.as_deref(), Some("text/html"));
        let mut expected = original.meta.headers;
        expected.content_type = Some("text/html".to_owned());
        assert_eq!(copy.meta.headers, expected);
    }

    #[tokio::test]
    async fn a_copy_in_one_request_keeps_class_and_encryption() {
        let (store, _, task) = source().await;
        let copier = Copier::new(
            store.clone(),
            CopyPartSize::new(64 << 20).unwrap(),
            Arc::new(WrittenHeaders::new(std::time::Duration::ZERO)),
        );
        copier.copy(&task).await.unwrap();
        let original = get(&store, &task.source).await;
        let copy = get(&store, &task.target).await;
        assert_eq!(copy.meta.headers.placement, original.meta.headers.placement);
        assert_eq!(copy.meta.headers.expires, original.meta.headers.expires);
    }

    #[tokio::test]
    async fn a_copy_of_a_copy_has_its_headers_and_not_those_of_the_same_bytes_before() {
        let (store, _, mut task) = source().await;
        let written = Arc::new(WrittenHeaders::new(std::time::Duration::MAX));
        written.note(&task.target, &task.version, &ObjectHeaders::default());
        let part_size = CopyPartSize::new(64 << 20).unwrap();
        let copier = Copier::new(store.clone(), part_size, written);
        task.headers = CopyHeaders::Same;
        task.version = copier.copy(&task).await.unwrap();
        task.headers = CopyHeaders::ContentType("text/css".to_owned());
        (task.source, task.target) = (task.target, Key::new("c.css"));
        copier.copy(&task).await.unwrap();
        let copy = get(&store, &task.target).await;
        assert_eq!(copy.meta.headers.user_metadata["owner"], "me");
    }

    #[tokio::test]
    async fn a_source_that_changed_is_not_copied() {
        let (store, copier, mut task) = source().await;
        task.version = ETag::new("another");
        assert!(matches!(copier.copy(&task).await, Err(FsError::Stale(_))));
        task.size_bytes = 100;
        task.headers = CopyHeaders::Same;
        assert!(matches!(copier.copy(&task).await, Err(FsError::Stale(_))));
        assert_eq!(store.seen(StoreOp::CompleteMultipart), 0);
    }

    #[tokio::test]
    async fn a_target_that_changed_is_replaced_or_left_as_the_task_says() {
        for long in [true, false] {
            let (store, copier, mut task) = source().await;
            if !long {
                task.size_bytes = 100;
            }
            let theirs = PutRequest {
                key: task.target.clone(),
                body: Bytes::from_static(b"theirs"),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            store.put(theirs).await.unwrap();
            task.over = CopyOver::Only(WriteCondition::IfAbsent);
            assert!(matches!(copier.copy(&task).await, Err(FsError::Exists(_))));
            assert_eq!(get(&store, &task.target).await.body, "theirs");
            task.over = CopyOver::Any(WriteCondition::IfAbsent);
            let etag = copier.copy(&task).await.unwrap();
            assert_eq!(get(&store, &task.target).await.meta.etag, etag);

            // Another client removes it.
            let removed = DeleteRequest::any(task.target.clone());
            store.delete(removed).await.unwrap();
            task.over = CopyOver::Any(WriteCondition::IfMatch(etag.clone()));
            let again = copier.copy(&task).await.unwrap();
            assert_eq!(get(&store, &task.target).await.meta.etag, again);
        }
    }

    #[tokio::test]
    async fn a_copy_that_breaks_off_is_aborted() {
        let (store, copier, task) = source().await;
        store.plan(
            StoreOp::UploadPartCopy,
            3,
            Fault::Before(StoreErrorKind::Server),
        );
        assert!(copier.copy(&task).await.is_err());
        assert_eq!(store.seen(StoreOp::AbortMultipart), 1);
    }
}
