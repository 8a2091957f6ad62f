//! Requests that were given up, and whose keys the store has not answered for since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use tokio::time::Instant;

use crate::store::Key;
use crate::store::change::{Change, Outcome};

/// Requests of which the log learns when the store has answered since; of more, the
/// time counts from the end of their connection for a successor.
const REQUESTS_LIMIT: usize = 10_000;
/// All their keys: a bulk delete has many.
const KEYS_LIMIT: usize = 100_000;

/// More requests were given up than are remembered.
#[derive(Debug)]
pub struct TooMany;

/// Given-up requests that the log still has.
#[derive(Debug, Default)]
pub struct GivenUpRequests {
    /// By what was sent.
    requests: HashMap<Outcome, Request>,
    by_key: BTreeMap<Key, HashSet<Outcome>>,
    /// Those of all requests together.
    keys: usize,
}

#[derive(Debug)]
struct Request {
    number: u64,
    at: Instant,
    /// Those that the store has not answered for since.
    keys: HashSet<Key>,
}

impl GivenUpRequests {
    /// These were given up. The number of the same ones before them.
    pub fn note(&mut self, number: u64, changes: &[Change]) -> Result<Option<u64>, TooMany> {
        let what = Outcome::of(&changes);
        let keys: HashSet<Key> = changes.iter().map(|change| change.key.clone()).collect();
        let is_full = self.requests.len() >= REQUESTS_LIMIT || self.keys + keys.len() > KEYS_LIMIT;
        if is_full && !self.requests.contains_key(&what) {
            return Err(TooMany);
        }
        self.keys += keys.len();
        for key in &keys {
            self.by_key.entry(key.clone()).or_default().insert(what);
        }
        let at = Instant::now();
        let replaced = self.requests.insert(what, Request { number, at, keys });
        Ok(replaced.map(|replaced| {
            self.keys -= replaced.keys.len();
            replaced.number
        }))
    }

    /// The store answered a request for these keys, sent at `sent`. Returns the numbers
    /// that this settles.
    pub fn heard(&mut self, keys: &[&Key], sent: Instant) -> Vec<u64> {
        let mut over = Vec::new();
        for key in keys {
            let Some(of_key) = self.by_key.get_mut(*key) else {
                continue;
            };
            of_key.retain(|what| {
                let Some(request) = self.requests.get_mut(what) else {
                    return false;
                };
                if request.at > sent {
                    return true;
                }
                if request.keys.remove(*key) {
                    self.keys -= 1;
                }
                if request.keys.is_empty() {
                    over.push(request.number);
                    self.requests.remove(what);
                }
                false
            });
            if of_key.is_empty() {
                self.by_key.remove(*key);
            }
        }
        over
    }

    /// Keys to ask for, in their order, up to so many.
    pub fn keys_after(&self, last: Option<&Key>, limit: usize) -> Vec<Key> {
        let from = last.map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.by_key.range::<Key, _>((from, Bound::Unbounded));
        keys.take(limit).map(|(key, _)| key.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::store::WriteCondition;

    #[tokio::test(start_paused = true)]
    async fn a_request_is_over_once_the_store_has_answered_for_each_of_its_keys() {
        let [a, b, c] = ["a", "b", "c"].map(Key::new);
        let change = |key: &Key| Change::new(key.clone(), WriteCondition::Always);
        let mut unheard = GivenUpRequests::default();
        let before = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        let both = [change(&a), change(&b)];
        assert_eq!(unheard.note(1, &both).unwrap(), None);
        assert_eq!(unheard.note(2, &both).unwrap(), Some(1));
        unheard.note(3, &[change(&b)]).unwrap();
        assert!(unheard.heard(&[&a, &b, &c], before).is_empty());
        assert_eq!(unheard.keys_after(None, 9), [a.clone(), b.clone()]);
        assert_eq!(unheard.keys_after(Some(&a), 9), from_ref(&b));
        assert_eq!(unheard.heard(&[&b], Instant::now()), [3]);
        assert_eq!(unheard.keys_after(None, 9), from_ref(&a));
        assert_eq!(unheard.heard(&[&c, &a], Instant::now()), [2]);
        assert!(unheard.keys_after(None, 9).is_empty());
        assert_eq!(unheard.keys, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_keys_of_all_requests_have_a_bound() {
        let mut unheard = GivenUpRequests::default();
        let changes = |number: u64| -> Vec<Change> {
            let key = |nth| Key::new(format!("{number}/{nth}"));
            let change = |nth| Change::new(key(nth), WriteCondition::Always);
            (0..1000).map(change).collect()
        };
        let most = KEYS_LIMIT as u64 / 1000;
        for number in 0..most {
            unheard.note(number, &changes(number)).unwrap();
        }
        unheard.note(most, &changes(most)).unwrap_err();
        assert_eq!(unheard.note(most, &changes(0)).unwrap(), Some(0));
        let keys: Vec<Key> = changes(0).into_iter().map(|it| it.key).collect();
        let keys: Vec<&Key> = keys.iter().collect();
        assert_eq!(unheard.heard(&keys, Instant::now()), [most]);
        unheard.note(most, &changes(most)).unwrap();
    }
}
