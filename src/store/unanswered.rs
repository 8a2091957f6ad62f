//! Changes that were sent and not answered: the store may still carry them out.
//!
//! Conditions refuse a late change of another version. They cannot refuse one
//! whose version has come back: S3 names versions by their bytes, and a name that
//! was absent is absent again after a delete. What brings such a version back,
//! and every change of a key that an unconditional one may still reach, waits.
//!
//! A log has each change from before it is sent until it is answered, or until it
//! cannot come any more: the successor of a daemon that was killed waits as well.
//! How long that is: see `late_until`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::abilities::KnownAbilities;
use super::change::{Change, Leaves, Outcome};
use super::late_until::LateUntil;
use super::{Key, StoreError, StoreErrorKind, StoreOp, WriteCondition};
use crate::task::caught_now;

/// Keys that are remembered; with more, every key counts.
const KEYS_LIMIT: usize = 10_000;
/// Changes of one key that are told apart; with more, they are as one that undoes all.
const OF_KEY_LIMIT: usize = 64;
/// Requests of which the log learns when the store has answered since; of more, the
/// time counts from the end of their connection for a successor.
const UNHEARD_LIMIT: usize = 10_000;
/// Times that a store is asked which answers and falls silent again.
const ASK_AGAIN_LIMIT: usize = 8;

/// Remembers for the successor what the store may still carry out.
pub trait ChangeLog: Send + Sync + fmt::Debug {
    /// These are about to be sent together. None where the log has no room.
    fn sent(&self, changes: &[Change]) -> Option<u64>;
    fn answered(&self, number: u64);
    /// Their connection has ended, and the store has answered others since.
    fn given_up(&self, number: u64);
}

/// What a predecessor sent and got no answer to.
#[derive(Debug)]
pub struct LeftUnanswered {
    /// What the log calls them.
    pub number: u64,
    pub changes: Vec<Change>,
    /// How much longer they may come, where the store has answered since.
    pub left: Option<Duration>,
}

/// Shared by who sends requests and by who knows what a predecessor sent.
#[derive(Debug, Default)]
pub struct Unanswered {
    state: Mutex<Remembered>,
    log: OnceLock<Arc<dyn ChangeLog>>,
    /// What is known of the store that the changes go to.
    abilities: OnceLock<Arc<KnownAbilities>>,
}

#[derive(Debug, Default)]
struct Remembered {
    late: HashMap<Key, Vec<Late>>,
    /// Every key may have something late.
    any_key: Option<LateUntil>,
    /// What a predecessor sent, all together.
    predecessor: Option<LateUntil>,
    /// What the log does not have the end of yet: numbers, by what was sent.
    unheard: HashMap<Outcome, (u64, LateUntil)>,
    /// Whether something waits for an answer.
    awaits_answer: bool,
    /// When the last of the requests was sent that were answered.
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Late {
    condition: WriteCondition,
    outcome: Option<Outcome>,
    until: LateUntil,
}

impl Remembered {
    fn each(&mut self) -> impl Iterator<Item = &mut LateUntil> {
        let late = self.late.values_mut().flatten().map(|one| &mut one.until);
        let unheard = self.unheard.values_mut().map(|(_, until)| until);
        let others = self.any_key.iter_mut().chain(&mut self.predecessor);
        late.chain(unheard).chain(others)
    }

    fn heard(&mut self, sent: Instant) -> Vec<u64> {
        self.answered = self.answered.max(Some(sent));
        if !self.awaits_answer {
            return Vec::new();
        }
        let mut awaits_answer = false;
        for until in self.each() {
            until.heard(sent);
            awaits_answer |= until.awaits_answer();
        }
        self.awaits_answer = awaits_answer;
        let heard = self
            .unheard
            .extract_if(|_, (_, until)| !until.awaits_answer());
        heard.map(|(_, (number, _))| number).collect()
    }

    fn silent(&mut self, since: Instant) {
        // One request alone is held up where others were answered meanwhile.
        if self.answered.is_some_and(|answered| answered >= since) {
            return;
        }
        self.each().for_each(|until| until.silent(since));
        self.awaits_answer = true;
    }
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

    /// The store has just answered a request that was sent then.
    pub fn heard(&self, sent: Instant) {
        let heard = self.state.lock().heard(sent);
        for number in heard {
            self.tell(|log| log.given_up(number));
        }
    }

