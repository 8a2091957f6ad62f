//! Requests of one kind that the store fails for while it answers others: they are left
//! out for a while.
//!
//! One failure may be about its object, or about one of many. A second one, for others and
//! with none answered between them, says that the store, or what is before it, has no such
//! requests now.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;

/// So long requests are left out.
pub const SKIPPED_FOR: Duration = Duration::from_secs(600);
/// Objects that are remembered; where there are more, all of them are asked for again.
const KEYS_LIMIT: usize = 1000;

/// What the store fails for of one kind of request.
#[derive(Debug, Default)]
pub struct SkippedRequests {
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    /// Of which objects, and when.
    of: HashMap<Key, Instant>,
    /// The last one, unless such a request was answered since.
    last: Option<(Option<Key>, Instant)>,
    /// When two had failed.
    since: Option<Instant>,
    is_one_told: bool,
    is_all_told: bool,
}

/// What a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affected {
    /// Its object, perhaps; whether it is the first failure of all.
    Object { is_first: bool },
    /// The store, which has no such requests; whether that is known for the first time.
    Store { is_first: bool },
}

impl SkippedRequests {
    /// Whether none is to be sent for this object.
    pub fn skips(&self, key: &Key) -> bool {
        let failures = self.failures.lock();
        let failed = failures.of.get(key);
        failures.has_all() || failed.is_some_and(|at| at.elapsed() < SKIPPED_FOR)
    }

    /// Whether all such requests are skipped.
    pub fn skips_all(&self) -> bool {
        self.failures.lock().has_all()
    }

    /// The store has answered one.
    pub fn answered(&self) {
        let mut failures = self.failures.lock();
        failures.last = None;
        failures.since = None;
    }

    /// One for this object has failed.
    pub fn failed_for(&self, key: &Key) -> Affected {
        let mut failures = self.failures.lock();
        let now = Instant::now();
        if failures.of.len() >= KEYS_LIMIT {
            failures.of.clear();
        }
        failures.of.insert(key.clone(), now);
        let before = failures.last.replace((Some(key.clone()), now));
        let is_second = before.is_some_and(|(other, _)| other.as_ref() != Some(key));
        failures.affected(is_second, now)
    }

    /// A request for many objects, sent at `sent`, has failed.
    pub fn failed_for_many(&self, sent: Instant) -> Affected {
        let mut failures = self.failures.lock();
        let now = Instant::now();
        // Those of one moment are one failure.
        let before = failures.last.take_if(|(_, at)| *at <= sent);
        failures.last.get_or_insert((None, now));
        failures.affected(before.is_some(), now)
    }
}

impl Failures {
    fn has_all(&self) -> bool {
        self.since.is_some_and(|at| at.elapsed() < SKIPPED_FOR)
    }

    fn affected(&mut self, is_second: bool, now: Instant) -> Affected {
        if is_second || self.since.is_some() {
            self.since = Some(now);
            let is_first = !std::mem::replace(&mut self.is_all_told, true);
            return Affected::Store { is_first };
        }
        let is_first = !std::mem::replace(&mut self.is_one_told, true);
        Affected::Object { is_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    async fn fails(skipped: &SkippedRequests, key: &str) -> Affected {
        tokio::time::advance(TICK).await;
        skipped.failed_for(&Key::new(key))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_of_its_object_until_another_object_fails_too() {
        let skipped = SkippedRequests::default();
        let [a, b] = ["a", "b"].map(Key::new);
        for is_first in [true, false] {
            assert_eq!(fails(&skipped, "a").await, Affected::Object { is_first });
        }
        assert!(skipped.skips(&a) && !skipped.skips(&b));
        for is_first in [true, false] {
            assert_eq!(fails(&skipped, "b").await, Affected::Store { is_first });
        }
        assert!(skipped.skips(&Key::new("c")));
        tokio::time::advance(SKIPPED_FOR).await;
        assert!(!skipped.skips(&a) && !skipped.skips_all());
        // It has not changed: once is enough.
        let affected = fails(&skipped, "d").await;
        assert_eq!(affected, Affected::Store { is_first: false });
    }

    #[tokio::test(start_paused = true)]
    async fn failures_with_an_answer_between_them_are_of_their_objects() {
        let skipped = SkippedRequests::default();
        for key in ["a", "b", "c"] {
            skipped.answered();
            fails(&skipped, key).await;
        }
        assert!(!skipped.skips_all());
        assert!(skipped.skips(&Key::new("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn of_requests_for_many_objects_those_of_one_moment_are_one_failure() {
        let skipped = SkippedRequests::default();
        let sent = Instant::now();
        for is_first in [true, false] {
            tokio::time::advance(TICK).await;
            assert_eq!(skipped.failed_for_many(sent), Affected::Object { is_first });
        }
        let affected = skipped.failed_for_many(Instant::now());
        assert_eq!(affected, Affected::Store { is_first: true });
    }

    #[tokio::test(start_paused = true)]
    async fn the_objects_that_are_remembered_have_a_bound() {
        let skipped = SkippedRequests::default();
        for number in 0..=KEYS_LIMIT {
            skipped.answered();
            fails(&skipped, &number.to_string()).await;
        }
        assert_eq!(skipped.failures.lock().of.len(), 1);
    }
}
