//! What the store can do, found out by asking it.

mod markers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::store::{
    Ability, BulkDeletes, CompleteMultipartRequest, CompletedPart, Copies, CopyRequest,
    CreateMultipartRequest, DeleteQueue, DeleteRequest, ETag, Key, LateChanges, LateObject,
    ObjectHeaders, ObjectStore, PartNumber, PutAnswer, PutRequest, StoreAbilities, StoreError,
    StoreErrorKind, StoreHealth, UploadId, UploadPartRequest, WriteCondition, log_failure,
    warn_no_bulk_deletes, warn_no_copies,
};

const WITHOUT_CONDITIONS: &str = "this store ignores If-Match: mediafs compares versions right before it sends a change; another client that is faster than that, or a request that the store carries out late, can still undo a change";

/// Pauses before a store is asked again that did not tell, or could not.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LIMIT: Duration = Duration::from_secs(600);

/// Keys of a probe end in this and what it tries; each mount has its own.
pub const SCRATCH_NAME: &str = ".mediafs-probe-";

/// What a probe found out and left.
#[derive(Debug, Default)]
pub struct Probed {
    pub abilities: StoreAbilities,
    /// Scratch objects that the store may make yet: nobody waits for the answer any more.
    pub unanswered: Vec<Key>,
    /// Why no scratch object can be written.
    pub refused: Option<StoreError>,
}

impl Probed {
    /// Why the store takes no object, where another attempt would only take longer.
    pub fn unserved(&self) -> Option<&StoreError> {
        let refused = self.refused.as_ref();
        refused.filter(|error| error.kind.is_no_answer())
    }
}

/// Finds out which conditions the store heeds, with four scratch objects of one
/// byte and changes of them on a condition that does not hold, and whether it keeps an
/// empty one whose key ends in `/`.
///
/// Fifteen requests in seven round trips; nothing is left of what was answered. What the
/// store does not answer, or these credentials may not do, stays unknown.
/// Source: S3 User Guide, "Add preconditions to S3 operations with conditional requests".
pub async fn abilities(store: &dyn ObjectStore, prefix: &str) -> Probed {
    let number = fastrand::u64(..);
    let key = |tried: &str| Key::new(format!("{prefix}{SCRATCH_NAME}{number:016x}-{tried}"));
    let probe = Probe { store };
    let (written, deleted, bulk) = (key("write"), key("delete"), key("bulk"));
    let (uploaded, marker) = (key("upload"), key("marker/"));
    let (first, second, third, (fourth, upload), listed) = tokio::join!(
        probe.put(&written, WriteCondition::Always),
        probe.put(&deleted, WriteCondition::Always),
        probe.put(&bulk, WriteCondition::Always),
        probe.upload(&uploaded),
        markers::put_and_list(store, &marker),
    );
    let keys = [&written, &deleted, &bulk, &uploaded];
    let put = [&first, &second, &third, &fourth];
    let is_unanswered = |put: &Result<(), StoreError>| {
        let error = put.as_ref().err();
        error.is_some_and(|error| !error.kind.is_refusal())
    };
    let mut unanswered: Vec<Key> = (keys.into_iter().zip(put))
        .filter(|(_, put)| is_unanswered(put))
        .map(|(key, _)| key.clone())
        .collect();
    if markers::is_unanswered(&listed) {
        unanswered.push(marker.clone());
    }
    let mut refused = None;
    let mut abilities = match first.and(second).and(third).and(fourth) {
        Ok(()) => {
            let upload = upload.as_ref();
            let complete = probe.complete(&uploaded, upload);
            let found = probe.ask(&written, &deleted, &bulk, complete).await;
            // What ignores the condition makes them again.
            if [found.put, found.copy].contains(&Ability::Unknown) {
                unanswered.push(written.clone());
            }
            if found.complete == Ability::Unknown && upload.is_some() {
                unanswered.push(uploaded.clone());
            }
            StoreAbilities {
                marker_keys: markers::judge(&listed, &marker),
                ..found
            }
        }
        Err(error) => {
            tracing::info!(%error, "cannot tell which conditional requests the store heeds");
            refused = Some(error);
            StoreAbilities::default()
        }
    };
    let unseen = markers::may_be_unseen(&listed).then_some(marker);
    let mut all: BTreeSet<Key> = keys.into_iter().cloned().collect();
    // Where it is listed by another name, it is deleted by that.
    all.extend(listed.unwrap_or_default());
    let upload = upload.map(|(id, _)| (uploaded, id));
    abilities.bulk_deletes = probe.leave_nothing((all, unseen), upload).await;
    Probed {
        abilities,
        unanswered,
        refused,
    }
}

