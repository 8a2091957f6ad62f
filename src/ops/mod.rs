//! System calls: one file each; the only place where names, reads and writes meet.
//!
//! Owns: the order in which the parts below are called. A system call is a function
//! that is given the mount's `Ops`, whose fields are seen in this folder alone. What
//! several steps of one share is a part (`FileMaker`, `FileRemover`, ...): it names
//! what it depends on, and does not know `Ops`.
//! Must not know: the FUSE protocol, errno, how the mount came to be.

mod change;
mod compose;
mod copy_file_range;
mod core_parts;
mod create;
mod dir_reader;
mod entry;
mod fallocate;
mod file_maker;
mod file_remover;
mod flush;
mod fsync;
mod getattr;
mod lookup;
mod mkdir;
mod node_maker;
mod object_copier;
mod open;
mod opendir;
mod read;
mod readdir;
mod release;
mod rename;
mod resent;
mod rmdir;
mod runtime_limits;
mod setattr;
mod shutdown;
mod special_files;
mod statfs;
mod symlink;
mod takeover;
mod unlink;
mod unsent;
mod write;
mod xattr;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{
    AttributeView, ContentTypes, Durability, FixedAttributes, Handles, KernelRequest, NamedOpens,
    OpenFiles, StageFactory,
};
use crate::namespace::{Namespace, SubtreeLocks};
use crate::read_path::Reader;
use crate::session_state::SessionLog;
use crate::store::DeleteQueue;
use crate::task::kept_up;
use crate::write_path::{Copier, Scratch, Spool, Uploader};
use crate::writeback::{
    AttributeWriter, Deletes, EarlyParts, Predecessor, RoomMaker, Uploads, Writeback,
};
use change::NameChanges;
use dir_reader::DirReader;
use file_maker::FileMaker;
use file_remover::FileRemover;
use node_maker::NodeMaker;
use object_copier::ObjectCopier;
use rename::{RenameRecovery, Renamer};
use resent::ExecutedRequests;

pub use change::Access;
pub use copy_file_range::{CopyEnd, copy_file_range};
pub use create::{CreateRequest, Created, NodeKind, create, mknod};
pub use dir_reader::{BufferSpace, DirEntry, DirEntryPlus};
pub use entry::Entry;
pub use fallocate::{Allocation, fallocate};
pub use file_maker::{Exclusive, ExclusiveCreate};
pub use flush::flush;
pub use fsync::{fsync, fsyncdir};
pub use getattr::getattr;
pub use lookup::{forget, lookup};
pub use mkdir::mkdir;
pub use open::{CachedPages, Opened, Truncate, open};
pub use opendir::{opendir, releasedir};
pub use read::read;
pub use readdir::{readdir, readdirplus};
pub use release::release;
pub use rename::{RenameMode, rename, rest_of_rename};
pub use rmdir::rmdir;
pub use runtime_limits::{
    ChangedByWriter, Controls, OpenFor, Opener, PendingWork, RuntimeLimits, is_by_writer,
};
pub use setattr::{AttrChange, TimeChange, setattr};
pub use shutdown::shutdown;
pub use special_files::SpecialFile;
pub use statfs::{FsStats, statfs};
pub use symlink::{readlink, symlink};
pub use takeover::take_over;
pub use unlink::{rest_of_unlink, unlink};
pub use unsent::{Amount, Unsent, UnsentFile, UnsentState};
pub use write::{Privileges, WriteOrigin, write, write_with_room};
#[cfg(test)]
pub use xattr::own_names as own_attributes;
pub use xattr::{XattrMode, getxattr, listxattr, removexattr, setxattr};

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
    pub max_wait: Duration,
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
    pub scratch: Scratch,
    pub session_log: Arc<SessionLog>,
    /// When the kernel's session began.
    pub mounted_at: SystemTime,
}

/// What the operations of a mount work on.
#[derive(Debug)]
pub struct Ops {
    settings: OpsSettings,
    namespace: Arc<Namespace>,
    store: Arc<DeleteQueue>,
    reader: Arc<Reader>,
    uploader: Arc<Uploader>,
    stage_factory: Arc<StageFactory>,
    subtrees: Arc<SubtreeLocks>,
    predecessor: Arc<Predecessor>,
    executed: Arc<ExecutedRequests>,
    name_changes: NameChanges,
    dir_reader: DirReader,
    file_maker: FileMaker,
    node_maker: NodeMaker,
    file_remover: FileRemover,
    object_copier: ObjectCopier,
    controls: Controls,
    handles: Arc<Handles>,
    files: Arc<OpenFiles>,
    named_opens: Arc<NamedOpens>,
    attributes: Arc<AttributeView>,
    attribute_writer: AttributeWriter,
    uploads: Arc<Uploads>,
    writeback: Arc<Writeback>,
    early_parts: Arc<EarlyParts>,
    room_maker: RoomMaker,
    deletes: Arc<Deletes>,
    renamer: Renamer,
    rename_recovery: Arc<RenameRecovery>,
}

impl Ops {
    /// Runs `operation`, or only `rest` if a predecessor carried the request out.
    pub async fn once<T>(
        &self,
        request: KernelRequest,
        operation: impl Future<Output = Result<T, FsError>>,
        rest: impl Future<Output = Result<T, FsError>>,
    ) -> Result<T, FsError> {
        if self.executed.by_predecessor(request) {
            return rest.await;
        }
        let outcome = operation.await?;
        self.executed.record(request);
        failpoint::at(Point::RequestDone);
        Ok(outcome)
    }

    /// Uploads, deletes and renames what no system call waits for, as long as the
    /// run time lasts.
    pub async fn run_in_background(self: Arc<Self>) {
        let uploader = self.uploader.clone();
        let abort = async move { kept_up("abort uploads", || uploader.abort_queued()).await };
        tokio::spawn(abort);
        tokio::spawn(self.early_parts.clone().send_full_parts());
        tokio::spawn(self.rename_recovery.clone().finish_renames());
        let deletes = self.deletes.clone();
        let show = async move { kept_up("show refused deletes", || deletes.show_refused()).await };
        tokio::spawn(show);
        self.writeback.clone().run().await;
    }

    /// Returns once nothing waits for its upload or its delete, and no rename of a
    /// predecessor to be finished.
    pub async fn uploads_settled(&self) {
        self.writeback.settled().await;
        self.uploader.aborts_settled().await;
        self.subtrees.all_settled().await;
        self.store.settled().await;
    }

    /// Whether a listing of a directory knows its entries' attributes.
    pub fn lists_attributes(&self) -> bool {
        !self.namespace.stores_attributes()
    }

    pub fn controls(&self) -> &Controls {
        &self.controls
    }

    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}
