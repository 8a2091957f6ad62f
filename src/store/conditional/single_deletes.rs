//! Bulk deletes where the store has none: objects go one by one.

use std::sync::OnceLock;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use super::Conditional;
use crate::store::abilities::BulkDeletes;
use crate::store::{DeleteRequest, Key, ObjectStore, StoreError, StoreErrorKind};

const AT_ONCE: usize = 16;

/// Whether a gateway that knows no bulk deletes may have failed so.
fn may_lack_bulk_deletes(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::Server
            | StoreErrorKind::Malformed
            | StoreErrorKind::TimedOut
            | StoreErrorKind::Unreachable
    )
}

impl Conditional {
    /// Sends a bulk delete, or deletes one by one where the store refuses that as a whole,
    /// or leaves it without an answer while it answers others.
    pub(super) async fn send_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        if self.abilities().get().bulk_deletes == BulkDeletes::Refused {
            return Ok(self.delete_one_by_one(requests).await);
        }
        let (mut rest, mut failed) = (requests, Vec::new());
        loop {
            let began = Instant::now();
            let error = match self.store.delete_many(rest.clone()).await {
                Ok(of_rest) => {
                    self.abilities().takes_bulk_deletes();
                    failed.extend(of_rest);
                    return Ok(failed);
                }
                Err(error) => error,
            };
            if error.kind.is_refusal_of_bulk() {
                failed.extend(self.after_refusal(rest, &error, began).await);
                return Ok(failed);
            }
            if rest.is_empty() || !may_lack_bulk_deletes(error.kind) {
                return Err(error);
            }
            // One delete tells a store without bulk deletes from an outage.
            let probe = rest.remove(0);
            let key = probe.key.clone();
            match self.delete(probe).await {
                Err(no_answer) if no_answer.kind.is_no_answer() => return Err(error),
                answer => failed.extend(answer.err().map(|error| (key, error))),
            }
            let is_left_out = self.abilities().leaves_bulk_deletes(&error, began);
            // The next one could take as long.
            if is_left_out || error.kind == StoreErrorKind::TimedOut {
                failed.extend(self.delete_one_by_one(rest).await);
                return Ok(failed);
            }
        }
    }

    /// Deletes one by one what the store has refused to delete in bulk.
    async fn after_refusal(
        &self,
        requests: Vec<DeleteRequest>,
        refusal: &StoreError,
        sent: Instant,
    ) -> Vec<(Key, StoreError)> {
        let count = requests.len();
        let failed = self.delete_one_by_one(requests).await;
        let same = failed.iter().filter(|(_, it)| it.kind == refusal.kind);
        // Otherwise it is about the objects, or about all deletes.
        if same.count() < count {
            self.abilities().refuses_bulk_delete(refusal, sent);
        }
        failed
    }

    /// Returns those that failed. Once the store does not serve, none of the rest is sent.
    pub(super) async fn delete_one_by_one(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Vec<(Key, StoreError)> {
        let unserved: OnceLock<StoreError> = OnceLock::new();
        let deletes = stream::iter(requests).map(|request| async {
            let key = request.key.clone();
            if let Some(error) = unserved.get() {
                return Some((key, error.clone()));
            }
            let error = self.delete(request).await.err()?;
            if error.kind.is_no_answer() {
                // Another one may have been first.
                unserved.get_or_init(|| error.clone());
            }
            Some((key, error))
        });
        let deletes = deletes.buffer_unordered(AT_ONCE);
        deletes.filter_map(async |failed| failed).collect().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{
        KnownAbilities, LateChanges, ObjectHeaders, PutRequest, StoreAbilities, StoreErrorKind,
        StoreOp, WriteCondition,
    };

    async fn with_objects(kind: StoreErrorKind) -> (Arc<Faulty>, Conditional, Vec<DeleteRequest>) {
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        for nth in 1..9 {
            faulty.plan(StoreOp::DeleteMany, nth, Fault::Before(kind));
        }
        let abilities = Arc::new(KnownAbilities::new(StoreAbilities::ALL));
        let store = Conditional::new(faulty.clone(), LateChanges::none(abilities));
        let mut requests = Vec::new();
        for number in 0..5 {
            let request = PutRequest {
                key: Key::new(format!("k{number}")),
                body: bytes::Bytes::from_static(b"x"),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
            };
            let if_match = Some(store.put(request.clone()).await.unwrap().etag);
            let key = request.key;
            requests.push(DeleteRequest { key, if_match });
        }
        (faulty, store, requests)
    }

    #[tokio::test]
    async fn without_bulk_deletes_objects_go_one_by_one_and_the_store_is_not_asked_again() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Unsupported).await;
        for _ in 0..3 {
            assert!(
                store
                    .delete_many(requests.clone())
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 1);
    }

    #[tokio::test]
    async fn deletes_that_are_refused_one_by_one_too_say_nothing_of_bulk_deletes() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::AccessDenied).await;
        for nth in 1..6 {
            let refused = Fault::Before(StoreErrorKind::AccessDenied);
            faulty.plan(StoreOp::Delete, nth, refused);
        }
        let failed = store.delete_many(requests.clone()).await.unwrap();
        assert_eq!(failed.len(), 5);
        store.delete_many(requests).await.unwrap();
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 2);
    }

    #[tokio::test]
    async fn refused_by_whatever_code_objects_go_one_by_one() {
        for kind in [
            StoreErrorKind::NotFound,
            StoreErrorKind::Conflict,
            StoreErrorKind::PreconditionFailed,
        ] {
            let (faulty, store, requests) = with_objects(kind).await;
            for of_bulk in [&requests[..3], &requests[3..], &requests] {
                let failed = store.delete_many(of_bulk.to_vec()).await.unwrap();
                assert!(failed.is_empty(), "{kind:?}: {failed:?}");
            }
            assert_eq!(faulty.seen(StoreOp::DeleteMany), 2, "{kind:?}");
        }
    }

    /// A key that XML cannot hold makes its bulk delete one that nobody can read.
    #[tokio::test]
    async fn one_bulk_delete_that_is_refused_says_nothing_of_the_next() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Rejected).await;
        for nth in [2, 4, 6] {
            faulty.plan(StoreOp::DeleteMany, nth, Fault::Twice);
        }
        for of_bulk in requests.iter().chain(&requests).take(7) {
            let bulk = vec![of_bulk.clone()];
            assert!(store.delete_many(bulk).await.unwrap().is_empty());
        }
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 7);
    }

    #[tokio::test]
    async fn after_a_bulk_delete_without_an_answer_in_time_its_objects_go_one_by_one() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::TimedOut).await;
        for of_bulk in [&requests[..2], &requests[2..], &requests] {
            assert!(
                store
                    .delete_many(of_bulk.to_vec())
                    .await
                    .unwrap()
                    .is_empty()
            );
        }
        // One for each until it is known that none is answered.
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 2);
    }

    #[tokio::test]
    async fn left_without_an_answer_twice_while_others_are_answered_objects_go_one_by_one() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Server).await;
        for _ in 0..2 {
            let failed = store.delete_many(requests.clone()).await.unwrap();
            assert!(failed.is_empty(), "{failed:?}");
        }
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 2);
        assert_eq!(faulty.seen(StoreOp::Delete), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn bulk_deletes_without_an_answer_are_tried_again_later() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Server).await;
        store.delete_many(requests.clone()).await.unwrap();
        tokio::time::sleep(crate::store::SKIPPED_FOR).await;
        store.delete_many(requests).await.unwrap();
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 3);
    }

    #[tokio::test]
    async fn in_an_outage_a_bulk_delete_is_followed_by_one_delete() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Unreachable).await;
        let down = Fault::Before(StoreErrorKind::Unreachable);
        for nth in 1..9 {
            faulty.plan(StoreOp::Delete, nth, down);
        }
        for _ in 0..3 {
            assert!(store.delete_many(requests.clone()).await.is_err());
        }
        assert_eq!(faulty.seen(StoreOp::Delete), 3);
        assert_eq!(faulty.seen(StoreOp::DeleteMany), 3);
    }

    #[tokio::test]
    async fn in_an_outage_one_delete_is_asked_for_and_not_each() {
        let (faulty, store, requests) = with_objects(StoreErrorKind::Unsupported).await;
        let (kind, op) = (StoreErrorKind::Unsupported, StoreOp::DeleteMany);
        let refusal = StoreError::new(kind, op, Key::new(""), "none");
        store
            .abilities()
            .refuses_bulk_delete(&refusal, Instant::now());
        let many: Vec<_> = requests.iter().cycle().take(1000).cloned().collect();
        for nth in 1..2000 {
            faulty.plan(StoreOp::Delete, nth, Fault::Before(StoreErrorKind::Server));
        }
        let failed = store.delete_many(many).await.unwrap();
        assert_eq!(failed.len(), 1000);
        assert!(faulty.seen(StoreOp::Delete) <= AT_ONCE as u64);
    }
}