/// Warns that nothing can be written, where the store has answered and does not take a
/// scratch object.
pub fn warn_of_refused_writes(probed: &Probed) {
    let Some(error) = &probed.refused else {
        return;
    };
    let is_answer = !error.kind.is_no_answer()
        || matches!(
            error.kind,
            StoreErrorKind::Server | StoreErrorKind::Malformed
        );
    if is_answer {
        log_failure!(
            warn,
            error,
            [],
            "this store does not take objects: writes will fail until it does; check the permissions of the credentials (s3:PutObject) and --sse, --acl and --storage-class, or mount with --read-only"
        );
    }
}

/// Warns of the conditions that the store does not heed, and of copies.
pub fn warn_of_missing(abilities: &StoreAbilities) {
    if abilities.copies == Copies::Refused {
        warn_no_copies(None);
    }
    let missing = abilities.missing();
    if !missing.is_empty() {
        let missing: Vec<_> = missing.iter().map(|op| op.name()).collect();
        tracing::warn!(requests = missing.join(" "), "{WITHOUT_CONDITIONS}");
    }
}

/// Who asks the store for what is not known of it.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Below all that changes conditions.
    pub store: Arc<dyn ObjectStore>,
    pub prefix: String,
    pub health: StoreHealth,
    pub late: LateChanges,
    /// Deletes what a probe leaves.
    pub delete_queue: Arc<DeleteQueue>,
}

impl Asker {
    /// Asks again whenever the store serves, until everything is known: a mount may
    /// begin while the store does not answer, or these credentials may do nothing.
    pub async fn run(self) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        while !self.late.abilities().get().is_known() {
            self.health.served().await;
            sleep(backoff.next_pause()).await;
            if self.health.outage().is_some() {
                continue;
            }
            let found = abilities(&*self.store, &self.prefix).await;
            for key in found.unanswered {
                self.delete_queue.late().watch_for(key, LateObject::any());
            }
            if self.late.abilities().learn(&found.abilities) {
                let unknown = self.late.abilities().get().unknown().len();
                tracing::info!(unknown, "found out what the store can do");
                warn_of_missing(&found.abilities);
            }
        }
    }
}

struct Probe<'a> {
    store: &'a dyn ObjectStore,
}

