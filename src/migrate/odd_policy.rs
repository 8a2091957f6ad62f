//! What becomes of names that cannot be in both places.

use clap::ValueEnum;

use super::entry::Odd;
use super::report::{Line, Symbol};

/// What to do with names that cannot be in both places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OddPolicy {
    /// Name them, leave them out, and exit with 3
    Refuse,
    /// Name them and leave them out
    Skip,
}

#[derive(Debug, Clone, Copy)]
pub struct OddPolicies {
    pub symlinks: OddPolicy,
    pub special: OddPolicy,
    pub unreadable: OddPolicy,
    pub bad_names: OddPolicy,
}

impl OddPolicies {
    #[cfg(test)]
    pub fn refusing() -> Self {
        Self {
            symlinks: OddPolicy::Refuse,
            special: OddPolicy::Refuse,
            unreadable: OddPolicy::Refuse,
            bad_names: OddPolicy::Refuse,
        }
    }

    /// Where there are no files, and so nothing but names.
    pub fn of_names(bad_names: OddPolicy) -> Self {
        Self {
            symlinks: OddPolicy::Refuse,
            special: OddPolicy::Refuse,
            unreadable: OddPolicy::Refuse,
            bad_names,
        }
    }

    pub fn of(&self, odd: Odd) -> OddPolicy {
        match odd {
            Odd::Symlink => self.symlinks,
            Odd::Special => self.special,
            Odd::Unreadable => self.unreadable,
            Odd::BadName => self.bad_names,
            Odd::BesideDirectory => OddPolicy::Refuse,
        }
    }

    /// What is told of one that is on this side.
    pub fn line(&self, side: Symbol, path: &str, odd: Odd, why: &str) -> Line {
        let line = match self.of(odd) {
            OddPolicy::Refuse => Line::error(path, why),
            OddPolicy::Skip => Line::new(side, path, 0).because(format!("skipped: {why}")),
        };
        Line {
            odd: Some(odd),
            ..line
        }
    }
}
