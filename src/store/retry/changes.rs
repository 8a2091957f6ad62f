//! What is looked at before a change is sent.
//!
//! A condition that the store does not know is left out, and what is there is looked at right
//! before each attempt, as a store that heeds the condition does by itself. The caller finds
//! its own change, or another client's.

use futures::stream::{self, StreamExt};

use super::step::{Step, Turn};
use super::{Request, Retry};
use crate::store::abilities::Ability;
use crate::store::request::*;
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp, if_there};

/// Objects of a bulk delete that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

type LookedAt<S, T> = Result<Step<S, T>, StoreError>;
type FailedDeletes = Vec<(Key, StoreError)>;

/// What was found before a change.
#[derive(Debug)]
enum Found {
    /// The store compares by itself, or there is no condition.
    NotLooked,
    Object(Box<ObjectMeta>),
    Nothing,
}

impl Retry {
    pub(super) async fn look_before_put(
        &self,
        turn: Turn,
        request: &PutRequest,
    ) -> LookedAt<PutRequest, PutAnswer> {
        let condition = self.as_the_store_takes(StoreOp::Put, &request.condition);
        self.check(
            StoreOp::Put,
            (turn, &request.key),
            &request.condition,
            &condition,
        )
        .await?;
        Ok(Step::Send(PutRequest {
            condition,
            ..request.clone()
        }))
    }

    pub(super) async fn look_before_copy(
        &self,
        turn: Turn,
        request: &CopyRequest,
    ) -> LookedAt<CopyRequest, PutAnswer> {
        let condition = self.as_the_store_takes(StoreOp::Copy, &request.condition);
        let place = (turn, &request.target);
        let found = self
            .check(StoreOp::Copy, place, &request.condition, &condition)
            .await?;
        // A copy onto itself leaves the version that its condition names.
        if let (Turn::Again, Found::Object(there)) = (turn, found)
            && is_made(request, &there)
        {
            return Ok(Step::Done(PutAnswer { etag: there.etag }));
        }
        Ok(Step::Send(CopyRequest {
            condition,
            ..request.clone()
        }))
    }

    pub(super) async fn look_before_complete(
        &self,
        turn: Turn,
        request: &CompleteMultipartRequest,
    ) -> LookedAt<CompleteMultipartRequest, PutAnswer> {
        let op = StoreOp::CompleteMultipart;
        let condition = self.as_the_store_takes(op, &request.condition);
        self.check(op, (turn, &request.key), &request.condition, &condition)
            .await?;
        Ok(Step::Send(CompleteMultipartRequest {
            condition,
            ..request.clone()
        }))
    }

    /// Of several deletes what is there was listed before the first turn.
    pub(super) async fn look_before_delete(
        &self,
        op: StoreOp,
        turn: Turn,
        request: &DeleteRequest,
    ) -> LookedAt<DeleteRequest, ()> {
        let asked = request.condition();
        let condition = self.as_the_store_takes(op, &asked);
        let is_listed = op == StoreOp::DeleteMany && turn == Turn::First;
        if !is_listed
            && let Found::Nothing = self
                .check(op, (turn, &request.key), &asked, &condition)
                .await?
        {
            return Ok(Step::Done(()));
        }
        Ok(Step::Send(match condition {
            WriteCondition::Always => DeleteRequest::any(request.key.clone()),
            WriteCondition::IfAbsent | WriteCondition::IfMatch(_) => request.clone(),
        }))
    }

    /// The same of several: which are still to be sent, and which another version refuses.
    pub(super) async fn look_before_deletes(
        &self,
        turn: Turn,
        requests: &[DeleteRequest],
    ) -> Result<(Step<Vec<DeleteRequest>, FailedDeletes>, FailedDeletes), StoreError> {
        let op = StoreOp::DeleteMany;
        let looks = stream::iter(requests.to_vec()).map(|request| async move {
            let looked = self.look_before_delete(op, turn, &request).await;
            (request.key, looked)
        });
        let mut looks = looks.buffered(LOOKS_AT_ONCE);
        let (mut send, mut refused) = (Vec::new(), Vec::new());
        while let Some((key, looked)) = looks.next().await {
            match looked {
                Ok(Step::Send(delete)) => send.push(delete),
                Ok(Step::Done(())) => {}
                Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {
                    refused.push((key, error));
                }
                Err(error) => return Err(error),
            }
        }
        let step = match send.is_empty() {
            true => Step::Done(Vec::new()),
            false => Step::Send(send),
        };
        Ok((step, refused))
    }

