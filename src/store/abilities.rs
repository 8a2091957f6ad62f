//! Which conditions a store heeds.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::StoreOp;

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

/// The conditions that each kind of change may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoreAbilities {
    pub put: Ability,
    pub complete: Ability,
    pub copy: Ability,
    pub delete: Ability,
    pub delete_many: Ability,
}

impl StoreAbilities {
    pub const ALL: Self = Self {
        put: Ability::Heeded,
        complete: Ability::Heeded,
        copy: Ability::Heeded,
        delete: Ability::Heeded,
        delete_many: Ability::Heeded,
    };

    /// Of a kind of change; other requests need no ability.
    pub fn of(&self, op: StoreOp) -> Ability {
        match op {
            StoreOp::Put => self.put,
            StoreOp::CompleteMultipart => self.complete,
            StoreOp::Copy => self.copy,
            StoreOp::Delete => self.delete,
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
        let changes = [
            StoreOp::Put,
            StoreOp::CompleteMultipart,
            StoreOp::Copy,
            StoreOp::Delete,
            StoreOp::DeleteMany,
        ];
        let missing = changes.into_iter();
        missing
            .filter(|op| self.of(*op) == Ability::Missing)
            .collect()
    }
}

/// What is known of the store now; shared by who asks it and who sends changes.
#[derive(Debug, Default)]
pub struct KnownAbilities(Mutex<StoreAbilities>);

impl KnownAbilities {
    pub fn new(abilities: StoreAbilities) -> Self {
        Self(Mutex::new(abilities))
    }

    pub fn get(&self) -> StoreAbilities {
        *self.0.lock()
    }

    /// The store has refused a condition as something that it does not know.
    pub fn lacks(&self, op: StoreOp) {
        self.0.lock().set(op, Ability::Missing);
        tracing::warn!(%op, "this store has no such conditional request: comparing before sending");
    }

    pub fn heeds_all(&self) -> bool {
        self.get() == StoreAbilities::ALL
    }
}
