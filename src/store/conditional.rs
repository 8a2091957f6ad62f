//! Conditions where the store does not heed them: looked at right before the change.
//!
//! Between the look and the change another client may be faster; a warning at the
//! mount says so. `Retry` looks where it leaves a condition out, before every attempt; here
//! is looked where nobody knows what the store does with it, and before bulk deletes.
//! `Unanswered` keeps late changes of this mount apart.

mod part_copies;
mod single_deletes;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt};

use part_copies::PartCopies;

use super::abilities::{Ability, BulkDeletes, KnownAbilities};
use super::change::{Change, Leaves};
use super::request::*;
use super::{
    ETag, Key, LateChanges, ObjectChecksums, ObjectStore, StoreError, StoreErrorKind, StoreOp,
    if_there,
};

const LOOKS_AT_ONCE: usize = 16;
/// Up to so many deletes go one by one where only single ones heed conditions.
const SINGLE_DELETES_LIMIT: usize = 16;
/// Pages of a listing that are read to compare the versions of one bulk delete;
/// what they do not tell of is asked for key by key.
const LOOK_PAGES_LIMIT: usize = 3;

/// A store whose changes take effect only on their condition, as far as that can be had.
#[derive(Debug)]
pub struct Conditional {
    store: Arc<dyn ObjectStore>,
    /// Those that the store below waits for: nothing may wait after a look.
    late: LateChanges,
    part_copies: PartCopies,
}

/// What a look before a delete has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Wanted,
    Another,
    Nothing,
}

impl Conditional {
    pub fn new(store: Arc<dyn ObjectStore>, late: LateChanges) -> Self {
        Self {
            part_copies: PartCopies::new(store.clone()),
            store,
            late,
        }
    }

    fn abilities(&self) -> &KnownAbilities {
        self.late.abilities()
    }

    fn ability(&self, op: StoreOp) -> Ability {
        self.abilities().get().of(op)
    }

