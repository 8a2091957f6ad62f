//! What can be changed while the mount serves, and what waits in it.

use std::sync::atomic::Ordering;

use super::Ops;
use crate::namespace::Coherence;

/// Settings that hold from the moment they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    pub coherence: Coherence,
    /// A directory rename of more objects is refused with `CrossDevice`.
    pub max_rename_objects: u64,
    pub spool_limit_bytes: u64,
}

/// What S3 does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Files whose upload no system call waits for.
    pub files: usize,
    /// Names that are gone here and not yet in S3.
    pub deletes: usize,
    /// Bytes staged, those of files that are open included.
    pub staged_bytes: u64,
}

impl Ops {
    pub fn tune(&self, tuning: Tuning) {
        self.namespace.set_coherence(tuning.coherence);
        self.desk.spool.set_limit(tuning.spool_limit_bytes);
        self.max_rename_objects
            .store(tuning.max_rename_objects, Ordering::Relaxed);
    }

    pub fn waiting(&self) -> Waiting {
        Waiting {
            files: self.backlog.waiting(),
            deletes: self.store.waiting(),
            staged_bytes: self.desk.spool.staged_bytes(),
        }
    }
}
