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

mod remembered;
mod unheard;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::abilities::{Ability, KnownAbilities};
use super::change::{Change, Leaves};
use super::late_until::LateUntil;
use super::{Key, StoreError, StoreErrorKind, StoreOp};
use crate::task::caught_now;
use remembered::Remembered;
use unheard::TooMany;

/// Times that a store is asked which answers and falls silent again.
const ASK_AGAIN_LIMIT: usize = 8;
/// Keys that are asked for at once.
const ASKS_AT_ONCE: usize = 16;
/// Keys that a line of the log names.
const NAMED_LIMIT: usize = 3;

/// Remembers for the successor what the store may still carry out.
pub trait ChangeLog: Send + Sync + fmt::Debug {
    /// These are about to be sent together. None where the log has no room.
    fn sent(&self, changes: &[Change]) -> Option<u64>;
    fn answered(&self, number: u64);
    /// Their connection has ended, and the store has answered since for each of their keys.
    fn given_up(&self, number: u64);
    /// What predecessors sent, and the log does not tell of, cannot come any more.
    fn unknown_over(&self);
}

/// What a predecessor has left.
#[derive(Debug, Default)]
pub struct LeftByPredecessor {
    pub unanswered: Vec<LeftUnanswered>,
    /// It may have sent changes that the log does not tell of.
    pub may_lack_some: bool,
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

    /// Whether the store is known to heed the condition of such a change, or not to; none
    /// before it was asked.
    pub fn ability(&self, op: StoreOp) -> Option<Ability> {
        self.abilities.get().map(|abilities| abilities.get().of(op))
    }

    /// The store has just answered a request for these keys that was sent then.
    pub fn heard(&self, keys: &[&Key], sent: Instant) {
        let (heard, is_unknown_over) = {
            let mut state = self.state.lock();
            (state.heard(keys, sent), state.end_unknown())
        };
        for number in heard {
            self.tell(|log| log.given_up(number));
        }
        if is_unknown_over {
            self.tell(|log| log.unknown_over());
        }
    }

    /// A request for these keys that was sent then has got no answer.
    pub fn silent(&self, keys: &[&Key], since: Instant) {
        self.state.lock().silent(keys, since);
    }

    /// A change got no answer: its connection has just ended.
    pub fn note(&self, change: &Change) {
        self.state.lock().note(change, LateUntil::given_up());
    }

    /// The log is to learn when the store has answered since these were given up.
    fn note_unheard(&self, number: u64, changes: &[Change]) {
        match self.state.lock().unheard.note(number, changes) {
            Ok(None) => {}
            // The same sent again: what counts is the last one.
            Ok(Some(replaced)) => self.tell(|log| log.answered(replaced)),
            Err(TooMany) => self.tell(|log| log.given_up(number)),
        }
    }

    /// The next keys that requests were given up for, without an answer for them since.
    pub(super) fn unheard_after(&self, last: Option<&Key>, limit: usize) -> Vec<Key> {
        let mut state = self.state.lock();
        state.forget_over();
        state.unheard.keys_after(last, limit)
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
        self.state.lock().has(key)
    }

