//! One attempt at a change.
//!
//! A condition that the store does not know is left out. Where a change with one may have
//! been carried out, what is there is looked at before it is sent again, as a store that
//! heeds the condition does by itself: the caller finds its own change, or another client's.

use futures::stream::{self, StreamExt};

use super::{Before, Retry};
use crate::store::abilities::Ability;
use crate::store::request::*;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

/// Objects of a bulk delete that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

impl Before {
    pub(super) fn of(maybe_applied: bool) -> Self {
        match maybe_applied {
            true => Self::MaybeApplied,
            false => Self::NotSent,
        }
    }
}

impl Retry {
    pub(super) async fn attempt_put(
        &self,
        before: Before,
        request: &PutRequest,
    ) -> Result<PutAnswer, StoreError> {
        let (op, condition) = (StoreOp::Put, &request.condition);
        self.look_again(op, before, (&request.key, condition))
            .await?;
        let condition = self.seen(op, condition);
        let sent = PutRequest {
            condition,
            ..request.clone()
        };
        self.store.put(sent).await
    }

    pub(super) async fn attempt_copy(
        &self,
        before: Before,
        request: &CopyRequest,
    ) -> Result<PutAnswer, StoreError> {
        let (op, condition) = (StoreOp::Copy, &request.condition);
        let there = self
            .look_again(op, before, (&request.target, condition))
            .await?;
        // A copy onto itself leaves the version that its condition names.
        if let Some(there) = there.filter(|there| is_made(request, there)) {
            return Ok(PutAnswer { etag: there.etag });
        }
        let condition = self.seen(op, condition);
        let sent = CopyRequest {
            condition,
            ..request.clone()
        };
        self.store.copy(sent).await
    }

    pub(super) async fn attempt_complete(
        &self,
        before: Before,
        request: &CompleteMultipartRequest,
    ) -> Result<PutAnswer, StoreError> {
        let (op, condition) = (StoreOp::CompleteMultipart, &request.condition);
        self.look_again(op, before, (&request.key, condition))
            .await?;
        let condition = self.seen(op, condition);
        let sent = CompleteMultipartRequest {
            condition,
            ..request.clone()
        };
        self.store.complete_multipart(sent).await
    }

    pub(super) async fn attempt_delete(
        &self,
        before: Before,
        request: &DeleteRequest,
    ) -> Result<(), StoreError> {
        let (op, condition) = (StoreOp::Delete, request.condition());
        self.look_again(op, before, (&request.key, &condition))
            .await?;
        self.store.delete(self.seen_delete(op, request)).await
    }

    pub(super) async fn attempt_delete_many(
        &self,
        before: Before,
        requests: &[DeleteRequest],
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let (send, mut failed) = self.look_at_all(before, requests).await?;
        if !send.is_empty() {
            failed.extend(self.store.delete_many(send).await?);
        }
        Ok(failed)
    }

    /// What is there, before a change is sent again whose condition the store may not heed.
    ///
    /// Errors: `PreconditionFailed` where the condition does not hold any more, by what an
    /// attempt before has done or by another client.
    async fn look_again(
        &self,
        op: StoreOp,
        before: Before,
        (key, condition): (&Key, &WriteCondition),
    ) -> Result<Option<ObjectMeta>, StoreError> {
        let is_heeded = matches!(self.unanswered.ability(op), None | Some(Ability::Heeded));
        if before == Before::NotSent || is_heeded || *condition == WriteCondition::Always {
            return Ok(None);
        }
        let there = match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(there) => Some(there),
            Err(error) if error.kind == StoreErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        match condition.holds(there.as_ref().map(|there| &there.etag)) {
            true => Ok(there),
            false => Err(StoreError::another_version(op, key)),
        }
    }

