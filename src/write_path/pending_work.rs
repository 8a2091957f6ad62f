//! How much waits in a spool.

use std::fmt;

/// What waits in a spool for its place.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PendingWork {
    /// Those that are closed or synced, and those that were open when a daemon died.
    pub files: usize,
    pub bytes: u64,
    pub deletes: usize,
    pub renames: usize,
}

impl PendingWork {
    pub fn is_nothing(&self) -> bool {
        self.files + self.deletes + self.renames == 0
    }
}

impl fmt::Display for PendingWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        let size = bytesize::ByteSize(self.bytes);
        let (files, deletes) = (count(self.files, "file"), count(self.deletes, "delete"));
        let renames = count(self.renames, "rename");
        write!(f, "{files} ({size}), {deletes} and {renames}")
    }
}