    /// Looks at what is there, where the condition that was asked for is not sent, and where
    /// one that the store may not heed is sent again.
    ///
    /// Errors: `PreconditionFailed` where it does not hold any more, by what an attempt before
    /// has done or by another client.
    async fn check(
        &self,
        op: StoreOp,
        (turn, key): (Turn, &Key),
        asked: &WriteCondition,
        sent: &WriteCondition,
    ) -> Result<Found, StoreError> {
        let is_unknown = self.unanswered.ability(op) == Some(Ability::Unknown);
        if asked == sent && !(is_unknown && turn == Turn::Again && *asked != WriteCondition::Always)
        {
            return Ok(Found::NotLooked);
        }
        let request = Request {
            op: StoreOp::Head,
            key: key.clone(),
            body_bytes: 0,
            changes: &[],
        };
        let ask = || self.store.head(HeadRequest { key: key.clone() });
        let asking = self.heads.run(ask(), ask);
        let limit = self.attempt_limit();
        let there = if_there(self.attempt(&request, 1, limit, asking).await)?;
        match (op, there) {
            (StoreOp::Delete | StoreOp::DeleteMany, None) => Ok(Found::Nothing),
            (_, there) if !asked.holds(there.as_ref().map(|there| &there.etag)) => {
                Err(StoreError::another_version(op, key))
            }
            (_, None) => Ok(Found::Nothing),
            (_, Some(there)) => Ok(Found::Object(Box::new(there))),
        }
    }

    /// The condition as the store is to see it.
    fn as_the_store_takes(&self, op: StoreOp, condition: &WriteCondition) -> WriteCondition {
        match self.unanswered.ability(op) {
            Some(Ability::Missing) => WriteCondition::Always,
            Some(Ability::Heeded | Ability::Unknown) | None => condition.clone(),
        }
    }
}