impl Probe<'_> {
    /// Deletes what it has made, and ends its upload. A store may fail for a marker whatever
    /// it is asked: such a one goes last.
    async fn leave_nothing(
        &self,
        (keys, marker): (BTreeSet<Key>, Option<Key>),
        upload: Option<(Key, UploadId)>,
    ) -> BulkDeletes {
        let all = keys.into_iter().map(DeleteRequest::any).collect();
        let ((left, bulk_deletes), abort) = tokio::join!(self.delete(all), async {
            match upload {
                Some((key, id)) => self.store.abort_multipart(key, id).await,
                None => Ok(()),
            }
        });
        let marker = match marker {
            Some(key) => self.store.delete(DeleteRequest::any(key)).await,
            None => Ok(()),
        };
        if let Some(error) = left.or(abort.err()).or(marker.err()) {
            tracing::warn!(%error, "objects named {SCRATCH_NAME}* may be left in the bucket: delete them");
        }
        bulk_deletes
    }

    /// Deletes scratch objects, one by one where the store refuses more at once;
    /// why some are left.
    async fn delete(&self, requests: Vec<DeleteRequest>) -> (Option<StoreError>, BulkDeletes) {
        let refusal = match self.store.delete_many(requests.clone()).await {
            Ok(failed) => {
                let left = failed.into_iter().map(|(_, error)| error).next_back();
                return (left, BulkDeletes::Taken);
            }
            Err(error) => error,
        };
        let mut left = None;
        for request in requests {
            left = self.store.delete(request).await.err().or(left);
            // In an outage each takes its whole deadline.
            if left.as_ref().is_some_and(|error| error.kind.is_no_answer()) {
                break;
            }
        }
        if left.is_some() || !refusal.kind.is_refusal_of_bulk() {
            return (left, BulkDeletes::Taken);
        }
        warn_no_bulk_deletes(&refusal);
        (None, BulkDeletes::Refused)
    }

    async fn put(&self, key: &Key, condition: WriteCondition) -> Result<(), StoreError> {
        let request = PutRequest {
            key: key.clone(),
            body: Bytes::from_static(b"x"),
            headers: ObjectHeaders::default(),
            condition,
        };
        self.store.put(request).await.map(drop)
    }

    /// An object, and an upload of one part in its place, ready to be completed.
    ///
    /// Nothing else is put there: on some stores that ends an upload. Source: Garage,
    /// src/model/s3/object_table.rs, `Object::merge`.
    async fn upload(
        &self,
        key: &Key,
    ) -> (Result<(), StoreError>, Option<(UploadId, CompletedPart)>) {
        let put = self.put(key, WriteCondition::Always).await;
        let upload = match &put {
            Ok(()) => self.upload_part(key).await,
            Err(_) => None,
        };
        (put, upload)
    }

    async fn upload_part(&self, key: &Key) -> Option<(UploadId, CompletedPart)> {
        let begin = CreateMultipartRequest {
            key: key.clone(),
            headers: ObjectHeaders::default(),
        };
        let upload = self.store.create_multipart(begin).await.ok()?;
        let request = UploadPartRequest {
            key: key.clone(),
            upload: upload.clone(),
            number: PartNumber::new(1)?,
            body: Bytes::from_static(b"y").into(),
        };
        match self.store.upload_part(request).await {
            Ok(part) => Some((upload, part)),
            Err(_) => {
                // The answer would tell nothing of what is asked here.
                drop(self.store.abort_multipart(key.clone(), upload).await);
                None
            }
        }
    }

    async fn ask(
        &self,
        written: &Key,
        deleted: &Key,
        bulk: &Key,
        complete: impl Future<Output = Ability>,
    ) -> StoreAbilities {
        let (nothing, condition) = never();
        let copy = CopyRequest {
            source: deleted.clone(),
            source_if_match: None,
            size_bytes: 1,
            target: written.clone(),
            condition: condition.clone(),
            replace_headers: None,
            placement: crate::store::Placement::default(),
        };
        let delete = |key: &Key| DeleteRequest {
            key: key.clone(),
            if_match: Some(nothing.clone()),
        };
        let (put, complete, delete_many) = tokio::join!(
            self.put(written, condition.clone()),
            complete,
            self.store.delete_many(vec![delete(bulk)]),
        );
        // The copy needs its source, and is not to meet the PUT of its target.
        let copied = self.store.copy(copy.clone()).await;
        let copies = self.copies(&copied, copy).await;
        let delete = self.store.delete(delete(deleted)).await;
        StoreAbilities {
            put: ability(put),
            complete,
            copy: ability(copied),
            delete: ability(delete),
            delete_many: ability(delete_many.and_then(|failed| {
                let failed = failed.into_iter().next();
                failed.map_or(Ok(()), |(_, error)| Err(error))
            })),
            copies,
            ..StoreAbilities::default()
        }
    }

    /// Whether what has refused a copy on a condition takes one without.
    async fn copies(
        &self,
        on_condition: &Result<PutAnswer, StoreError>,
        copy: CopyRequest,
    ) -> Copies {
        if !matches!(on_condition, Err(error) if error.kind == StoreErrorKind::Unsupported) {
            return Copies::Taken;
        }
        let copy = CopyRequest {
            condition: WriteCondition::Always,
            ..copy
        };
        match self.store.copy(copy).await {
            Err(error) if error.kind == StoreErrorKind::Unsupported => Copies::Refused,
            Ok(_) | Err(_) => Copies::Taken,
        }
    }

    async fn complete(&self, key: &Key, upload: Option<&(UploadId, CompletedPart)>) -> Ability {
        let Some((id, part)) = upload else {
            return Ability::Unknown;
        };
        let request = CompleteMultipartRequest {
            key: key.clone(),
            upload: id.clone(),
            parts: vec![part.clone()],
            condition: never().1,
        };
        ability(self.store.complete_multipart(request).await)
    }
}

/// A version that no object has, and the condition that it is there.
fn never() -> (ETag, WriteCondition) {
    let nothing = ETag::new("00000000000000000000000000000000");
    (nothing.clone(), WriteCondition::IfMatch(nothing))
}

/// What comes of a change on a condition that does not hold.
fn ability<T>(answer: Result<T, StoreError>) -> Ability {
    match answer {
        Ok(_) => Ability::Missing,
        Err(error) => match error.kind {
            StoreErrorKind::PreconditionFailed if error.is_own_check() => Ability::Unknown,
            StoreErrorKind::PreconditionFailed | StoreErrorKind::Conflict => Ability::Heeded,
            // Without the condition it was taken.
            StoreErrorKind::Unsupported | StoreErrorKind::Rejected => Ability::Missing,
            _ => {
                tracing::info!(op = %error.op, %error, "cannot tell whether the store heeds conditional requests");
                Ability::Unknown
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{FoldDirectories, ListRequest};

    async fn keys(store: &Memory) -> usize {
        let all = ListRequest {
            prefix: String::new(),
            fold_directories: FoldDirectories::No,
            token: None,
            max_keys: 10,
        };
        store.list(all).await.unwrap().objects.len()
    }

    #[tokio::test]
    async fn a_store_that_heeds_conditions_is_told_from_one_that_does_not_and_nothing_is_left() {
        let heeds = Memory::default();
        let found = abilities(&heeds, "media/").await;
        assert_eq!(found.abilities, StoreAbilities::ALL);
        assert!(found.unanswered.is_empty());
        assert_eq!(keys(&heeds).await, 0);
        let ignores = Memory::without_conditions();
        let found = abilities(&ignores, "media/").await;
        assert_eq!(found.abilities.missing().len(), 5);
        assert_eq!(keys(&ignores).await, 0);
    }
}
