//! Changes that were sent and not answered: the store may still carry them out.
//!
//! Conditions refuse a late change of another version. They cannot refuse one
//! whose version has come back: S3 names versions by their bytes, and a name that
//! was absent is absent again after a delete. What brings such a version back,
//! and every change of a key that an unconditional one may still reach, waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::abilities::{Ability, KnownAbilities};
use super::{ETag, Key, StoreOp, WriteCondition};

/// Longest time after the end of its connection in which a request is still carried out.
pub const LATE_LIMIT: Duration = Duration::from_secs(5);
/// Keys that are remembered; with more, every key counts.
const KEYS_LIMIT: usize = 10_000;

/// What a change leaves under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    Nothing,
    /// Its ETag, where that is known before.
    Version(Option<ETag>),
}

/// Shared by who sends requests and by who knows what a predecessor sent.
#[derive(Debug, Default)]
pub struct Unanswered(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    late: HashMap<Key, Vec<Late>>,
    /// Until then every key may have something late.
    any_key: Option<Instant>,
}

#[derive(Debug)]
struct Late {
    condition: WriteCondition,
    until: Instant,
}

impl Unanswered {
    /// A change of the key, on this condition, got no answer: its connection has just ended.
    pub fn note(&self, key: &Key, condition: WriteCondition) {
        let now = Instant::now();
        let until = now + LATE_LIMIT;
        let mut state = self.0.lock();
        if state.late.len() >= KEYS_LIMIT {
            state.late.retain(|_, late| {
                late.retain(|one| one.until > now);
                !late.is_empty()
            });
        }
        if state.late.len() >= KEYS_LIMIT {
            state.any_key = Some(until);
            return;
        }
        let late = state.late.entry(key.clone()).or_default();
        late.retain(|one| one.until > now && one.condition != condition);
        late.push(Late { condition, until });
    }

    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        let state = self.0.lock();
        state.any_key.is_some() || state.late.contains_key(key)
    }

    /// Returns once no late change can undo one that leaves this under the key.
    pub async fn landed(&self, key: &Key, leaves: &Leaves) {
        let Some(until) = self.undone_until(key, leaves) else {
            return;
        };
        tracing::info!(%key, "a change of this key got no answer: waiting until it cannot undo the next one");
        sleep_until(until).await;
    }

    fn undone_until(&self, key: &Key, leaves: &Leaves) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.0.lock();
        state.any_key = state.any_key.filter(|until| *until > now);
        let late = state.late.get_mut(key);
        let of_key = late.and_then(|late| {
            late.retain(|one| one.until > now);
            let undoing = late.iter().filter(|one| one.undoes(leaves));
            undoing.map(|one| one.until).max()
        });
        if state.late.get(key).is_some_and(Vec::is_empty) {
            state.late.remove(key);
        }
        of_key.max(state.any_key)
    }
}

impl Late {
    fn undoes(&self, leaves: &Leaves) -> bool {
        match (&self.condition, leaves) {
            (WriteCondition::Always, _) => true,
            (WriteCondition::IfAbsent, Leaves::Nothing) => true,
            (WriteCondition::IfMatch(late), Leaves::Version(Some(left))) => late == left,
            (WriteCondition::IfAbsent | WriteCondition::IfMatch(_), _) => false,
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
        Self {
            unanswered,
            abilities,
        }
    }

    /// A predecessor may have sent this change, which ended with it.
    pub fn note(&self, op: StoreOp, key: &Key, condition: WriteCondition) {
        let condition = match self.abilities.get().of(op) {
            Ability::Missing => WriteCondition::Always,
            Ability::Heeded | Ability::Unknown => condition,
        };
        self.unanswered.note(key, condition);
    }

    /// As `Unanswered::landed`.
    pub async fn landed(&self, key: &Key, leaves: &Leaves) {
        self.unanswered.landed(key, leaves).await;
    }

    pub fn abilities(&self) -> &KnownAbilities {
        &self.abilities
    }
}

/// One attempt at a change. Dropped without an answer, it is noted.
#[derive(Debug)]
pub struct AttemptGuard<'a> {
    /// None once it was answered.
    late: Option<(&'a Unanswered, Vec<(Key, WriteCondition)>)>,
}

impl<'a> AttemptGuard<'a> {
    pub fn new(unanswered: &'a Unanswered, changes: &[(Key, WriteCondition)]) -> Self {
        Self {
            late: Some((unanswered, changes.to_vec())),
        }
    }

    pub fn answered(mut self) {
        self.late = None;
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        if let Some((unanswered, changes)) = self.late.take() {
            for (key, condition) in changes {
                unanswered.note(&key, condition);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn waited(unanswered: &Unanswered, key: &str, leaves: Leaves) -> Duration {
        let began = Instant::now();
        unanswered.landed(&Key::new(key), &leaves).await;
        began.elapsed()
    }

    fn version(etag: &str) -> Leaves {
        Leaves::Version(Some(ETag::new(etag)))
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_a_late_change_could_undo_waits_for_it() {
        let unanswered = Unanswered::default();
        let key = Key::new("k");
        let of_one = WriteCondition::IfMatch(ETag::new("1"));
        for (late, leaves, waits) in [
            (WriteCondition::Always, Leaves::Nothing, true),
            (WriteCondition::Always, version("2"), true),
            (WriteCondition::IfAbsent, Leaves::Nothing, true),
            (WriteCondition::IfAbsent, version("2"), false),
            (of_one.clone(), Leaves::Nothing, false),
            (of_one.clone(), version("2"), false),
            (of_one.clone(), Leaves::Version(None), false),
            (of_one, version("1"), true),
        ] {
            let case = format!("{late:?} {leaves:?}");
            unanswered.note(&key, late);
            assert!(waited(&unanswered, "other", leaves.clone()).await.is_zero());
            let waited = waited(&unanswered, "k", leaves).await;
            assert_eq!(!waited.is_zero(), waits, "{case}");
            assert!(waited <= LATE_LIMIT + Duration::from_millis(2), "{case}");
            tokio::time::advance(LATE_LIMIT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_given_up_counts_and_an_answered_one_does_not() {
        let unanswered = Unanswered::default();
        let changes = [(Key::new("k"), WriteCondition::Always)];
        AttemptGuard::new(&unanswered, &changes).answered();
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
        drop(AttemptGuard::new(&unanswered, &changes));
        assert!(!waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn with_more_than_are_remembered_every_key_waits() {
        let unanswered = Unanswered::default();
        for number in 0..=KEYS_LIMIT {
            unanswered.note(&Key::new(number.to_string()), WriteCondition::IfAbsent);
        }
        assert!(!waited(&unanswered, "other", version("1")).await.is_zero());
        assert!(waited(&unanswered, "other", version("1")).await.is_zero());
    }
}
