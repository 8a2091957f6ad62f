//! What can be changed while the mount serves, and what waits in it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Ops;
use super::rename::ObjectCopies;
use super::unsent::{Unsent, path_of, unsent};
use crate::error::FsError;
use crate::files::{Handles, OpenFiles, StageFactory, Thread};
use crate::namespace::{Coherence, Name, Namespace, Pin, forget_below};
use crate::read_path::{DiskUse, NeighbourUse, Reader, TierUse};
use crate::store::DeleteQueue;
use crate::vocabulary::{Ino, ROOT};
use crate::writeback::Writeback;

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
    /// 0 where it could not be told.
    pub pid: u32,
    /// Below the mountpoint.
    pub path: String,
}

/// Which of the open files are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenFor {
    Anything,
    /// What may change a file, or uploads one when it is closed.
    Writing,
}

/// What a call changes by a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangedByWriter {
    /// It opens a file for writing.
    Opened,
    /// This file, or a name in this directory.
    Named(Ino),
}

/// Whether a call may be part of what a writer does before it closes its file. One
/// that opens a file is its own thread's alone: else the threads of a process would
/// have files open for ever, in turn.
pub fn is_by_writer(ops: &Ops, thread: Thread, changed: ChangedByWriter) -> bool {
    let handles = ops.handles.files();
    let mut handles = handles.iter().filter(|handle| handle.uploads_on_close);
    match changed {
        ChangedByWriter::Opened => handles.any(|handle| handle.writers.lock().has_used(thread)),
        ChangedByWriter::Named(ino) => handles.any(|handle| {
            handle.file.inode.ino == ino || handle.writers.lock().may_include(thread)
        }),
    }
}

/// What an operator asks of a mount and changes of it.
#[derive(Debug)]
pub struct Controls {
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub reader: Arc<Reader>,
    pub stage_factory: Arc<StageFactory>,
    pub handles: Arc<Handles>,
    pub files: Arc<OpenFiles>,
    pub writeback: Arc<Writeback>,
    pub copies: Arc<ObjectCopies>,
}

impl Controls {
    /// Who opened what is open, at least one of each handle; a process may have ended and
    /// left it to another.
    pub fn openers(&self, open_for: OpenFor) -> Vec<Opener> {
        let mut found = Vec::new();
        for handle in self.handles.files() {
            if open_for == OpenFor::Writing && !handle.uploads_on_close {
                continue;
            }
            let path = path_of(self.namespace.table(), handle.file.inode.ino);
            let mut processes: Vec<u32> = handle.writers.lock().processes().collect();
            if processes.is_empty() {
                processes.push(0);
            }
            found.extend(processes.into_iter().map(|pid| Opener {
                pid,
                path: path.clone(),
            }));
        }
        found
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

    /// Files below an inode, or it itself, that S3 does not have as they are here.
    pub fn unsent(&self, below: Ino) -> Unsent {
        unsent(&self.files, self.namespace.table(), below)
    }

    /// The inode at a path below the mountpoint. What is known is not asked for.
    ///
    /// Errors: `NotFound`, `InvalidArgument`; the store's.
    pub async fn find(&self, path: &str) -> Result<Pin, FsError> {
        let mut at = self.namespace.inode(ROOT)?;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            let name = Name::from_segment(segment).ok_or(FsError::InvalidArgument)?;
            at = match self.namespace.table().child(at.ino, &name) {
                Some(child) => child,
                None => self.namespace.lookup(&at, &name).await?,
            };
        }
        Ok(at)
    }

    /// Has what is known of an inode, and of all below it, asked for again. Returns of
    /// how many; the kernel is waited for until the deadline at most.
    pub async fn refresh(&self, inode: Pin, deadline: Instant) -> usize {
        forget_below(&self.namespace, inode, deadline).await
    }

    /// When the kernel's session began.
    pub fn mounted_at(&self) -> SystemTime {
        self.writeback.mounted_at
    }

    /// Ends the pauses between attempts to upload and to delete.
    pub fn retry_now(&self) {
        self.writeback.retry_now();
        self.store.flush_now();
    }

    /// Whether the last attempt to delete failed.
    pub fn deletes_fail(&self) -> bool {
        self.store.is_failing()
    }

    /// Of the spool; none where its disk alone is the limit.
    pub fn spool_limit_bytes(&self) -> Option<u64> {
        let limit = self.stage_factory.spool.limit_bytes();
        (limit < u64::MAX).then_some(limit)
    }

    /// What the cached blocks in memory are, and what they were good for.
    pub fn memory_tier(&self) -> TierUse {
        self.reader.memory_tier()
    }

    /// The same of those on disk, where there is such a cache.
    pub fn disk_tier(&self) -> Option<DiskUse> {
        self.reader.disk_tier()
    }

    /// Small files that were fetched beside others.
    pub fn neighbour_use(&self) -> NeighbourUse {
        self.reader.neighbour_use()
    }

    pub fn waiting(&self) -> PendingWork {
        PendingWork {
            files: self.writeback.waiting(),
            deletes: self.store.waiting(),
            staged_bytes: self.stage_factory.spool.staged_bytes(),
        }
    }
}
