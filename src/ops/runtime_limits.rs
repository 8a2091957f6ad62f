//! What can be changed while the mount serves, and what waits in it.

use std::sync::atomic::Ordering;

use super::Ops;
use crate::namespace::Coherence;
use crate::vocabulary::Ino;

/// Settings that hold from the moment they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeLimits {
    pub coherence: Coherence,
    /// A directory rename of more objects is refused with `CrossDevice`.
    pub max_rename_objects: u64,
    pub spool_limit_bytes: u64,
}

/// What S3 does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingWork {
    /// Files whose upload no system call waits for.
    pub files: usize,
    /// Names that are gone here and not yet in S3.
    pub deletes: usize,
    /// Bytes staged, those of files that are open included.
    pub staged_bytes: u64,
}

/// A process that was seen to open a file that is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opener {
    pub pid: u32,
    /// Below the mountpoint.
    pub path: String,
}

impl Ops {
    /// Who opened what is open; a process may have ended and left it to another.
    pub fn openers(&self) -> Vec<Opener> {
        let mut found = Vec::new();
        for handle in self.handles.files() {
            let path = self.path_of(handle.file.inode.ino);
            let writers = handle.writers.lock();
            found.extend(writers.processes().map(|pid| Opener {
                pid,
                path: path.clone(),
            }));
        }
        found
    }

    fn path_of(&self, ino: Ino) -> String {
        let mut names: Vec<String> = Vec::new();
        let mut at = ino;
        while let Some((parent, name)) = self.namespace.table().place(at) {
            names.push(name.as_str().to_owned());
            at = parent;
        }
        names.reverse();
        names.join("/")
    }

    pub fn tune(&self, runtime_limits: RuntimeLimits) {
        self.namespace.set_coherence(runtime_limits.coherence);
        self.stage_factory
            .spool
            .set_limit(runtime_limits.spool_limit_bytes);
        self.copies
            .limit
            .store(runtime_limits.max_rename_objects, Ordering::Relaxed);
    }

    pub fn waiting(&self) -> PendingWork {
        PendingWork {
            files: self.writeback.waiting(),
            deletes: self.store.waiting(),
            staged_bytes: self.stage_factory.spool.staged_bytes(),
        }
    }
}
