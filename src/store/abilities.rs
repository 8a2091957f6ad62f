//! Which conditions a store heeds, and whether it has bulk deletes and copies.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{StoreError, StoreOp};

/// So many bulk deletes without an answer, and a single delete with one after each, say that
/// the store, or what is before it, has no bulk deletes now.
const UNANSWERED_LIMIT: u32 = 2;
/// So long then objects go one by one.
pub(super) const BULK_PAUSE: Duration = Duration::from_secs(600);

/// Whether a store heeds the condition of one kind of change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ability {
    Heeded,
    /// It carries the change out whatever is there, or does not know conditions.
    Missing,
    /// Nobody has asked, or the answer told nothing.
    #[default]
    Unknown,
}

/// Whether a store deletes many objects in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BulkDeletes {
    /// As far as is known.
    #[default]
    Taken,
    /// They go one by one.
    Refused,
}

/// Whether a store copies objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Copies {
    /// As far as is known.
    #[default]
    Taken,
    /// They are read and sent.
    Refused,
}

/// The conditions that each kind of change may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreAbilities {
    pub put: Ability,
    pub complete: Ability,
    pub copy: Ability,
    pub delete: Ability,
    pub delete_many: Ability,
    #[serde(default)]
    pub bulk_deletes: BulkDeletes,
    #[serde(default)]
    pub copies: Copies,
}

/// Those that may carry a condition.
const CHANGES: [StoreOp; 5] = [
    StoreOp::Put,
    StoreOp::CompleteMultipart,
    StoreOp::Copy,
    StoreOp::Delete,
    StoreOp::DeleteMany,
];

impl StoreAbilities {
    pub const ALL: Self = Self {
        put: Ability::Heeded,
        complete: Ability::Heeded,
        copy: Ability::Heeded,
        delete: Ability::Heeded,
        delete_many: Ability::Heeded,
        bulk_deletes: BulkDeletes::Taken,
        copies: Copies::Taken,
    };

    /// Of a store that heeds no condition.
    #[cfg(test)]
    pub const NO_CONDITIONS: Self = Self {
        put: Ability::Missing,
        complete: Ability::Missing,
        copy: Ability::Missing,
        delete: Ability::Missing,
        delete_many: Ability::Missing,
        bulk_deletes: BulkDeletes::Taken,
        copies: Copies::Taken,
    };

    /// Of a kind of change; other requests need no ability.
    pub fn of(&self, op: StoreOp) -> Ability {
        match op {
            StoreOp::Put => self.put,
            StoreOp::CompleteMultipart => self.complete,
            // What is never sent needs no condition.
            StoreOp::Copy if self.copies == Copies::Refused => Ability::Heeded,
            StoreOp::Copy => self.copy,
            StoreOp::Delete => self.delete,
            StoreOp::DeleteMany if self.bulk_deletes == BulkDeletes::Refused => self.delete,
            StoreOp::DeleteMany => self.delete_many,
            _ => Ability::Heeded,
        }
    }

    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    fn set(&mut self, op: StoreOp, ability: Ability) {
        match op {
            StoreOp::Put => self.put = ability,
            StoreOp::CompleteMultipart => self.complete = ability,
            StoreOp::Copy => self.copy = ability,
            StoreOp::Delete => self.delete = ability,
            StoreOp::DeleteMany => self.delete_many = ability,
            _ => {}
        }
    }

    /// Requests whose condition the store is known not to heed.
    pub fn missing(&self) -> Vec<StoreOp> {
        let missing = CHANGES.into_iter();
        missing
            .filter(|op| self.of(*op) == Ability::Missing)
            .collect()
    }

    /// Requests of which it is not known whether the store heeds their condition.
    pub fn unknown(&self) -> Vec<StoreOp> {
        let unknown = CHANGES.into_iter();
        unknown
            .filter(|op| self.of(*op) == Ability::Unknown)
            .collect()
    }

    fn missing_or_unknown(&self) -> usize {
        let changes = CHANGES.into_iter();
        changes.filter(|op| self.of(*op) != Ability::Heeded).count()
    }
}

/// To be told once a mount.
pub fn tell_refused_bulk_deletes(refusal: &StoreError) {
    tracing::warn!(error = %refusal, "this store refuses bulk deletes: objects are deleted one by one");
}

/// To be told once a mount.
pub fn tell_no_copies(refusal: Option<&StoreError>) {
    let error = refusal.map(tracing::field::display);
    tracing::warn!(
        error,
        "this store has no CopyObject: files that are renamed or changed in their attributes are read and sent again"
    );
}