    /// Returns once no late change can undo one of these, each of which leaves this under
    /// its key. `ask` sends the store a request for a key, whose answer is noted here.
    ///
    /// Errors: `TimedOut` where the store does not answer.
    pub async fn wait_for_late<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        (changes, leaves): (&[Change], &Leaves),
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        let Some(first) = changes.first() else {
            return Ok(());
        };
        let late = || self.state.lock().late_conflicts(changes, leaves);
        self.over(op, &first.key, late, ask).await
    }

    /// Returns once no request of a predecessor can be carried out any more for these keys
    /// or below them. `ask` sends the store a request for a key.
    pub(super) async fn wait_for_predecessor<F: Future<Output = Result<(), StoreError>>>(
        &self,
        places: &[Key],
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        let Some(first) = places.first() else {
            return Ok(());
        };
        let late = || self.state.lock().of_predecessor(places);
        self.over(StoreOp::Head, first, late, ask).await
    }

    /// Has the log told of every change from now on.
    pub(super) fn recorded_by(&self, log: Arc<dyn ChangeLog>, left: LeftByPredecessor) {
        if self.log.set(log).is_err() {
            tracing::debug!("changes are recorded already");
        }
        if left.may_lack_some {
            self.state.lock().note_unknown_of_predecessor();
        }
        for request in left.unanswered {
            let until = request
                .left
                .map_or_else(LateUntil::given_up, LateUntil::in_time);
            for change in &request.changes {
                self.state.lock().note_of_predecessor(change, until);
            }
            if request.left.is_none() {
                self.note_unheard(request.number, &request.changes);
            }
        }
    }

    /// Returns once nothing is late any more: until then `late` tells which keys, and how
    /// long. Where the time begins with an answer they are asked for. They wait together.
    async fn over<F: Future<Output = Result<(), StoreError>>>(
        &self,
        op: StoreOp,
        key: &Key,
        late: impl Fn() -> Vec<(Key, LateUntil)>,
        ask: impl Fn(Key) -> F,
    ) -> Result<(), StoreError> {
        for asked in 0..ASK_AGAIN_LIMIT {
            let late = late();
            let Some(last) = late.iter().map(|(_, until)| *until).max() else {
                return Ok(());
            };
            if asked == 0 {
                log_wait(&late);
            }
            if let LateUntil::Time(until) = last {
                sleep_until(until).await;
                continue;
            }
            let awaited = late.into_iter().filter(|(_, until)| until.awaits_answer());
            let awaited: Vec<Key> = awaited.map(|(key, _)| key).collect();
            let asks = stream::iter(awaited).map(|key| async {
                match ask(key).await {
                    Err(error) if error.kind.is_no_answer() => Err(error),
                    Ok(()) | Err(_) => Ok(()),
                }
            });
            let answers = asks.buffer_unordered(ASKS_AT_ONCE);
            if answers.try_collect::<Vec<()>>().await.is_err() {
                break;
            }
        }
        let detail = "S3 does not answer, and may still carry out a change that was sent before";
        let kind = StoreErrorKind::TimedOut;
        Err(StoreError::new(kind, op, key.clone(), detail))
    }
}

/// Says what is waited for.
fn log_wait(late: &[(Key, LateUntil)]) {
    let (count, keys) = (late.len(), first_keys(late));
    tracing::info!(
        count,
        keys,
        "changes of these keys got no answer: waiting until they cannot undo the next ones"
    );
}