    /// The same of several deletes: which are still to be sent, and which are refused.
    async fn look_at_all(
        &self,
        before: Before,
        requests: &[DeleteRequest],
    ) -> Result<(Vec<DeleteRequest>, Vec<(Key, StoreError)>), StoreError> {
        let op = StoreOp::DeleteMany;
        let looks = stream::iter(requests.to_vec()).map(|request| async move {
            let condition = request.condition();
            let place = (&request.key, &condition);
            let looked = self.look_again(op, before, place).await;
            (request, looked)
        });
        let mut looks = looks.buffered(LOOKS_AT_ONCE);
        let (mut send, mut refused) = (Vec::new(), Vec::new());
        while let Some((request, looked)) = looks.next().await {
            match looked {
                Ok(_) => send.push(self.seen_delete(op, &request)),
                Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                    refused.push((request.key, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((send, refused))
    }

    /// The condition as the store is to see it.
    fn seen(&self, op: StoreOp, condition: &WriteCondition) -> WriteCondition {
        match self.unanswered.ability(op) {
            Some(Ability::Missing) => WriteCondition::Always,
            Some(Ability::Heeded | Ability::Unknown) | None => condition.clone(),
        }
    }

    /// A delete as the store is to see it.
    fn seen_delete(&self, op: StoreOp, delete: &DeleteRequest) -> DeleteRequest {
        match self.seen(op, &delete.condition()) {
            WriteCondition::Always => DeleteRequest::any(delete.key.clone()),
            WriteCondition::IfAbsent | WriteCondition::IfMatch(_) => delete.clone(),
        }
    }
}

/// Whether what is there is what the copy makes, as far as a store tells.
fn is_made(copy: &CopyRequest, there: &ObjectMeta) -> bool {
    let has_bytes =
        copy.source_if_match.as_ref() == Some(&there.etag) && copy.size_bytes == there.size_bytes;
    let told =
        |headers: &ObjectHeaders| (headers.user_metadata.clone(), headers.content_type.clone());
    let wanted = copy.replace_headers.as_ref();
    has_bytes && wanted.is_none_or(|wanted| told(wanted) == told(&there.headers))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::store::abilities::BulkDeletes;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        Conditional, ETag, KnownAbilities, LateChanges, ObjectStore, StoreAbilities, StoreHealth,
        UserMetadata,
    };

    /// Longer than one attempt waits.
    const LOST: Duration = Duration::from_secs(20);

    /// A store that heeds no condition, and how it is asked.
    fn stack() -> (Arc<Faulty>, Conditional) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::without_conditions())));
        let health = StoreHealth::default();
        let retry = Retry::new(faulty.clone(), Duration::from_secs(30), health);
        let abilities = Arc::new(KnownAbilities::new(StoreAbilities {
            put: Ability::Missing,
            complete: Ability::Missing,
            copy: Ability::Missing,
            delete: Ability::Missing,
            delete_many: Ability::Missing,
            bulk_deletes: BulkDeletes::Taken,
        }));
        let late = LateChanges::new(retry.unanswered().clone(), abilities);
        (faulty, Conditional::new(Arc::new(retry), late))
    }

    fn put(key: &str, body: &'static str, condition: WriteCondition) -> PutRequest {
        PutRequest {
            key: Key::new(key),
            body: Bytes::from_static(body.as_bytes()),
            headers: ObjectHeaders::default(),
            condition,
        }
    }

    fn copy(target: &str, etag: &ETag, condition: WriteCondition) -> CopyRequest {
        CopyRequest {
            source: Key::new("f"),
            source_if_match: Some(etag.clone()),
            size_bytes: 1,
            target: Key::new(target),
            condition,
            replace_headers: None,
            placement: Default::default(),
        }
    }

    /// The object that a change is about, and what comes of it once it has been sent.
    async fn change(store: &Conditional, op: StoreOp, etag: &ETag) -> Result<(), StoreError> {
        let if_match = Some(etag.clone());
        let free = WriteCondition::IfAbsent;
        match op {
            StoreOp::Put => store.put(put("k", "ours", free)).await.map(drop),
            StoreOp::Copy => store.copy(copy("k", etag, free)).await.map(drop),
            StoreOp::Delete => {
                let key = Key::new("f");
                store.delete(DeleteRequest { key, if_match }).await
            }
            _ => {
                let key = Key::new("f");
                let request = DeleteRequest { key, if_match };
                let failed = store.delete_many(vec![request]).await?;
                failed
                    .into_iter()
                    .next()
                    .map_or(Ok(()), |(_, error)| Err(error))
            }
        }
    }

    const CHANGES: [(StoreOp, &str); 4] = [
        (StoreOp::Put, "k"),
        (StoreOp::Copy, "k"),
        (StoreOp::Delete, "f"),
        (StoreOp::DeleteMany, "f"),
    ];

    #[tokio::test(start_paused = true)]
    async fn a_change_whose_answer_was_lost_replaces_nothing_that_another_client_has_put_since() {
        for (op, key) in CHANGES {
            let (faulty, store) = stack();
            let etag = faulty.put(put("f", "f", WriteCondition::Always)).await;
            let etag = etag.unwrap().etag;
            faulty.plan(op, faulty.seen(op) + 1, Fault::Late(LOST));
            let theirs = async {
                tokio::time::sleep(Duration::from_secs(5)).await;
                let request = put(key, "theirs", WriteCondition::Always);
                faulty.put(request).await.unwrap().etag
            };
            let (changed, theirs) = tokio::join!(change(&store, op, &etag), theirs);
            let refused = changed.unwrap_err();
            assert_eq!(refused.kind, StoreErrorKind::PreconditionFailed, "{op}");
            assert!(refused.maybe_applied || op == StoreOp::DeleteMany, "{op}");
            let key = Key::new(key);
            let there = faulty.head(HeadRequest { key }).await.unwrap();
            assert_eq!(there.etag, theirs, "{op}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_whose_answer_was_lost_is_found_and_one_that_was_lost_is_sent_again() {
        for (op, key) in CHANGES {
            for is_applied in [true, false] {
                let (faulty, store) = stack();
                let etag = faulty.put(put("f", "f", WriteCondition::Always)).await;
                let etag = etag.unwrap().etag;
                let before = faulty.seen(op);
                let fault = match is_applied {
                    true => Fault::Late(LOST),
                    false => Fault::Stall,
                };
                faulty.plan(op, before + 1, fault);
                let changed = change(&store, op, &etag).await;
                let sent = faulty.seen(op) - before;
                let what = format!("{op} {is_applied}");
                assert_eq!(sent, if is_applied { 1 } else { 2 }, "{what}");
                match changed {
                    Ok(()) => assert!(!is_applied || key == "f", "{what}"),
                    // Whoever asked finds out that it is its own.
                    Err(error) => assert!(is_applied && error.maybe_applied, "{what} {error}"),
                }
                let key = Key::new(key);
                let there = faulty.head(HeadRequest { key: key.clone() }).await;
                assert_eq!(there.is_ok(), key.as_str() == "k", "{what}");
            }
        }
    }

    /// Its version is the same as before.
    #[tokio::test]
    async fn a_copy_onto_itself_is_told_by_what_is_stored_with_it() {
        let (faulty, _) = stack();
        let etag = faulty.put(put("f", "f", WriteCondition::Always)).await;
        let etag = etag.unwrap().etag;
        let headers = ObjectHeaders {
            user_metadata: UserMetadata::from([("mode".to_owned(), "384".to_owned())]),
            ..ObjectHeaders::default()
        };
        let request = CopyRequest {
            replace_headers: Some(headers.clone()),
            ..copy("f", &etag, WriteCondition::IfMatch(etag.clone()))
        };
        let key = Key::new("f");
        let before = faulty.head(HeadRequest { key }).await.unwrap();
        assert!(!is_made(&request, &before));
        let after = ObjectMeta { headers, ..before };
        assert!(is_made(&request, &after));
        let longer = ObjectMeta {
            size_bytes: 2,
            ..after
        };
        assert!(!is_made(&request, &longer));
    }
}