    /// A request that was sent then has got no answer.
    pub fn silent(&self, since: Instant) {
        self.state.lock().silent(since);
    }

    /// A change got no answer: its connection has just ended.
    pub fn note(&self, change: &Change) {
        self.note_until(change, LateUntil::given_up());
    }

    fn note_until(&self, change: &Change, until: LateUntil) {
        let mut state = self.state.lock();
        state.awaits_answer |= until.awaits_answer();
        if state.late.len() >= KEYS_LIMIT {
            state.late.retain(|_, late| {
                late.retain(|one| !one.until.is_over());
                !late.is_empty()
            });
        }
        if state.late.len() >= KEYS_LIMIT {
            state.any_key = state.any_key.max(Some(until));
            return;
        }
        let late = state.late.entry(change.key.clone()).or_default();
        let same = |one: &Late| one.condition == change.condition && one.outcome == change.outcome;
        late.retain(|one| !(one.until.is_over() || same(one) && one.until <= until));
        let is_one_more = late.len() < OF_KEY_LIMIT;
        let (condition, outcome) = match is_one_more {
            true => (change.condition.clone(), change.outcome),
            false => (WriteCondition::Always, None),
        };
        let until = match is_one_more {
            true => until,
            false => late
                .drain(..)
                .map(|one| one.until)
                .fold(until, LateUntil::max),
        };
        late.push(Late {
            condition,
            outcome,
            until,
        });
    }

    /// The log is to learn when the store has answered since these were given up.
    fn note_unheard(&self, number: u64, changes: &[Change]) {
        let mut state = self.state.lock();
        let what = Outcome::of(&changes);
        let is_known = state.unheard.contains_key(&what);
        let replaced = if is_known || state.unheard.len() < UNHEARD_LIMIT {
            state.awaits_answer = true;
            let unheard = (number, LateUntil::given_up());
            state.unheard.insert(what, unheard)
        } else {
            drop(state);
            return self.tell(|log| log.given_up(number));
        };
        drop(state);
        // The same sent again: what counts is the last one.
        if let Some((replaced, _)) = replaced {
            self.tell(|log| log.answered(replaced));
        }
    }

    fn tell(&self, what: impl FnOnce(&dyn ChangeLog)) {
        let Some(log) = self.log.get() else {
            return;
        };
        let told = caught_now("note a request", || what(&**log));
        // Then a successor waits for what cannot come any more.
        let (Ok(()) | Err(_)) = told;
    }

    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        let state = self.state.lock();
        state.any_key.is_some() || state.late.contains_key(key)
    }