/// Whether what is there is what a copy onto itself makes, as far as a store tells. What is
/// found at another key may be another object with the same bytes.
fn is_made(copy: &CopyRequest, there: &ObjectMeta) -> bool {
    let has_bytes =
        copy.source_if_match.as_ref() == Some(&there.etag) && copy.size_bytes == there.size_bytes;
    // Tags are asked for by themselves, and of where it lies a store tells its own defaults.
    let told = |headers: &ObjectHeaders| ObjectHeaders {
        tags: None,
        placement: Placement::default(),
        ..headers.clone()
    };
    let wanted = copy.replace_headers.as_ref();
    let has_headers = wanted.is_some_and(|wanted| told(wanted) == told(&there.headers));
    copy.source == copy.target && has_bytes && has_headers
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        Conditional, ETag, KnownAbilities, LateChanges, ObjectStore, StoreAbilities, StoreHealth,
        UserMetadata,
    };

    /// Longer than one attempt waits.
    const LOST: Duration = Duration::from_secs(20);

    /// A store that heeds no condition, and what sends to it.
    fn below() -> (Arc<Faulty>, Retry, LateChanges) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::without_conditions())));
        let health = StoreHealth::default();
        let retry = Retry::new(faulty.clone(), Duration::from_secs(30), health);
        let abilities = Arc::new(KnownAbilities::new(StoreAbilities::NO_CONDITIONS));
        let late = LateChanges::new(retry.unanswered().clone(), abilities);
        (faulty, retry, late)
    }

    /// The same, and how it is asked.
    fn stack() -> (Arc<Faulty>, Conditional) {
        let (faulty, retry, late) = below();
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

    async fn complete(
        store: &Conditional,
        key: &str,
        condition: WriteCondition,
    ) -> Result<PutAnswer, StoreError> {
        let key = Key::new(key);
        let create = CreateMultipartRequest {
            key: key.clone(),
            headers: ObjectHeaders::default(),
        };
        let upload = store.create_multipart(create).await?;
        let part = UploadPartRequest {
            key: key.clone(),
            upload: upload.clone(),
            number: PartNumber::new(1).unwrap(),
            body: Bytes::from_static(b"ours").into(),
        };
        let parts = vec![store.upload_part(part).await?];
        let complete = CompleteMultipartRequest {
            key,
            upload,
            parts,
            condition,
        };
        store.complete_multipart(complete).await
    }

    /// The object that a change is about, and what comes of it once it has been sent.
    async fn change(store: &Conditional, op: StoreOp, etag: &ETag) -> Result<(), StoreError> {
        let if_match = Some(etag.clone());
        let free = WriteCondition::IfAbsent;
        match op {
            StoreOp::Put => store.put(put("k", "ours", free)).await.map(drop),
            StoreOp::Copy => store.copy(copy("k", etag, free)).await.map(drop),
            StoreOp::CompleteMultipart => complete(store, "k", free).await.map(drop),
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

    const CHANGES: [(StoreOp, &str); 5] = [
        (StoreOp::Put, "k"),
        (StoreOp::CompleteMultipart, "k"),
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
                // In place of a second bulk delete each object is deleted by itself.
                let is_sent_again = !is_applied && op != StoreOp::DeleteMany;
                assert_eq!(sent, 1 + u64::from(is_sent_again), "{what}");
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
            ..after.clone()
        };
        assert!(!is_made(&request, &longer));
        let cached = ObjectMeta {
            headers: ObjectHeaders {
                cache_control: Some("no-store".to_owned()),
                ..after.headers.clone()
            },
            ..after.clone()
        };
        assert!(!is_made(&request, &cached));
        let of_another = CopyRequest {
            source: Key::new("g"),
            ..request
        };
        assert!(!is_made(&of_another, &after));
    }

    /// The server did nothing, and wished for a long pause.
    #[tokio::test(start_paused = true)]
    async fn a_change_that_is_sent_after_a_pause_replaces_nothing_that_came_meanwhile() {
        for (op, key) in CHANGES {
            let (faulty, store) = stack();
            let etag = faulty.put(put("f", "f", WriteCondition::Always)).await;
            let etag = etag.unwrap().etag;
            let busy = Fault::Before(StoreErrorKind::Throttled);
            for nth in 1..4 {
                faulty.plan(op, faulty.seen(op) + nth, busy);
            }
            let theirs = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                loop {
                    let request = put(key, "theirs", WriteCondition::Always);
                    if let Ok(made) = faulty.put(request).await {
                        break made.etag;
                    }
                }
            };
            let (changed, theirs) = tokio::join!(change(&store, op, &etag), theirs);
            let refused = changed.unwrap_err();
            assert_eq!(refused.kind, StoreErrorKind::PreconditionFailed, "{op}");
            assert!(!refused.maybe_applied, "{op}");
            let key = Key::new(key);
            let there = faulty.head(HeadRequest { key }).await.unwrap();
            assert_eq!(there.etag, theirs, "{op}");
        }
    }

    /// It was taken for heeded when nothing was looked at.
    #[tokio::test(start_paused = true)]
    async fn without_its_condition_no_change_is_sent_that_nobody_has_looked_for() {
        let (faulty, retry, _) = below();
        let etag = faulty.put(put("k", "theirs", WriteCondition::Always)).await;
        let etag = etag.unwrap().etag;
        let request = put("k", "ours", WriteCondition::IfAbsent);
        let refused = retry.put(request).await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::PreconditionFailed);
        let key = Key::new("k");
        let there = faulty.head(HeadRequest { key }).await.unwrap();
        assert_eq!(there.etag, etag);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_bulk_delete_whose_answer_was_lost_each_object_is_looked_at_once() {
        let (faulty, store) = stack();
        let mut deletes = Vec::new();
        for number in 0..100 {
            let request = put(&format!("d/{number}"), "x", WriteCondition::Always);
            let key = request.key.clone();
            let if_match = Some(faulty.put(request).await.unwrap().etag);
            deletes.push(DeleteRequest { key, if_match });
        }
        faulty.plan(StoreOp::DeleteMany, 1, Fault::Late(LOST));
        assert!(store.delete_many(deletes).await.unwrap().is_empty());
        assert_eq!(faulty.seen(StoreOp::Head), 100);
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 1);
    }

    /// The change was lost, and then the look.
    #[tokio::test(start_paused = true)]
    async fn a_look_without_an_answer_is_no_change_that_may_come_late() {
        let (faulty, retry, late) = below();
        for nth in 1..9 {
            faulty.plan(StoreOp::Head, nth, Fault::Stall);
        }
        let request = put("k", "ours", WriteCondition::IfAbsent);
        retry.put(request).await.unwrap_err();
        assert_eq!(faulty.seen(StoreOp::Put), 0);
        assert!(!late.has(&Key::new("k")));
    }
}
