//! Changes that were sent and not answered: the store may still carry them out.
//!
//! Conditions refuse a late change of another version. They cannot refuse one
//! whose version has come back: S3 names versions by their bytes, and a name that
//! was absent is absent again after a delete. What brings such a version back,
//! and every change of a key that an unconditional one may still reach, waits.
//!
//! A log has each change from before it is sent until it is answered, or until it
//! cannot come any more: the successor of a daemon that was killed waits as well.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use md5::{Digest, Md5};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::abilities::{Ability, KnownAbilities};
use super::request::{CopyRequest, DeleteRequest, PutRequest};
use super::{ETag, Key, StoreOp, WriteCondition};
use crate::task::caught_now;

/// Longest time after the end of its connection in which a request is still carried out.
pub const LATE_LIMIT: Duration = Duration::from_secs(5);
/// Keys that are remembered; with more, every key counts.
const KEYS_LIMIT: usize = 10_000;
/// Of a longer body, two requests are not compared.
const COMPARED_LIMIT_BYTES: usize = 64 << 10;

/// What a change leaves under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    Nothing,
    /// Its ETag, where that is known before.
    Version(Option<ETag>),
}

/// Names all that a change leaves under its key: one that comes late undoes none
/// that leaves the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome(u64);

impl Outcome {
    const NOTHING: Self = Self(0);

    fn of(what: &dyn fmt::Debug) -> Self {
        let md5: [u8; 16] = Md5::digest(format!("{what:?}")).into();
        let [a, b, c, d, e, f, g, h, ..] = md5;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1)
    }
}

/// A change that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub key: Key,
    pub condition: WriteCondition,
    /// Absent where it is not known.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

impl Change {
    pub fn new(key: Key, condition: WriteCondition) -> Self {
        let outcome = None;
        Self {
            key,
            condition,
            outcome,
        }
    }
}

impl From<&PutRequest> for Change {
    fn from(put: &PutRequest) -> Self {
        let outcome = (put.body.len() <= COMPARED_LIMIT_BYTES)
            .then(|| Outcome::of(&(ETag::of_bytes(&put.body), &put.headers)));
        Self {
            outcome,
            ..Self::new(put.key.clone(), put.condition.clone())
        }
    }
}

impl From<&CopyRequest> for Change {
    fn from(copy: &CopyRequest) -> Self {
        let what = (&copy.source_if_match, &copy.replace_headers);
        let is_known = copy.source_if_match.is_some() && copy.replace_headers.is_some();
        Self {
            outcome: is_known.then(|| Outcome::of(&what)),
            ..Self::new(copy.target.clone(), copy.condition.clone())
        }
    }
}

impl From<&DeleteRequest> for Change {
    fn from(delete: &DeleteRequest) -> Self {
        Self {
            outcome: Some(Outcome::NOTHING),
            ..Self::new(delete.key.clone(), delete.condition())
        }
    }
}

/// Remembers for the successor what the store may still carry out.
pub trait ChangeLog: Send + Sync + fmt::Debug {
    /// These are about to be sent together. None where the log has no room.
    fn sent(&self, changes: &[Change]) -> Option<u64>;
    fn answered(&self, number: u64);
    /// Their connection has just ended.
    fn given_up(&self, number: u64);
}

/// Shared by who sends requests and by who knows what a predecessor sent.
#[derive(Debug, Default)]
pub struct Unanswered {
    state: Mutex<State>,
    log: OnceLock<Arc<dyn ChangeLog>>,
    /// What is known of the store that the changes go to.
    abilities: OnceLock<Arc<KnownAbilities>>,
}

#[derive(Debug, Default)]
struct State {
    late: HashMap<Key, Vec<Late>>,
    /// Until then every key may have something late.
    any_key: Option<Instant>,
}

#[derive(Debug)]
struct Late {
    condition: WriteCondition,
    outcome: Option<Outcome>,
    until: Instant,
}

impl Unanswered {
    /// From now on only conditions that the store is known to heed count.
    pub fn know(&self, abilities: Arc<KnownAbilities>) {
        if self.abilities.set(abilities).is_err() {
            tracing::debug!("the store's abilities are known already");
        }
    }

    /// The change as a request comes to it: a condition that the store may ignore is none.
    pub fn as_sent(&self, op: StoreOp, change: Change) -> Change {
        match self.abilities.get() {
            Some(abilities) => abilities.as_carried_out(op, change),
            None => change,
        }
    }

    /// A change got no answer: its connection has just ended.
    pub fn note(&self, change: &Change) {
        self.note_for(change, LATE_LIMIT);
    }

    /// The same of one that cannot come any more after this time.
    fn note_for(&self, change: &Change, time: Duration) {
        let now = Instant::now();
        let until = now + time;
        let mut state = self.state.lock();
        if state.late.len() >= KEYS_LIMIT {
            state.late.retain(|_, late| {
                late.retain(|one| one.until > now);
                !late.is_empty()
            });
        }
        if state.late.len() >= KEYS_LIMIT {
            state.any_key = state.any_key.max(Some(until));
            return;
        }
        let late = state.late.entry(change.key.clone()).or_default();
        let same = |one: &Late| one.condition == change.condition && one.outcome == change.outcome;
        late.retain(|one| one.until > now && !(same(one) && one.until <= until));
        late.push(Late {
            condition: change.condition.clone(),
            outcome: change.outcome,
            until,
        });
    }

    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        let state = self.state.lock();
        state.any_key.is_some() || state.late.contains_key(key)
    }

    /// Returns once no late change can undo this one, which leaves this under its key.
    pub async fn landed(&self, change: &Change, leaves: &Leaves) {
        let Some(until) = self.undone_until(change, leaves) else {
            return;
        };
        let key = &change.key;
        tracing::info!(%key, "a change of this key got no answer: waiting until it cannot undo the next one");
        sleep_until(until).await;
    }

    fn undone_until(&self, change: &Change, leaves: &Leaves) -> Option<Instant> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.any_key = state.any_key.filter(|until| *until > now);
        let late = state.late.get_mut(&change.key);
        let of_key = late.and_then(|late| {
            late.retain(|one| one.until > now);
            let undoing = late.iter().filter(|one| one.undoes(change, leaves));
            undoing.map(|one| one.until).max()
        });
        if state.late.get(&change.key).is_some_and(Vec::is_empty) {
            state.late.remove(&change.key);
        }
        of_key.max(state.any_key)
    }
}