/// What is known of the store now; shared by who asks it and who sends changes.
#[derive(Debug, Default)]
pub struct KnownAbilities {
    found: Mutex<StoreAbilities>,
    unanswered_bulk: Mutex<UnansweredBulk>,
}

/// Bulk deletes that got no answer while a single one did.
#[derive(Debug, Default)]
struct UnansweredBulk {
    /// One after the other.
    count: u32,
    last: Option<Instant>,
    is_told: bool,
}

impl KnownAbilities {
    pub fn new(abilities: StoreAbilities) -> Self {
        Self {
            found: Mutex::new(abilities),
            unanswered_bulk: Mutex::default(),
        }
    }

    pub fn get(&self) -> StoreAbilities {
        let found = *self.found.lock();
        match self.unanswered_bulk.lock().is_left_out() {
            true => StoreAbilities {
                bulk_deletes: BulkDeletes::Refused,
                ..found
            },
            false => found,
        }
    }

    /// The store has refused a condition as something that it does not know.
    pub fn lacks(&self, op: StoreOp) {
        self.found.lock().set(op, Ability::Missing);
    }

    /// It has taken the same without the condition.
    pub fn tell_lacking_condition(op: StoreOp) {
        tracing::warn!(%op, "this store has no such conditional request: comparing before sending");
    }

    /// The store has refused a change on a condition that does not hold.
    pub fn heeds(&self, op: StoreOp) {
        self.found.lock().set(op, Ability::Heeded);
    }

    /// What was not known is by now, as far as that was found out; whether anything is new.
    pub fn learn(&self, found: &StoreAbilities) -> bool {
        let mut known = self.found.lock();
        let before = *known;
        for op in known.unknown() {
            known.set(op, found.of(op));
        }
        if found.bulk_deletes == BulkDeletes::Refused {
            known.bulk_deletes = BulkDeletes::Refused;
        }
        if found.copies == Copies::Refused {
            known.copies = Copies::Refused;
        }
        *known != before
    }

    pub fn heeds_all(&self) -> bool {
        self.get().missing_or_unknown() == 0
    }

    /// The store has refused a bulk delete, and taken its objects one by one.
    pub fn refuses_bulk_deletes(&self, refusal: &StoreError) {
        let mut known = self.found.lock();
        if known.bulk_deletes != BulkDeletes::Refused {
            known.bulk_deletes = BulkDeletes::Refused;
            tell_refused_bulk_deletes(refusal);
        }
    }

    /// The store has refused a copy, without a condition too.
    pub fn refuses_copies(&self, refusal: &StoreError) {
        let before = std::mem::replace(&mut self.found.lock().copies, Copies::Refused);
        if before != Copies::Refused {
            tell_no_copies(Some(refusal));
        }
    }

    /// A bulk delete was answered.
    pub fn takes_bulk_deletes(&self) {
        self.unanswered_bulk.lock().count = 0;
    }

    /// A bulk delete that was sent then got no answer that can be read, and a single one
    /// did since. Whether objects go one by one from now on, for `BULK_PAUSE`.
    pub fn leaves_bulk_deletes(&self, error: &StoreError, sent: Instant) -> bool {
        let mut unanswered = self.unanswered_bulk.lock();
        // Those of one moment are one failure.
        if unanswered.last.is_none_or(|last| last <= sent) {
            unanswered.count = unanswered.count.saturating_add(1);
            unanswered.last = Some(Instant::now());
        }
        let is_left_out = unanswered.is_left_out();
        if is_left_out && !std::mem::replace(&mut unanswered.is_told, true) {
            tracing::warn!(%error, "this store answers single deletes, and no bulk delete: objects are deleted one by one");
        }
        is_left_out
    }
}

impl UnansweredBulk {
    fn is_left_out(&self) -> bool {
        let is_recent = self.last.is_some_and(|last| last.elapsed() < BULK_PAUSE);
        self.count >= UNANSWERED_LIMIT && is_recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_later_replaces_only_what_was_not_known() {
        let known = KnownAbilities::new(StoreAbilities {
            put: Ability::Missing,
            ..StoreAbilities::default()
        });
        assert!(!known.learn(&StoreAbilities::default()));
        assert!(known.learn(&StoreAbilities::ALL));
        assert_eq!(known.get().missing(), [StoreOp::Put]);
        assert!(known.get().unknown().is_empty());
        assert!(!known.learn(&StoreAbilities::ALL));
    }
}
