//! Which changes may be late, by their keys.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::unheard::GivenUpRequests;
use crate::store::change::{Change, Leaves, Outcome};
use crate::store::late_until::LateUntil;
use crate::store::{Key, WriteCondition};

/// Keys that are remembered; with more, every key counts.
pub(super) const KEYS_LIMIT: usize = 10_000;
/// Changes of one key that are told apart; with more, they are as one that undoes all.
pub(super) const OF_KEY_LIMIT: usize = 64;
/// Asked for where any answer of the store counts.
pub(super) const ASKED_KEY: &str = ".mediafs-ask";

/// What may be late, and what is known of the store's answers since.
#[derive(Debug, Default)]
pub struct Remembered {
    late: HashMap<Key, OfKey>,
    /// Every key may have something late.
    any_key: Option<LateUntil>,
    /// What a predecessor sent.
    predecessor: OfPredecessor,
    pub unheard: GivenUpRequests,
    /// When the last of the requests was sent that were answered.
    answered: Option<Instant>,
}

/// What may be late of one key.
#[derive(Debug, Default)]
struct OfKey {
    late: Vec<Late>,
    /// When the last of the requests for the key was sent that were answered.
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Late {
    condition: WriteCondition,
    outcome: Option<Outcome>,
    until: LateUntil,
}

#[derive(Debug, Default)]
struct OfPredecessor {
    keys: HashSet<Key>,
    /// Of what no log tells.
    unknown: Option<LateUntil>,
}

impl OfKey {
    fn until(&self) -> Option<LateUntil> {
        self.late.iter().map(|one| one.until).max()
    }

    /// Whether anything may still come.
    fn forget_over(&mut self) -> bool {
        self.late.retain(|one| !one.until.is_over());
        !self.late.is_empty()
    }
}

impl Remembered {
    /// Whether a change of the key may be late.
    pub fn has(&self, key: &Key) -> bool {
        self.any_key.is_some() || self.late.contains_key(key)
    }

    /// A change may still come for so long.
    pub fn note(&mut self, change: &Change, until: LateUntil) {
        if self.late.len() >= KEYS_LIMIT {
            self.forget_over();
        }
        if self.late.len() >= KEYS_LIMIT {
            self.merge();
        }
        let late = &mut self.late.entry(change.key.clone()).or_default().late;
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

    /// The keys of the changes that a late request may still undo, and until when.
    pub fn late_conflicts(&mut self, changes: &[Change], leaves: &Leaves) -> Vec<(Key, LateUntil)> {
        let late = changes.iter().filter_map(|change| {
            let until = self.late_conflict(change, leaves)?;
            Some((change.key.clone(), until))
        });
        late.collect()
    }

    fn late_conflict(&mut self, change: &Change, leaves: &Leaves) -> Option<LateUntil> {
        self.any_key = self.any_key.filter(|until| !until.is_over());
        let late = self.late.get_mut(&change.key);
        let (of_key, is_over) = late.map_or((None, false), |of_key| {
            let is_over = !of_key.forget_over();
            let undoing = of_key.late.iter().filter(|one| one.undoes(change, leaves));
            (undoing.map(|one| one.until).max(), is_over)
        });
        if is_over {
            self.late.remove(&change.key);
        }
        of_key.max(self.any_key)
    }

    /// A predecessor sent this.
    pub fn note_of_predecessor(&mut self, change: &Change, until: LateUntil) {
        self.predecessor.keys.insert(change.key.clone());
        self.note(change, until);
    }

    /// It may have sent what no log tells of.
    pub fn note_unknown_of_predecessor(&mut self) {
        self.predecessor.unknown = Some(LateUntil::given_up());
    }

    /// Whether the time of what no log tells of has ended since this was asked last.
    pub fn end_unknown(&mut self) -> bool {
        let ended = self.predecessor.unknown.take_if(|until| until.is_over());
        ended.is_some()
    }

    /// Drops what cannot come any more.
    pub fn forget_over(&mut self) {
        self.late.retain(|_, of_key| of_key.forget_over());
    }

    #[cfg(test)]
    pub fn of_key(&self, key: &Key) -> usize {
        self.late.get(key).map_or(0, |of_key| of_key.late.len())
    }

    /// What counts for every key.
    fn of_any_key(&mut self) -> impl Iterator<Item = &mut LateUntil> {
        let unknown = self.predecessor.unknown.iter_mut();
        self.any_key.iter_mut().chain(unknown)
    }

    /// The store has answered a request for these keys that was sent then. Numbers of what
    /// it has answered for since.
    pub fn heard(&mut self, keys: &[&Key], sent: Instant) -> Vec<u64> {
        self.answered = self.answered.max(Some(sent));
        self.of_any_key().for_each(|until| until.heard(sent));
        for key in keys {
            if let Some(of_key) = self.late.get_mut(*key) {
                of_key.answered = of_key.answered.max(Some(sent));
                let late = of_key.late.iter_mut();
                late.for_each(|one| one.until.heard(sent));
            }
        }
        self.unheard.heard(keys, sent)
    }

    /// A request for these keys that was sent then has got no answer.
    pub fn silent(&mut self, keys: &[&Key], since: Instant) {
        // One request alone is held up where others were answered meanwhile.
        let is_held_up = |answered: Option<Instant>| answered.is_some_and(|at| at >= since);
        if !is_held_up(self.answered) {
            self.of_any_key().for_each(|until| until.silent(since));
        }
        for key in keys {
            let of_key = self.late.get_mut(*key);
            if let Some(of_key) = of_key.filter(|of_key| !is_held_up(of_key.answered)) {
                let late = of_key.late.iter_mut();
                late.for_each(|one| one.until.silent(since));
            }
        }
    }

    /// There are too many to tell them apart.
    fn merge(&mut self) {
        let merged = self.late.drain().filter_map(|(_, of_key)| of_key.until());
        self.any_key = merged.fold(self.any_key, |any, until| any.max(Some(until)));
        if !self.predecessor.keys.is_empty() {
            self.predecessor.keys.clear();
            self.predecessor.unknown = self.predecessor.unknown.max(self.any_key);
        }
    }

    /// Keys of requests of a predecessor that may come for these keys or below them, and
    /// how long.
    pub fn of_predecessor(&mut self, places: &[Key]) -> Vec<(Key, LateUntil)> {
        let late = &mut self.late;
        let OfPredecessor { keys, unknown } = &mut self.predecessor;
        keys.retain(|key| late.get_mut(key).is_some_and(OfKey::forget_over));
        let unknown = unknown.filter(|until| !until.is_over());
        let unknown = unknown.map(|until| (Key::new(ASKED_KEY), until));
        let is_meant = |key: &&Key| places.iter().any(|place| key.is_at_or_below(place));
        let known = keys.iter().filter(is_meant).filter_map(|key| {
            let until = late.get(key)?.until()?;
            Some((key.clone(), until))
        });
        unknown.into_iter().chain(known).collect()
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
