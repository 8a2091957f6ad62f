//! Which changes of an open file's bytes are safe, and whose close makes them so.
//!
//! A flush uploads what came through its handle. What came through none (a
//! shared mapping, truncate(2) by name while others write) every handle answers
//! for through which it may have come.

use crate::vocabulary::OpenMode;

/// Counts the changes of an open file's bytes, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeNumber(u64);

impl ChangeNumber {
    /// Whether there was a change at all.
    pub fn is_some(self) -> bool {
        self.0 > 0
    }

    #[cfg(test)]
    pub fn of_test(number: u64) -> Self {
        Self(number)
    }
}

/// How far the changes of a file have come.
#[derive(Debug, Default)]
pub struct Changes {
    last: ChangeNumber,
    sealed: ChangeNumber,
    /// All up to this one are as safe as the mount's durability wants it.
    safe: ChangeNumber,
    /// The last one by way of a shared mapping.
    mapped: ChangeNumber,
    /// The last one by name that is left to the writers.
    named: ChangeNumber,
}

/// A change that came through no handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// By way of a mapping: of a handle that reads and writes.
    Mapped,
    /// By name.
    Named,
}

impl Changes {
    /// Of a file that a predecessor had open: any of them may not be safe.
    pub fn since_before() -> Self {
        Self {
            last: ChangeNumber(1),
            ..Self::default()
        }
    }

    pub fn begin(&mut self) -> ChangeNumber {
        self.last.0 += 1;
        self.last
    }

    /// All changes so far are sealed.
    pub fn seal(&mut self) {
        self.sealed = self.last;
    }

    /// What is sealed is safe.
    pub fn make_safe(&mut self) {
        self.safe = self.safe.max(self.sealed);
    }

    /// What was taken for safe is not: every handle that changed the file is to tell.
    pub fn none_is_safe(&mut self) {
        self.safe = ChangeNumber::default();
    }

    /// The last change, through whatever handle.
    pub fn last(&self) -> ChangeNumber {
        self.last
    }

    /// Whether a change is not yet as safe as the mount's durability wants it.
    pub fn is_unsafe(&self, change: ChangeNumber) -> bool {
        change > self.safe
    }

    /// A change came through no handle.
    pub fn share(&mut self, how: Shared, change: ChangeNumber) {
        let last = match how {
            Shared::Mapped => &mut self.mapped,
            Shared::Named => &mut self.named,
        };
        *last = change.max(*last);
    }

    /// Whether a handle of this mode has to make handleless changes safe.
    pub fn has_shared(&self, mode: OpenMode) -> bool {
        let mapped = mode == OpenMode::ReadWrite && self.mapped > self.safe;
        let named = mode.writes() && self.named > self.safe;
        mapped || named
    }
}