    /// Sends a change, and looks first where nobody knows whether the store heeds its
    /// condition. The store below leaves out one that is none there, and looks then.
    async fn change<R, T, F>(
        &self,
        op: StoreOp,
        request: &R,
        (key, condition): (&Key, &WriteCondition),
        send: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        for<'a> &'a R: Into<Change> + Into<Leaves>,
        F: Future<Output = Result<T, StoreError>>,
    {
        if *condition == WriteCondition::Always {
            return send().await;
        }
        let ability = self.ability(op);
        if ability == Ability::Unknown {
            self.wait_for_late(op, key, request).await?;
            self.look(op, key, condition).await?;
        }
        match send().await {
            Err(error)
                if error.kind == StoreErrorKind::Unsupported && ability != Ability::Missing =>
            {
                self.abilities().lacks(op);
                let answer = send().await;
                match &answer {
                    Ok(_) => KnownAbilities::warn_no_condition(op),
                    Err(error) if error.kind == StoreErrorKind::Unsupported => {
                        self.abilities().put_back(op, ability);
                    }
                    Err(_) => {}
                }
                answer
            }
            answer => answer,
        }
    }

    /// Returns once no late change can undo this one. Errors: `TimedOut`.
    async fn wait_for_late<R>(&self, op: StoreOp, key: &Key, request: &R) -> Result<(), StoreError>
    where
        for<'a> &'a R: Into<Change> + Into<Leaves>,
    {
        let ask = || async { self.current(key).await.map(drop) };
        self.late.wait_before(op, key, request, ask).await
    }

    /// Errors: `PreconditionFailed` when the condition does not hold now.
    async fn look(
        &self,
        op: StoreOp,
        key: &Key,
        condition: &WriteCondition,
    ) -> Result<(), StoreError> {
        let current = self.current(key).await?;
        match condition.holds(current.as_ref()) {
            true => Ok(()),
            false => Err(StoreError::another_version(op, key)),
        }
    }

    /// The version that is there now.
    async fn current(&self, key: &Key) -> Result<Option<ETag>, StoreError> {
        let looked = self.store.head(HeadRequest { key: key.clone() }).await;
        Ok(if_there(looked)?.map(|there| there.etag))
    }

    async fn find(&self, request: &DeleteRequest) -> Result<Found, StoreError> {
        let current = self.current(&request.key).await?;
        Ok(Found::of(request, current.as_ref()))
    }

    /// Some stores refuse to delete on a condition what is not there: that is no refusal.
    async fn ok_if_missing(&self, refused: StoreError) -> Result<(), StoreError> {
        match self.current(&refused.key).await? {
            None => Ok(()),
            Some(_) => Err(refused),
        }
    }

    async fn send_many_ok_if_missing(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let failed = self.send_many(requests).await?;
        let looks = stream::iter(failed).map(|(key, error)| async {
            let is_gone = error.kind == StoreErrorKind::PreconditionFailed
                && matches!(self.current(&key).await, Ok(None));
            (!is_gone).then_some((key, error))
        });
        let looks = looks.buffered(LOOKS_AT_ONCE);
        Ok(looks.filter_map(async |failed| failed).collect().await)
    }

    /// Which of these objects are still what they are to be.
    async fn find_all(
        &self,
        requests: &[DeleteRequest],
    ) -> Result<HashMap<Key, Found>, StoreError> {
        let listed = self.list_around(requests).await?;
        let unlisted = requests.iter().filter(|it| !listed.contains_key(&it.key));
        let mut looks = stream::iter(unlisted.cloned().collect::<Vec<_>>())
            .map(|request| async move {
                let found = self.find(&request).await;
                (request.key, found)
            })
            .buffer_unordered(LOOKS_AT_ONCE);
        let mut all = HashMap::new();
        while let Some((key, found)) = looks.next().await {
            all.insert(key, found?);
        }
        for request in requests {
            if let Some(etag) = listed.get(&request.key) {
                all.insert(request.key.clone(), Found::of(request, Some(etag)));
            }
        }
        Ok(all)
    }

    /// Versions of what lies below the longest prefix of these keys.
    async fn list_around(
        &self,
        requests: &[DeleteRequest],
    ) -> Result<HashMap<Key, ETag>, StoreError> {
        let mut listed = HashMap::new();
        let keys = || requests.iter().map(|request| request.key.as_str());
        let (Some(first), Some(last)) = (keys().min(), keys().max()) else {
            return Ok(listed);
        };
        let prefix = common_prefix(first, last);
        let mut token = None;
        for _ in 0..LOOK_PAGES_LIMIT {
            let request = ListRequest::page(prefix, FoldDirectories::No, token);
            let answer = self.store.list(request).await?;
            let objects = answer.objects.into_iter();
            listed.extend(objects.map(|object| (object.key, object.etag)));
            token = answer.next;
            if token.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    /// Deletes in bulk what is still the wanted version right before.
    async fn delete_after_look(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let (on_condition, always): (Vec<_>, Vec<_>) = requests
            .into_iter()
            .partition(|request| request.if_match.is_some());
        let op = StoreOp::DeleteMany;
        let ask = |key: Key| async move { self.current(&key).await.map(drop) };
        self.late.wait_before_all(op, &on_condition, ask).await?;
        let found = self.find_all(&on_condition).await?;
        let mut failed = Vec::new();
        let mut send = always;
        for request in on_condition {
            match found.get(&request.key) {
                Some(Found::Wanted) => send.push(request),
                Some(Found::Another) | None => {
                    let error = StoreError::another_version(op, &request.key);
                    failed.push((request.key, error));
                }
                Some(Found::Nothing) => {}
            }
        }
        if !send.is_empty() {
            failed.extend(self.send_many_ok_if_missing(send).await?);
        }
        Ok(failed)
    }
}

impl Found {
    fn of(request: &DeleteRequest, current: Option<&ETag>) -> Self {
        match (current, &request.if_match) {
            (None, _) => Self::Nothing,
            (Some(current), Some(wanted)) if current != wanted => Self::Another,
            (Some(_), _) => Self::Wanted,
        }
    }
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let mut end = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !a.is_char_boundary(end) {
        end -= 1;
    }
    a.get(..end).unwrap_or_default()
}

#[async_trait]
impl ObjectStore for Conditional {
    async fn head(&self, request: HeadRequest) -> Result<ObjectMeta, StoreError> {
        self.store.head(request).await
    }

    async fn checksums(&self, key: Key) -> Result<ObjectChecksums, StoreError> {
        self.store.checksums(key).await
    }

    async fn get(&self, request: GetRequest) -> Result<GetAnswer, StoreError> {
        self.store.get(request).await
    }

    async fn tags(&self, key: Key) -> Result<Option<String>, StoreError> {
        self.store.tags(key).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutAnswer, StoreError> {
        let send = || self.store.put(request.clone());
        let place = (&request.key, &request.condition);
        self.change(StoreOp::Put, &request, place, send).await
    }

    async fn copy(&self, request: CopyRequest) -> Result<PutAnswer, StoreError> {
        if self.abilities().leaves_out_copies_of(&request.source) {
            let (kind, op) = (StoreErrorKind::Unsupported, StoreOp::Copy);
            let why = "this store has no CopyObject";
            return Err(StoreError::new(kind, op, request.target, why));
        }
        let send = || self.store.copy(request.clone());
        let place = (&request.target, &request.condition);
        let answer = self.change(StoreOp::Copy, &request, place, send).await;
        match &answer {
            Ok(_) => self.abilities().takes_copies(),
            Err(error) if error.lacks_copy_object() => {
                self.abilities().refuses_copy(error, &request.source);
            }
            Err(_) => {}
        }
        answer
    }

    async fn delete(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let condition = request.condition();
        let send = || self.store.delete(request.clone());
        let place = (&request.key, &condition);
        let sent = self.change(StoreOp::Delete, &request, place, send);
        match sent.await {
            Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                self.ok_if_missing(StoreError {
                    key: request.key,
                    ..error
                })
                .await
            }
            answer => answer,
        }
    }

    async fn delete_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        if self.abilities().get().bulk_deletes == BulkDeletes::Refused {
            return Ok(self.delete_one_by_one(requests).await);
        }
        let ability = self.ability(StoreOp::DeleteMany);
        let conditions = requests.iter().filter(|it| it.if_match.is_some()).count();
        if ability != Ability::Heeded && conditions > 0 {
            let few = requests.len() <= SINGLE_DELETES_LIMIT;
            if few && self.ability(StoreOp::Delete) == Ability::Heeded {
                return Ok(self.delete_one_by_one(requests).await);
            }
            return self.delete_after_look(requests).await;
        }
        self.send_many_ok_if_missing(requests).await
    }

    async fn list(&self, request: ListRequest) -> Result<ListAnswer, StoreError> {
        self.store.list(request).await
    }

    async fn create_multipart(
        &self,
        request: CreateMultipartRequest,
    ) -> Result<UploadId, StoreError> {
        self.store.create_multipart(request).await
    }

    async fn upload_part(&self, request: UploadPartRequest) -> Result<CompletedPart, StoreError> {
        self.store.upload_part(request).await
    }

    async fn upload_part_copy(
        &self,
        request: UploadPartCopyRequest,
    ) -> Result<CompletedPart, StoreError> {
        self.part_copies.copy(request).await
    }

    async fn complete_multipart(
        &self,
        request: CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let send = || self.store.complete_multipart(request.clone());
        let place = (&request.key, &request.condition);
        self.change(StoreOp::CompleteMultipart, &request, place, send)
            .await
    }

    async fn abort_multipart(&self, key: Key, upload: UploadId) -> Result<(), StoreError> {
        self.store.abort_multipart(key, upload).await
    }

    async fn list_parts(&self, request: ListPartsRequest) -> Result<ListPartsAnswer, StoreError> {
        self.store.list_parts(request).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::memory::Memory;
    use crate::store::{Retry, StoreAbilities, StoreHealth};

    fn over(store: Memory, abilities: StoreAbilities) -> Conditional {
        let abilities = Arc::new(KnownAbilities::new(abilities));
        let (timeout, health) = (Duration::from_secs(30), StoreHealth::default());
        let retry = Retry::new(Arc::new(store), timeout, health);
        let late = LateChanges::new(retry.unanswered().clone(), abilities);
        Conditional::new(Arc::new(retry), late)
    }

    async fn put(
        store: &Conditional,
        key: &str,
        condition: WriteCondition,
    ) -> Result<ETag, StoreErrorKind> {
        let request = PutRequest {
            key: Key::new(key),
            body: bytes::Bytes::from_static(b"x"),
            headers: ObjectHeaders::default(),
            condition,
        };
        let answer = store.put(request).await;
        answer.map(|made| made.etag).map_err(|error| error.kind)
    }

    #[tokio::test]
    async fn what_the_store_does_not_heed_is_compared_before() {
        for abilities in [StoreAbilities::NO_CONDITIONS, StoreAbilities::default()] {
            let store = over(Memory::without_conditions(), abilities);
            let etag = put(&store, "k", WriteCondition::IfAbsent).await.unwrap();
            let refused = Err(StoreErrorKind::PreconditionFailed);
            assert_eq!(put(&store, "k", WriteCondition::IfAbsent).await, refused);
            let other = WriteCondition::IfMatch(ETag::new("other"));
            assert_eq!(put(&store, "k", other.clone()).await, refused);
            let copy = CopyRequest {
                source: Key::new("k"),
                source_if_match: None,
                size_bytes: 1,
                target: Key::new("k"),
                condition: other,
                replace_headers: None,
                placement: crate::store::Placement::default(),
            };
            assert!(store.copy(copy).await.is_err());
            let delete = |etag: ETag| DeleteRequest {
                key: Key::new("k"),
                if_match: Some(etag),
            };
            assert!(store.delete(delete(ETag::new("other"))).await.is_err());
            store.delete(delete(etag.clone())).await.unwrap();
            store.delete(delete(etag)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_bulk_delete_leaves_other_versions_and_takes_the_rest() {
        for (store, abilities) in [
            (Memory::default(), StoreAbilities::ALL),
            (Memory::without_conditions(), StoreAbilities::NO_CONDITIONS),
            (Memory::without_conditions(), StoreAbilities::default()),
        ] {
            let store = over(store, abilities);
            let mut requests = Vec::new();
            for number in 0..40 {
                let key = format!("d/{number}");
                let etag = put(&store, &key, WriteCondition::Always).await.unwrap();
                requests.push(DeleteRequest {
                    key: Key::new(key),
                    if_match: Some(etag),
                });
            }
            put(&store, "d/7", WriteCondition::Always).await.unwrap();
            store
                .delete(DeleteRequest::any(Key::new("d/8")))
                .await
                .unwrap();
            let failed = store.delete_many(requests).await.unwrap();
            let failed: Vec<_> = failed
                .iter()
                .map(|(key, error)| (key.as_str(), error.kind))
                .collect();
            assert_eq!(failed, [("d/7", StoreErrorKind::PreconditionFailed)]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_between_the_look_and_the_change() {
        let memory = Arc::new(Memory::without_conditions());
        let retry = Retry::new(
            memory.clone(),
            Duration::from_secs(30),
            StoreHealth::default(),
        );
        let abilities = Arc::new(KnownAbilities::new(StoreAbilities::NO_CONDITIONS));
        let late = LateChanges::new(retry.unanswered().clone(), abilities);
        let store = Conditional::new(Arc::new(retry), late.clone());
        for in_bulk in [false, true] {
            let always = WriteCondition::Always;
            let if_match = Some(put(&store, "k", always.clone()).await.unwrap());
            let key = Key::new("k");
            late.note(StoreOp::Put, &key, always.clone());
            let request = DeleteRequest { key, if_match };
            let deleted = async {
                match in_bulk {
                    false => store.delete(request).await.map_err(|error| error.kind),
                    true => {
                        let failed = store.delete_many(vec![request]).await.unwrap();
                        failed
                            .into_iter()
                            .next()
                            .map_or(Ok(()), |(_, error)| Err(error.kind))
                    }
                }
            };
            let by_another = async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let request = PutRequest {
                    key: Key::new("k"),
                    body: bytes::Bytes::from_static(b"of another client"),
                    headers: ObjectHeaders::default(),
                    condition: always,
                };
                memory.put(request).await.unwrap();
            };
            let (deleted, ()) = tokio::join!(deleted, by_another);
            assert_eq!(
                deleted,
                Err(StoreErrorKind::PreconditionFailed),
                "{in_bulk}"
            );
        }
    }

    #[test]
    fn the_common_prefix_ends_between_characters() {
        assert_eq!(common_prefix("d/ä", "d/ö"), "d/");
        assert_eq!(common_prefix("d/a", "d/a"), "d/a");
        assert_eq!(common_prefix("a", "b"), "");
    }
}