fn first_keys(late: &[(Key, LateUntil)]) -> String {
    let first = late.iter().take(NAMED_LIMIT);
    let first: Vec<&str> = first.map(|(key, _)| key.as_str()).collect();
    let more = if late.len() > NAMED_LIMIT { " ..." } else { "" };
    format!("{}{more}", first.join(" "))
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
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::super::late_until::LATE_LIMIT;
    use super::remembered::{KEYS_LIMIT, OF_KEY_LIMIT};
    use super::*;
    use crate::store::{ETag, LateChanges, StoreAbilities, WriteCondition};

    async fn waited(unanswered: &Unanswered, key: &str, leaves: Leaves) -> Duration {
        let began = Instant::now();
        let change = [Change::new(Key::new(key), WriteCondition::Always)];
        let what = (change.as_slice(), &leaves);
        let landed = unanswered.wait_for_late(StoreOp::Put, what, |_| answers(unanswered, key));
        landed.await.unwrap();
        began.elapsed()
    }

    /// A request that the store answers.
    async fn answers(unanswered: &Unanswered, key: &str) -> Result<(), StoreError> {
        unanswered.heard(&[&Key::new(key)], Instant::now());
        Ok(())
    }

    async fn is_silent(unanswered: &Unanswered) -> Result<(), StoreError> {
        let sent = Instant::now();
        tokio::time::sleep(LATE_LIMIT * 2).await;
        unanswered.silent(&[&Key::new("k")], sent);
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
            answers(&unanswered, "k").await.unwrap();
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
        let change = [Change::new(Key::new("k"), WriteCondition::Always)];
        let what = (change.as_slice(), &Leaves::Nothing);
        unanswered.note(&change[0]);
        tokio::time::advance(LATE_LIMIT * 20).await;
        let in_silence = unanswered.wait_for_late(StoreOp::Put, what, |_| is_silent(&unanswered));
        let refused = in_silence.await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::TimedOut);
        assert!(!refused.maybe_applied);
        unanswered.heard(&[&Key::new("k")], Instant::now());
        tokio::time::advance(LATE_LIMIT / 2).await;
        is_silent(&unanswered).await.unwrap_err();
        assert_eq!(waited(&unanswered, "k", Leaves::Nothing).await.as_secs(), 5);
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_without_an_answer_among_others_is_no_silence() {
        let unanswered = Unanswered::default();
        unanswered.note(&Change::new(Key::new("k"), WriteCondition::Always));
        let (sent, key) = (Instant::now(), Key::new("k"));
        unanswered.heard(&[&key], sent);
        tokio::time::advance(LATE_LIMIT).await;
        unanswered.silent(&[&key], sent);
        assert!(waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }

    #[test]
    fn of_many_keys_the_log_names_a_few() {
        let late = ["a", "b", "c", "d"].map(|key| (Key::new(key), LateUntil::given_up()));
        assert_eq!(first_keys(&late[..1]), "a");
        assert_eq!(first_keys(&late[..3]), "a b c");
        assert_eq!(first_keys(&late), "a b c ...");
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_key_begins_with_an_answer_for_this_key() {
        let unanswered = Unanswered::default();
        unanswered.note(&Change::new(Key::new("k"), WriteCondition::Always));
        for _ in 0..10 {
            answers(&unanswered, "other").await.unwrap();
            tokio::time::advance(LATE_LIMIT).await;
        }
        let waited = waited(&unanswered, "k", Leaves::Nothing).await;
        assert!(waited >= LATE_LIMIT, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_falls_silent_while_others_answer_begins_anew() {
        let unanswered = Unanswered::default();
        unanswered.note(&Change::new(Key::new("k"), WriteCondition::Always));
        answers(&unanswered, "k").await.unwrap();
        let sent = Instant::now() + Duration::from_millis(1);
        tokio::time::advance(LATE_LIMIT / 2).await;
        answers(&unanswered, "other").await.unwrap();
        unanswered.silent(&[&Key::new("k")], sent);
        tokio::time::advance(LATE_LIMIT).await;
        let waited = waited(&unanswered, "k", Leaves::Nothing).await;
        assert!(waited >= LATE_LIMIT, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_keys_wait_together_and_few_are_asked_for_at_once() {
        let unanswered = Unanswered::default();
        let change = |number: i32| Change::new(Key::new(format!("k{number}")), Default::default());
        let changes: Vec<Change> = (0..200).map(change).collect();
        drop(AttemptGuard::new(&unanswered, &changes));
        let (under_way, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = |key: Key| {
            let (unanswered, under_way, most) = (&unanswered, &under_way, &most);
            async move {
                let sent = Instant::now();
                most.fetch_max(1 + under_way.fetch_add(1, Relaxed), Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                under_way.fetch_sub(1, Relaxed);
                unanswered.heard(&[&key], sent);
                Ok(())
            }
        };
        let (began, what) = (Instant::now(), (changes.as_slice(), &Leaves::Nothing));
        unanswered
            .wait_for_late(StoreOp::DeleteMany, what, ask)
            .await
            .unwrap();
        assert_eq!(most.into_inner(), ASKS_AT_ONCE);
        assert_eq!(began.elapsed().as_secs(), LATE_LIMIT.as_secs());
    }

    #[derive(Debug, Default)]
    struct Log(Mutex<Vec<u64>>, AtomicUsize);

    impl ChangeLog for Log {
        fn sent(&self, _: &[Change]) -> Option<u64> {
            None
        }

        fn answered(&self, _: u64) {}

        fn given_up(&self, number: u64) {
            self.0.lock().push(number);
        }

        fn unknown_over(&self) {
            self.1.fetch_add(1, Relaxed);
        }
    }

    fn left(number: u64, keys: &[&str], left: Option<Duration>) -> LeftUnanswered {
        let change = |key: &&str| Change::new(Key::new(*key), WriteCondition::Always);
        LeftUnanswered {
            number,
            changes: keys.iter().map(change).collect(),
            left,
        }
    }

    /// How long a daemon waits for what its predecessor has left, and the keys it asks for.
    async fn waited_for(left: LeftByPredecessor) -> (Duration, Vec<String>, Vec<u64>) {
        let (unanswered, log) = (Unanswered::default(), Arc::<Log>::default());
        unanswered.recorded_by(log.clone(), left);
        let (began, asked) = (Instant::now(), Mutex::new(Vec::new()));
        let ask = |key: Key| {
            asked.lock().push(key.as_str().to_owned());
            let unanswered = &unanswered;
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                unanswered.heard(&[&key], began);
                Ok(())
            }
        };
        let places = ["a", "b", "c"].map(Key::new);
        unanswered.wait_for_predecessor(&places, ask).await.unwrap();
        let mut asked = asked.into_inner();
        asked.sort();
        let told = std::mem::take(&mut *log.0.lock());
        (began.elapsed(), asked, told)
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_waits_for_what_is_unanswered_and_for_all_of_it_together() {
        let nothing = waited_for(LeftByPredecessor::default()).await;
        assert_eq!(nothing, (Duration::ZERO, Vec::new(), Vec::new()));
        let of_unknown = LeftByPredecessor {
            may_lack_some: true,
            ..LeftByPredecessor::default()
        };
        let (waited, asked, _) = waited_for(of_unknown).await;
        assert_eq!((waited.as_secs(), asked.len()), (6, 1));
        let in_time = LeftByPredecessor {
            unanswered: vec![left(1, &["a"], Some(Duration::from_secs(2)))],
            may_lack_some: false,
        };
        let (waited, asked, told) = waited_for(in_time).await;
        assert_eq!((waited.as_secs(), asked.len(), told.len()), (2, 0, 0));
        let in_bulk = LeftByPredecessor {
            unanswered: vec![left(1, &["a", "b"], None), left(2, &["c"], None)],
            may_lack_some: false,
        };
        let (waited, asked, mut told) = waited_for(in_bulk).await;
        told.sort_unstable();
        assert_eq!((waited.as_secs(), told), (6, vec![1, 2]));
        assert_eq!(asked, ["a", "b", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_learns_once_when_what_it_does_not_know_of_is_over() {
        let (unanswered, log) = (Unanswered::default(), Arc::<Log>::default());
        let left = LeftByPredecessor {
            may_lack_some: true,
            ..LeftByPredecessor::default()
        };
        unanswered.recorded_by(log.clone(), left);
        let over = || log.1.load(Relaxed);
        answers(&unanswered, "any").await.unwrap();
        tokio::time::advance(LATE_LIMIT / 5).await;
        is_silent(&unanswered).await.unwrap_err();
        answers(&unanswered, "any").await.unwrap();
        assert_eq!(over(), 0, "the store was silent");
        tokio::time::advance(LATE_LIMIT).await;
        // Whoever waits for it looks as well.
        let places = [Key::new("a")];
        let ask = |_| async { unreachable!() };
        unanswered.wait_for_predecessor(&places, ask).await.unwrap();
        for _ in 0..2 {
            answers(&unanswered, "any").await.unwrap();
            assert_eq!(over(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_stays_silent_holds_up_what_is_at_it_or_below_it_alone() {
        let unanswered = Unanswered::default();
        let left = LeftByPredecessor {
            unanswered: vec![left(1, &["d/silent"], None), left(2, &["f", "fg"], None)],
            may_lack_some: false,
        };
        unanswered.recorded_by(Arc::<Log>::default(), left);
        let ask = |key: Key| {
            let unanswered = &unanswered;
            async move {
                match key.as_str() {
                    "d/silent" => is_silent(unanswered).await,
                    key => answers(unanswered, key).await,
                }
            }
        };
        for (places, is_held_up) in [
            (vec!["f"], false),
            (vec!["d/silent/x", "d/sil", "g"], false),
            (vec!["d/silent"], true),
            (vec!["f", "d"], true),
            (vec!["d/"], true),
        ] {
            let keys: Vec<Key> = places.iter().map(|place| Key::new(*place)).collect();
            let landed = unanswered.wait_for_predecessor(&keys, ask).await;
            assert_eq!(landed.is_err(), is_held_up, "{places:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_different_changes_of_one_key_are_as_one_that_undoes_all() {
        let unanswered = Unanswered::default();
        for number in 0..=OF_KEY_LIMIT {
            let condition = WriteCondition::IfMatch(ETag::new(&number.to_string()));
            unanswered.note(&Change::new(Key::new("k"), condition));
        }
        let late = unanswered.state.lock().of_key(&Key::new("k"));
        assert!(late <= OF_KEY_LIMIT, "{late}");
        assert!(!waited(&unanswered, "k", Leaves::Nothing).await.is_zero());
    }
}
