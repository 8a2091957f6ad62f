//! What a plan is to do, and what it comes to.

use serde::Serialize;

use super::proof::Proof;
use super::report::Tally;

/// What is to become of what is not the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// It is named.
    Verify(Sides),
    /// The bucket is to become as the directory is.
    Import,
    /// The directory is to become as the bucket is.
    Export,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    Both,
    /// What only the bucket has is no difference.
    Directory,
}

/// Whether what only the target has is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extra {
    Keep,
    Delete,
}

/// Counts of a plan, before anything is done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PlanCounts {
    pub new: Tally,
    pub changed: Tally,
    pub equal: Tally,
    /// Of those, the ones that only their size and time say it of.
    pub by_size_and_time: Tally,
    pub to_delete: Tally,
    /// By a policy.
    pub refused: Tally,
    /// They could not be compared.
    pub failed: Tally,
    /// Names that may hide others, which nobody has chosen to skip or which do not tell what
    /// they hide: directories that cannot be read, symlinks that are not followed.
    pub unseen: u64,
    pub directories: u64,
    /// Names of files that have more than one.
    pub hard_links: u64,
    /// Files on the side that changes.
    pub target: u64,
    /// Files on the side that is taken as it is.
    pub source: u64,
}

impl PlanCounts {
    pub fn add_equal(&mut self, bytes: u64, proof: Proof) {
        self.equal.add(bytes);
        if proof == Proof::SizeAndTime {
            self.by_size_and_time.add(bytes);
        }
    }
}
