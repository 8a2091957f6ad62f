//! What a daemon can rely on against changes that its predecessor sent, or its own.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::sleep;

use super::abilities::{Ability, KnownAbilities};
use super::change::{Change, Leaves, Outcome};
use super::request::{DeleteRequest, HeadRequest};
use super::unanswered::{ChangeLog, LeftByPredecessor, Unanswered};
use super::{Key, ObjectStore, StoreError, StoreHealth, StoreOp, WriteCondition};

/// Between turns of questions for keys that nobody else asks for, of so many each.
const UNHEARD_PAUSE: Duration = Duration::from_secs(60);
const UNHEARD_IN_TURN: usize = 256;
const UNHEARD_AT_ONCE: usize = 4;

impl KnownAbilities {
    /// A condition counts where the store is known to heed it.
    pub(super) fn as_carried_out(&self, op: StoreOp, change: Change) -> Change {
        let condition = match self.get().of(op) {
            Ability::Heeded => change.condition,
            Ability::Missing | Ability::Unknown => WriteCondition::Always,
        };
        Change {
            condition,
            ..change
        }
    }
}

/// What a daemon can rely on against changes that its predecessor sent, or its own.
#[derive(Debug, Clone, Default)]
pub struct LateChanges {
    unanswered: Arc<Unanswered>,
    abilities: Arc<KnownAbilities>,
}

impl LateChanges {
    pub fn new(unanswered: Arc<Unanswered>, abilities: Arc<KnownAbilities>) -> Self {
        unanswered.know(abilities.clone());
        Self {
            unanswered,
            abilities,
        }
    }

    /// Nothing is waited for.
    pub fn none(abilities: Arc<KnownAbilities>) -> Self {
        Self::new(Arc::default(), abilities)
    }

    /// A predecessor may have sent this change, which ended with it.
    pub fn note(&self, op: StoreOp, key: &Key, condition: WriteCondition) {
        let outcome = matches!(op, StoreOp::Delete | StoreOp::DeleteMany);
        let change = Change {
            outcome: outcome.then_some(Outcome::NOTHING),
            ..Change::new(key.clone(), condition)
        };
        let change = self.abilities.as_carried_out(op, change);
        self.unanswered.note(&change);
    }

    /// Has the log told of every change from now on.
    pub fn recorded_by(&self, log: Arc<dyn ChangeLog>, left: LeftByPredecessor) {
        self.unanswered.recorded_by(log, left);
    }

    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        self.unanswered.has(key)
    }

    /// Returns once no late change can undo a delete of the key.
    ///
    /// Errors: `TimedOut` where the store does not answer what `ask` sends.
    pub async fn wait_for_late<F: Future<Output = Result<(), StoreError>>>(
        &self,
        key: &Key,
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        let delete = DeleteRequest::any(key.clone());
        let op = StoreOp::Delete;
        self.wait_before(op, key, &delete, ask).await
    }

    /// The same before a request that changes the key.
    pub(super) async fn wait_before<R, F>(
        &self,
        op: StoreOp,
        key: &Key,
        request: &R,
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError>
    where
        for<'a> &'a R: Into<Change> + Into<Leaves>,
        F: Future<Output = Result<(), StoreError>>,
    {
        if !self.has(key) {
            return Ok(());
        }
        let (change, leaves): (Change, Leaves) = (request.into(), request.into());
        let what = (&[change][..], &leaves);
        self.unanswered.wait_for_late(op, what, |_| ask()).await
    }

    /// The same before several deletes, which wait together.
    pub(super) async fn wait_before_all<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        deletes: &[DeleteRequest],
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        let changes: Vec<Change> = deletes.iter().map(Change::from).collect();
        let what = (changes.as_slice(), &Leaves::Nothing);
        self.unanswered.wait_for_late(op, what, ask).await
    }

    /// Returns once no request of a predecessor can be carried out any more for these keys
    /// or below them.
    ///
    /// Errors: `TimedOut` where the store does not answer what `ask` sends.
    pub async fn wait_for_predecessor<F: Future<Output = Result<(), StoreError>>>(
        &self,
        places: &[Key],
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        self.unanswered.wait_for_predecessor(places, ask).await
    }

    /// Asks for keys of requests that were given up, whose callers have gone: they stay in
    /// memory and in the log until the store has answered for them.
    pub async fn ask_for_unheard(self, store: Arc<dyn ObjectStore>, health: StoreHealth) {
        let mut last: Option<Key> = None;
        loop {
            sleep(UNHEARD_PAUSE).await;
            health.served().await;
            let keys = self
                .unanswered
                .unheard_after(last.as_ref(), UNHEARD_IN_TURN);
            last = keys.last().cloned();
            let asks = stream::iter(keys).map(|key| store.head(HeadRequest { key }));
            let mut answers = asks.buffer_unordered(UNHEARD_AT_ONCE);
            while let Some(answer) = answers.next().await {
                let found = answer.is_ok();
                tracing::debug!(found, "asked for a key of a request that was given up");
            }
        }
    }

    pub fn abilities(&self) -> &KnownAbilities {
        &self.abilities
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::store::faulty::Faulty;
    use crate::store::memory::Memory;
    use crate::store::{FoldDirectories, LeftUnanswered, ListRequest, Retry};

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<u64>>);

    impl ChangeLog for Log {
        fn sent(&self, _: &[Change]) -> Option<u64> {
            None
        }

        fn answered(&self, _: u64) {}

        fn given_up(&self, number: u64) {
            self.0.lock().push(number);
        }

        fn unknown_over(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_is_asked_for_once_the_store_answers() {
        const REQUESTS: u64 = 300;
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        // One key stays silent, which holds no other up.
        let silent = 7;
        faulty.silence(Some(Key::new(silent.to_string())));
        let health = StoreHealth::default();
        let store = Retry::new(faulty.clone(), Duration::from_secs(30), health.clone());
        let late = LateChanges::new(store.unanswered().clone(), Arc::default());
        let of = |number: u64| LeftUnanswered {
            number,
            changes: vec![Change::new(
                Key::new(number.to_string()),
                WriteCondition::Always,
            )],
            left: None,
        };
        let (log, may_lack_some) = (Arc::<Log>::default(), false);
        let unanswered = (0..REQUESTS).map(of).collect();
        late.recorded_by(
            log.clone(),
            LeftByPredecessor {
                unanswered,
                may_lack_some,
            },
        );
        let page = ListRequest::page("", FoldDirectories::No, None);
        store.list(page.clone()).await.unwrap();
        advance(UNHEARD_PAUSE).await;
        let store = Arc::new(store);
        let mut asking = Box::pin(late.ask_for_unheard(store.clone(), health));
        timeout(UNHEARD_PAUSE * 6, &mut asking).await.unwrap_err();
        let mut told = std::mem::take(&mut *log.0.lock());
        told.sort_unstable();
        let others: Vec<u64> = (0..REQUESTS).filter(|number| *number != silent).collect();
        assert_eq!(told, others);
        faulty.silence(None);
        // As the daemon asks in an outage.
        store.list(page).await.unwrap();
        timeout(UNHEARD_PAUSE * 4, asking).await.unwrap_err();
        assert_eq!(*log.0.lock(), [silent]);
    }
}