impl Late {
    fn undoes(&self, change: &Change, leaves: &Leaves) -> bool {
        if self.outcome.is_some() && self.outcome == change.outcome {
            return false;
        }
        match (&self.condition, leaves) {
            (WriteCondition::Always, _) => true,
            (WriteCondition::IfAbsent, Leaves::Nothing) => true,
            (WriteCondition::IfMatch(late), Leaves::Version(Some(left))) => late == left,
            (WriteCondition::IfAbsent | WriteCondition::IfMatch(_), _) => false,
        }
    }
}

impl KnownAbilities {
    /// A condition counts where the store is known to heed it.
    fn as_carried_out(&self, op: StoreOp, change: Change) -> Change {
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

    /// Has the log told of every change from now on. A predecessor left these, which
    /// cannot come any more after the time beside them.
    pub fn recorded_by(&self, log: Arc<dyn ChangeLog>, left: Vec<(Change, Duration)>) {
        for (change, time) in left {
            self.unanswered.note_for(&change, time);
        }
        if self.unanswered.log.set(log).is_err() {
            tracing::debug!("changes are recorded already");
        }
    }

    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        self.unanswered.has(key)
    }

    /// Returns once no late change can undo a delete of the key.
    pub async fn landed(&self, key: &Key) {
        let delete = Change::from(&DeleteRequest::any(key.clone()));
        self.unanswered.landed(&delete, &Leaves::Nothing).await;
    }

    pub fn abilities(&self) -> &KnownAbilities {
        &self.abilities
    }
}

/// One attempt at changes. Dropped without an answer, they are noted.
#[derive(Debug)]
pub struct AttemptGuard<'a> {
    unanswered: &'a Unanswered,
    changes: &'a [Change],
    /// What the log calls them.
    number: Option<u64>,
    is_answered: bool,
}

impl<'a> AttemptGuard<'a> {
    pub fn new(unanswered: &'a Unanswered, changes: &'a [Change]) -> Self {
        let log = unanswered.log.get().filter(|_| !changes.is_empty());
        Self {
            unanswered,
            changes,
            number: log.and_then(|log| caught_now("note a request", || log.sent(changes)).ok()?),
            is_answered: false,
        }
    }

    pub fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        let log = self.unanswered.log.get().zip(self.number);
        if !self.is_answered {
            for change in self.changes {
                self.unanswered.note(change);
            }
        }
        let Some((log, number)) = log else {
            return;
        };
        let noted = caught_now("note a request", || {
            if self.is_answered {
                log.answered(number);
            } else {
                log.given_up(number);
            }
        });
        // Then a successor waits for what cannot come any more.
        let (Ok(()) | Err(_)) = noted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreAbilities;

    async fn waited(unanswered: &Unanswered, key: &str, leaves: Leaves) -> Duration {
        let began = Instant::now();
        let change = Change::new(Key::new(key), WriteCondition::Always);
        unanswered.landed(&change, &leaves).await;
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
            unanswered.note(&Change::new(key.clone(), late));
            assert!(waited(&unanswered, "other", leaves.clone()).await.is_zero());
            let waited = waited(&unanswered, "k", leaves).await;
            assert_eq!(!waited.is_zero(), waits, "{case}");
            assert!(waited <= LATE_LIMIT + Duration::from_millis(2), "{case}");
            tokio::time::advance(LATE_LIMIT).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_the_store_is_not_known_to_heed_refuses_no_late_change() {
        let (all, none) = (StoreAbilities::ALL, StoreAbilities::default());
        for (known, waits) in [(all, false), (none, true)] {
            for of_predecessor in [false, true] {
                let unanswered = Arc::<Unanswered>::default();
                let abilities = Arc::new(KnownAbilities::new(known));
                let late = LateChanges::new(unanswered.clone(), abilities);
                let (key, condition) = (Key::new("k"), WriteCondition::IfMatch(ETag::new("1")));
                if of_predecessor {
                    late.note(StoreOp::Put, &key, condition);
                } else {
                    let sent = unanswered.as_sent(StoreOp::Put, Change::new(key, condition));
                    drop(AttemptGuard::new(&unanswered, &[sent]));
                }
                let waited = waited(&unanswered, "k", version("2")).await;
                assert_eq!(!waited.is_zero(), waits, "{known:?} {of_predecessor}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_given_up_counts_and_an_answered_one_does_not() {
        let unanswered = Unanswered::default();
        let changes = [Change::new(Key::new("k"), WriteCondition::Always)];
        AttemptGuard::new(&unanswered, &changes).answered();
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
        drop(AttemptGuard::new(&unanswered, &changes));
        assert!(!waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn with_more_than_are_remembered_every_key_waits() {
        let unanswered = Unanswered::default();
        for number in 0..=KEYS_LIMIT {
            let key = Key::new(number.to_string());
            unanswered.note(&Change::new(key, WriteCondition::IfAbsent));
        }
        assert!(!waited(&unanswered, "other", version("1")).await.is_zero());
        assert!(waited(&unanswered, "other", version("1")).await.is_zero());
    }
}
