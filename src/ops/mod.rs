//! Operations: one file a system call; the only place where names, reads and writes
//! meet. And the life of a write, from write(2) to the object.
//!
//! Owns: open files, handles, the order in which the parts are called.
//! Must not know: the FUSE protocol, errno, how the mount came to be.
//!
//! ```text
//!  write(2)        close, fsync           upload begins         S3 confirms
//!  ───────▶ stage ─────────────▶ sealed ─────────────▶ sent? ──────────────▶ object
//!             ▲       │             │ a later seal        │ refused, cancelled
//!             │       ▼             ▼ before it is sent   ▼
//!             │   new stage on   superseded:          revert_seal: the bytes are
//!             │   top (writes    discarded            the file's stage again, or
//!             │   go on)                              in lost+found
//!             └── copy_up: bytes of the lower layer that an edit needs
//! ```
//!
//! A file is a *stage* over a *lower layer* (`LowerLayer`): nothing, an object, or a
//! sealed stage over another lower layer. At most two sealed stages wait: one whose
//! upload was begun, which S3 may have, and over it one that takes up all that was
//! sealed since: of the two the shorter is copied into the longer (`write_path::merge`).
//!
//! | event | lock | journal record | failpoint | what recovery does |
//! |---|---|---|---|---|
//! | first write | content | `begun` | `write_staged` | open file: lost+found |
//! | seal, `--durability=disk` | `seal_lock` | `sealed`, synced after bytes and directory | `seal_stage_synced`, `seal_directory_synced`, `seal_journaled` | uploads it |
//! | seal, `--durability=s3` | `seal_lock` | `sealed`, not synced | `seal_journaled` | uploads it where the daemon died; a loss of power may lose it: close(2) had not returned |
//! | two stages become one | `seal_lock` | `absorbed`, `done` | `absorb_journaled`, `absorb_copied`, `absorb_synced`, `seal_moot_left` | copies again |
//! | multipart upload begins | `upload_lock` | `uploading`, `sending` | `parts_begin` | lists the parts, sends the rest |
//! | completion | `upload_lock` | `completing` with the ETag that it makes | `complete_begins` | HEAD: that ETag is ours, done |
//! | S3 confirms | `upload_lock` | | `put_answered`, `publish_recorded` | conditions tell: sent again, 412, found to be ours |
//! | stage removed | `upload_lock` | `done` | `publish_stage_removed`, `publish_discarded` | nothing is left to do |
//! | rename | subtrees, both `upload_lock`s | `renaming`, `sealed` again under the new key, `renamed` | `rename_*` | finishes it in the background |
//! | unlink | subtrees | `doomed` | `unlink_deleted` | deletes the version that is expected |
//!
//! Every request that changes a key carries the version that the change is based on
//! (`conditions`). After a refusal (412) the newer version is looked at: our own late
//! twin is success; a whole replacement is repeated on top of it; an edit is a lost
//! race (ESTALE at close, bytes in lost+found).
//!
//! Lock order: `subtrees` (shared by whatever changes one name or its object, alone
//! for a directory that moves; all that a request needs at once), then one file's
//! `upload_lock` (two only in rename, lower inode first), then its `seal_lock`, then
//! `OpenFiles`, then one file's content, then the namespace's locks. Only
//! `subtrees`, `upload_lock` and, after them, the `create_lock` in which `write_path`
//! begins an upload are held across a request. What is sealed for the local disk takes
//! no `subtrees`: who moves the file tells the journal of its new place.

mod attr;
mod broken_off;
mod cancel;
mod changes;
mod conditions;
mod content;
mod content_types;
mod copy_file_range;
mod create;
mod early_parts;
mod failed_upload;
mod fallocate;
mod flush;
mod fsync;
mod getattr;
mod given_up;
mod handles;
mod held;
mod interruption;
mod killed_thread;
mod lookup;
mod make_room;
mod mkdir;
mod moved_object;
mod open;
mod open_file;
mod open_files;
mod opendir;
mod privileges;
mod queue;
mod read;
mod readdir;
mod release;
mod removal;
mod rename;
mod rename_copies;
mod rename_dir;
mod rename_file;
mod rename_recovery;
mod resent;
mod rmdir;
mod runtime_limits;
mod sealing;
mod setattr;
mod shutdown;
mod special_files;
mod statfs;
mod store_attributes;
mod subtree_locks;
mod symlink;
mod take_over;
mod unlink;
mod upload;
mod write;
mod writers;
mod xattr;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

pub use attr::{Attr, AttrValidity, Caller, Delivery, FixedAttributes, KernelRequest};
pub use content_types::ContentTypes;
pub use copy_file_range::CopyEnd;
pub use create::{CreateRequest, Created, Exclusive, NodeKind};
pub use fallocate::Allocation;
pub use handles::HandleId;
pub use interruption::{PendingCall, run_for};
pub use lookup::Entry;
pub use open::{CachedPages, Opened, Truncate};
pub use queue::QueueReceivers;
pub use readdir::{BufferSpace, DirEntry, DirEntryPlus};
pub use rename::RenameMode;
pub use runtime_limits::{Opener, PendingWork, RuntimeLimits};
pub use setattr::{AttrChange, TimeChange};
pub use special_files::SpecialFile;
pub use statfs::FsStats;
pub use write::{Privileges, WriteOrigin};
pub use writers::Thread;
pub use xattr::XattrMode;

