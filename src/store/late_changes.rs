//! What a daemon can rely on against changes that its predecessor sent, or its own.

use std::sync::Arc;

use super::abilities::{Ability, KnownAbilities};
use super::change::{Change, Leaves, Outcome};
use super::request::DeleteRequest;
use super::unanswered::{ChangeLog, LeftByPredecessor, Unanswered};
use super::{Key, StoreError, StoreOp, WriteCondition};

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
    pub async fn landed<F: Future<Output = Result<(), StoreError>>>(
        &self,
        key: &Key,
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        let delete = DeleteRequest::any(key.clone());
        let op = StoreOp::Delete;
        self.landed_before(op, key, &delete, ask).await
    }

    /// The same before a request that changes the key.
    pub(super) async fn landed_before<R, F>(
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
        self.unanswered.landed(op, what, |_| ask()).await
    }

    /// The same before several deletes, which wait together.
    pub(super) async fn landed_before_all<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        deletes: &[DeleteRequest],
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        let changes: Vec<Change> = deletes.iter().map(Change::from).collect();
        let what = (changes.as_slice(), &Leaves::Nothing);
        self.unanswered.landed(op, what, ask).await
    }

    /// Returns once no request of a predecessor can be carried out any more for these keys
    /// or below them.
    ///
    /// Errors: `TimedOut` where the store does not answer what `ask` sends.
    pub async fn predecessor_landed<F: Future<Output = Result<(), StoreError>>>(
        &self,
        places: &[Key],
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        self.unanswered.predecessor_landed(places, ask).await
    }

    pub fn abilities(&self) -> &KnownAbilities {
        &self.abilities
    }
}
