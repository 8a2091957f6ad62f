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

/// What to do with files that have more than one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HardLinks {
    /// Name them, and send each name as an object of its own
    Each,
    /// Name them, leave them out, and exit with 3
    Refuse,
    /// Name them and leave them out
    Skip,
}

/// What becomes of FIFOs and sockets of a bucket. Devices are never made: they would lend
/// privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// They are named by a policy.
    Named,
    /// They are made: a directory without one does not have everything.
    Made,
}

#[derive(Debug, Clone, Copy)]
pub struct OddPolicies {
    pub symlinks: OddPolicy,
    pub special: OddPolicy,
    pub specials: Specials,
    pub unreadable: OddPolicy,
    pub bad_names: OddPolicy,
    pub beside: OddPolicy,
    pub hard_links: HardLinks,
}

impl OddPolicies {
    #[cfg(test)]
    pub fn refusing() -> Self {
        Self {
            symlinks: OddPolicy::Refuse,
            special: OddPolicy::Refuse,
            specials: Specials::Named,
            unreadable: OddPolicy::Refuse,
            bad_names: OddPolicy::Refuse,
            beside: OddPolicy::Refuse,
            hard_links: HardLinks::Each,
        }
    }

    /// Where a bucket has nothing odd but names.
    pub fn of_names(bad_names: OddPolicy) -> Self {
        Self {
            symlinks: OddPolicy::Refuse,
            special: OddPolicy::Refuse,
            specials: Specials::Made,
            unreadable: OddPolicy::Refuse,
            bad_names,
            beside: OddPolicy::Refuse,
            hard_links: HardLinks::Each,
        }
    }

    /// Whether a directory is to have all that a mount shows, whatever is in the way of it.
    pub fn wants_all(&self) -> bool {
        self.specials == Specials::Made
    }

    pub fn of(&self, odd: Odd) -> OddPolicy {
        match odd {
            Odd::Symlink => self.symlinks,
            Odd::Special => self.special,
            Odd::Unreadable => self.unreadable,
            Odd::BadName => self.bad_names,
            Odd::BesideDirectory => self.beside,
            Odd::HardLink => match self.hard_links {
                HardLinks::Refuse => OddPolicy::Refuse,
                HardLinks::Each | HardLinks::Skip => OddPolicy::Skip,
            },
            // The next export removes it.
            Odd::Unfinished => OddPolicy::Skip,
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