    /// Returns once no late change can undo this one, which leaves this under its key.
    /// `ask` sends the store any request, whose answer is noted here.
    ///
    /// Errors: `TimedOut` where the store does not answer.
    pub async fn landed<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        (change, leaves): (&Change, &Leaves),
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        let undone_until = || self.undone_until(change, leaves);
        self.over(op, &change.key, undone_until, ask).await
    }

    /// Returns once no request of a predecessor can be carried out any more.
    pub(super) async fn predecessor_landed<F: Future<Output = Result<(), StoreError>>>(
        &self,
        key: &Key,
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        let late = || self.predecessor_until();
        self.over(StoreOp::Head, key, late, ask).await
    }

    /// Has the log told of every change from now on. A predecessor left these, and may
    /// have sent others.
    pub(super) fn recorded_by(&self, log: Arc<dyn ChangeLog>, left: Vec<LeftUnanswered>) {
        self.state.lock().predecessor = Some(LateUntil::given_up());
        self.state.lock().awaits_answer = true;
        if self.log.set(log).is_err() {
            tracing::debug!("changes are recorded already");
        }
        for request in left {
            let until = request
                .left
                .map_or_else(LateUntil::given_up, LateUntil::in_time);
            for change in &request.changes {
                self.note_until(change, until);
            }
            if request.left.is_none() {
                self.note_unheard(request.number, &request.changes);
            }
        }
    }

    async fn over<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        key: &Key,
        late: impl Fn() -> Option<LateUntil>,
        ask: impl Fn() -> F,
    ) -> Result<(), StoreError> {
        for asked in 0..ASK_AGAIN_LIMIT {
            let Some(until) = late() else {
                return Ok(());
            };
            if asked == 0 {
                tracing::info!(%key, "a change of this key got no answer: waiting until it cannot undo the next one");
            }
            match until {
                LateUntil::Time(until) => sleep_until(until).await,
                LateUntil::Answer { .. } => match ask().await {
                    Err(error) if error.kind.is_no_answer() => break,
                    Ok(()) | Err(_) => {}
                },
            }
        }
        let detail = "S3 does not answer, and may still carry out a change that was sent before";
        let kind = StoreErrorKind::TimedOut;
        Err(StoreError::new(kind, op, key.clone(), detail))
    }

    fn undone_until(&self, change: &Change, leaves: &Leaves) -> Option<LateUntil> {
        let mut state = self.state.lock();
        state.any_key = state.any_key.filter(|until| !until.is_over());
        let late = state.late.get_mut(&change.key);
        let of_key = late.and_then(|late| {
            late.retain(|one| !one.until.is_over());
            let undoing = late.iter().filter(|one| one.undoes(change, leaves));
            undoing.map(|one| one.until).max()
        });
        if state.late.get(&change.key).is_some_and(Vec::is_empty) {
            state.late.remove(&change.key);
        }
        of_key.max(state.any_key)
    }

    fn predecessor_until(&self) -> Option<LateUntil> {
        let mut state = self.state.lock();
        state.predecessor = state.predecessor.filter(|until| !until.is_over());
        state.predecessor
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
        if !self.is_answered {
            for change in self.changes {
                self.unanswered.note(change);
            }
        }
        match self.number {
            Some(number) if self.is_answered => {
                self.unanswered.tell(|log| log.answered(number));
            }
            Some(number) => self.unanswered.note_unheard(number, self.changes),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::late_until::LATE_LIMIT;
    use super::*;
    use crate::store::{ETag, LateChanges, StoreAbilities};

    async fn waited(unanswered: &Unanswered, key: &str, leaves: Leaves) -> Duration {
        let began = Instant::now();
        let change = Change::new(Key::new(key), WriteCondition::Always);
        let what = (&change, &leaves);
        let landed = unanswered.landed(StoreOp::Put, what, || answers(unanswered));
        landed.await.unwrap();
        began.elapsed()
    }

    /// A request that the store answers.
    async fn answers(unanswered: &Unanswered) -> Result<(), StoreError> {
        unanswered.heard(Instant::now());
        Ok(())
    }

    async fn is_silent(unanswered: &Unanswered) -> Result<(), StoreError> {
        let sent = Instant::now();
        tokio::time::sleep(LATE_LIMIT * 2).await;
        unanswered.silent(sent);
        let (kind, op) = (StoreErrorKind::TimedOut, StoreOp::Head);
        Err(StoreError::new(kind, op, Key::new("k"), "silent"))
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
            answers(&unanswered).await.unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_store_has_counts_until_it_has_answered_for_long_enough() {
        let unanswered = Unanswered::default();
        let change = Change::new(Key::new("k"), WriteCondition::Always);
        let what = (&change, &Leaves::Nothing);
        unanswered.note(&change);
        tokio::time::advance(LATE_LIMIT * 20).await;
        let in_silence = unanswered.landed(StoreOp::Put, what, || is_silent(&unanswered));
        let refused = in_silence.await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::TimedOut);
        assert!(!refused.maybe_applied);
        unanswered.heard(Instant::now());
        tokio::time::advance(LATE_LIMIT / 2).await;
        is_silent(&unanswered).await.unwrap_err();
        assert_eq!(waited(&unanswered, "k", Leaves::Nothing).await.as_secs(), 5);
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_without_an_answer_among_others_is_no_silence() {
        let unanswered = Unanswered::default();
        unanswered.note(&Change::new(Key::new("k"), WriteCondition::Always));
        let sent = Instant::now();
        unanswered.heard(sent);
        tokio::time::advance(LATE_LIMIT).await;
        unanswered.silent(sent);
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn many_different_changes_of_one_key_are_as_one_that_undoes_all() {
        let unanswered = Unanswered::default();
        for number in 0..=OF_KEY_LIMIT {
            let condition = WriteCondition::IfMatch(ETag::new(&number.to_string()));
            unanswered.note(&Change::new(Key::new("k"), condition));
        }
        let late = unanswered.state.lock().late[&Key::new("k")].len();
        assert!(late <= OF_KEY_LIMIT, "{late}");
        assert!(!waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }
}
