//! Which conditions a store heeds, and whether it has bulk deletes, copies and keys of
//! directories.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Affected, Key, SkippedRequests, StoreError, StoreErrorKind, StoreOp};

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

/// Whether a store keeps an empty object whose key ends in `/`, and lists it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarkerKeys {
    Kept,
    /// It refuses them, or makes something else of them.
    Refused,
    /// Nobody has asked, or the answer told nothing.
    #[default]
    Unknown,
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
    #[serde(default)]
    pub marker_keys: MarkerKeys,
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
        marker_keys: MarkerKeys::Kept,
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
        marker_keys: MarkerKeys::Kept,
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

    /// Whether there is nothing to ask the store for.
    pub fn is_known(&self) -> bool {
        self.unknown().is_empty() && self.marker_keys != MarkerKeys::Unknown
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
pub fn warn_no_bulk_deletes(refusal: &StoreError) {
    tracing::warn!(error = %refusal, "this store refuses bulk deletes: objects are deleted one by one");
}

/// To be told once a mount.
pub fn warn_no_copies(refusal: Option<&StoreError>) {
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
    bulk_deletes: SkippedRequests,
    copies: SkippedRequests,
}

impl KnownAbilities {
    pub fn new(abilities: StoreAbilities) -> Self {
        Self {
            found: Mutex::new(abilities),
            ..Self::default()
        }
    }

    pub fn get(&self) -> StoreAbilities {
        let mut now = *self.found.lock();
        if self.bulk_deletes.skips_all() {
            now.bulk_deletes = BulkDeletes::Refused;
        }
        if self.copies.skips_all() {
            now.copies = Copies::Refused;
        }
        now
    }

    /// The store has refused a condition as something that it does not know.
    pub fn lacks(&self, op: StoreOp) {
        self.found.lock().set(op, Ability::Missing);
    }

    /// It refuses the same without the condition: nothing is known that was not before.
    pub fn put_back(&self, op: StoreOp, before: Ability) {
        self.found.lock().set(op, before);
    }

    /// It has taken the same without the condition.
    pub fn warn_no_condition(op: StoreOp) {
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
        if known.marker_keys == MarkerKeys::Unknown {
            known.marker_keys = found.marker_keys;
        }
        *known != before
    }

    pub fn heeds_all(&self) -> bool {
        self.get().missing_or_unknown() == 0
    }

    /// The store has refused a bulk delete that was sent then, and taken its objects one by
    /// one. One of them may be the reason, such as a key that XML cannot hold.
    pub fn refuses_bulk_delete(&self, refusal: &StoreError, sent: Instant) {
        if refusal.kind == StoreErrorKind::Unsupported {
            let mut found = self.found.lock();
            let before = std::mem::replace(&mut found.bulk_deletes, BulkDeletes::Refused);
            if before != BulkDeletes::Refused {
                warn_no_bulk_deletes(refusal);
            }
            return;
        }
        match self.bulk_deletes.failed_for_many(sent) {
            Affected::Object { is_first: true } => {
                tracing::warn!(error = %refusal, "the store refused a bulk delete: its objects are deleted one by one");
            }
            Affected::Store { is_first: true } => warn_no_bulk_deletes(refusal),
            Affected::Object { .. } | Affected::Store { .. } => {}
        }
    }

    /// Whether no copy of this object is to be asked for.
    pub fn leaves_out_copies_of(&self, source: &Key) -> bool {
        self.found.lock().copies == Copies::Refused || self.copies.skips(source)
    }

    /// The store has refused a copy of this object, without a condition too.
    pub fn refuses_copy(&self, refusal: &StoreError, source: &Key) {
        match self.copies.failed_for(source) {
            Affected::Object { is_first: true } => {
                tracing::warn!(error = %refusal, "the store refused to copy an object: it is read and sent again");
            }
            Affected::Store { is_first: true } => warn_no_copies(Some(refusal)),
            Affected::Object { .. } | Affected::Store { .. } => {}
        }
    }

    /// A copy was made.
    pub fn takes_copies(&self) {
        self.copies.answered();
    }

    /// A bulk delete was answered.
    pub fn takes_bulk_deletes(&self) {
        self.bulk_deletes.answered();
    }

    /// A bulk delete that was sent then got no answer that can be read, and a single one
    /// did since. Whether objects go one by one from now on.
    pub fn leaves_bulk_deletes(&self, error: &StoreError, sent: Instant) -> bool {
        let affected = self.bulk_deletes.failed_for_many(sent);
        if affected == (Affected::Store { is_first: true }) {
            tracing::warn!(%error, "single deletes are answered, and bulk deletes are not: objects are deleted one by one; bulk deletes are tried again in ten minutes");
        }
        matches!(affected, Affected::Store { .. })
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