use parking_lot::Mutex;

use crate::error::FsError;
use crate::namespace::Namespace;
use crate::read_path::Reader;
use crate::session_state::SessionLog;
use crate::store::{DeleteQueue, Kept};
use crate::write_path::{Copier, Durable, Spool, Uploader};

use early_parts::AheadQueue;
use handles::Handles;
use held::AwaitedOpens;
use open_file::{OpenFile, StageFactory};
use open_files::OpenFiles;
use queue::UploadQueue;
use removal::Removals;
use rename_recovery::Unfinished;
use subtree_locks::SubtreeLocks;

/// Whether the mount takes changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}

/// When an exclusive create (O_EXCL) learns that another client was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExclusiveCreate {
    /// At close: the upload fails.
    Lazy,
    /// At open, by an empty object that claims the name.
    Strict,
}

/// When close(2) and fsync(2) return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once S3 has the object.
    S3,
    /// Once the local disk has the bytes; the upload follows.
    Disk,
}

impl Durability {
    /// Whether what is told the journal must outlive a power loss.
    fn durable(self) -> Durable {
        match self {
            Self::S3 => Durable::No,
            Self::Disk => Durable::Yes,
        }
    }
}

/// What the operations need to know of the configuration.
#[derive(Debug, Clone)]
pub struct OpsSettings {
    /// Where the objects are, in words.
    pub place: String,
    pub attributes: FixedAttributes,
    pub access: Access,
    /// At first: see `RuntimeLimits`.
    pub max_rename_objects: u64,
    pub exclusive_create: ExclusiveCreate,
    pub durability: Durability,
    pub content_types: ContentTypes,
    /// Longest wait of a system call for a rename that a predecessor began.
    pub patience: Duration,
}

/// Everything below the FUSE adapter, composed.
#[derive(Debug)]
pub struct Parts {
    pub store: Arc<DeleteQueue>,
    pub namespace: Namespace,
    pub reader: Arc<Reader>,
    pub spool: Spool,
    pub uploader: Uploader,
    pub copier: Copier,
    pub session_log: Arc<SessionLog>,
    /// When the kernel's session began.
    pub mounted_at: SystemTime,
}

/// The file system's operations.
#[derive(Debug)]
pub struct Ops {
    store: Arc<DeleteQueue>,
    namespace: Namespace,
    reader: Arc<Reader>,
    desk: Arc<StageFactory>,
    uploader: Uploader,
    copier: Copier,
    settings: OpsSettings,
    max_rename_objects: AtomicU64,
    mounted_at: SystemTime,
    /// When this daemon began.
    began_at: tokio::time::Instant,
    files: OpenFiles,
    backlog: UploadQueue,
    ahead: AheadQueue,
    kept: tokio::sync::mpsc::UnboundedSender<(Arc<OpenFile>, Kept)>,
    removals: Removals,
    handles: Handles,
    awaited_opens: AwaitedOpens,
    subtrees: Arc<SubtreeLocks>,
    /// For the task that finishes them.
    unfinished: Mutex<Vec<Unfinished>>,
}

impl Ops {
    /// `QueueReceivers` goes to `upload_in_background`.
    pub fn new(parts: Parts, settings: OpsSettings) -> (Self, QueueReceivers) {
        let desk = Arc::new(StageFactory {
            spool: parts.spool,
            keys: parts.namespace.keys().clone(),
            session_log: parts.session_log.clone(),
        });
        let (ahead, parts_queued) = tokio::sync::mpsc::unbounded_channel();
        let (kept, kept_queued) = tokio::sync::mpsc::unbounded_channel();
        let (backlog, queued) = UploadQueue::new(parts_queued, kept_queued);
        let ops = Self {
            subtrees: SubtreeLocks::new(parts.namespace.table().clone()),
            unfinished: Mutex::default(),
            store: parts.store,
            namespace: parts.namespace,
            reader: parts.reader,
            files: OpenFiles::new(desk.clone()),
            desk,
            backlog,
            ahead,
            kept,
            removals: Removals::default(),
            uploader: parts.uploader,
            copier: parts.copier,
            max_rename_objects: AtomicU64::new(settings.max_rename_objects),
            settings,
            mounted_at: parts.mounted_at,
            began_at: tokio::time::Instant::now(),
            handles: Handles::new(parts.session_log),
            awaited_opens: AwaitedOpens::default(),
        };
        (ops, queued)
    }

    /// Whether a listing of a directory knows its entries' attributes.
    pub fn lists_attributes(&self) -> bool {
        !self.namespace.stores_attributes()
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Errors: `ReadOnly` on a read-only mount.
    fn check_writable(&self) -> Result<(), FsError> {
        match self.settings.access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(FsError::ReadOnly),
        }
    }
}
