//! What is open: files, their stages and layers, handles, who writes. And the life of
//! a write, from write(2) to the object.
//!
//! Owns: open files, handles, what a file shows and what of it is sealed.
//! Must not know: when and how bytes go to the store; the FUSE protocol, errno.
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
//! upload was begun, which S3 may have, and over it one that absorbs all that was
//! sealed since: of the two the shorter is copied into the longer (`write_path::merge`).
//!
//! **Whose the name is** (`NameState`). A file has a name of its own, or one that a
//! rename took from another file, whose object is in S3 until the next upload, or none:
//! it was removed or replaced. A file without a name is read and written by those who
//! have it open; its stages lie in `orphan/` of the spool, and nothing of it is uploaded.
//!
//! **Whose close answers** (`changes`). Each change has a number. A close or an fsync
//! makes what came through its handle safe, or returns why not. What came through no
//! handle (a shared mapping, truncate(2) by name) is answered for by every handle
//! through which it may have come.
//!
//! **A failed file.** After an upload that failed, each write, flush and fsync returns
//! its error, until the file is truncated to nothing. What is staged goes to lost+found
//! with the last close, and the file shows the object again.
//!
//! **Long files.** A part that is whole is sent while the file is still being written
//! (`write_path::ahead`). On a full spool, parts that S3 has confirmed are punched out
//! of the stage (`write_path::offload`): until the upload is completed nobody can read
//! them, and the file keeps its name.
//!
//! | event | lock | journal record, as on disk | failpoint | what recovery does |
//! |---|---|---|---|---|
//! | first write | content | `begun` | `write_staged` | open file: lost+found |
//! | seal, `--durability=disk` | `seal_lock` | `sealed`, synced after bytes and directory | `seal_stage_synced`, `seal_directory_synced`, `seal_journaled` | uploads it |
//! | seal, `--durability=s3` | `seal_lock` | `sealed`, not synced | `seal_journaled` | uploads it where the daemon died; a loss of power may lose it: close(2) had not returned |
//! | two stages become one | `seal_lock` | `absorbed`, `done` | `absorb_journaled`, `absorb_copied`, `absorb_synced`, `seal_superseded_left` | copies again |
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
mod changes;
mod conditions;
mod content;
mod content_types;
mod dir_handle;
mod failed_read;
mod file;
mod file_handle;
mod given_up;
mod handles;
mod interruption;
mod killed_thread;
mod layers;
mod listed;
pub mod long_files;
mod moved_object;
mod named_opens;
mod privileges;
mod restore;
mod seal;
mod sealed_source;
mod table;
mod upload_lock;
mod writers;

pub use attr::{
    Attr, AttrValidity, AttributeView, Caller, Delivery, FixedAttributes, KernelRequest,
    whole_seconds,
};
pub use changes::{ChangeNumber, Shared};
pub use content_types::ContentTypes;
pub use dir_handle::{DirHandle, Snapshot};
pub use failed_read::FailedRead;
pub use file::{OpenFile, StageFactory};
pub use file_handle::{FileHandle, PagesAtOpen};
pub use given_up::Closes;
pub use handles::Handles;
pub use interruption::{PendingCall, check_awaited, run_for, to_the_end};
pub use layers::{LowerLayer, ReadSegment, SealedStage, fetch};
pub use listed::Listed;
pub use moved_object::{Moved, MovedObject};
pub use named_opens::{AwaitedOpens, NamedOpens};
pub use privileges::{Dropped, unprivileged};
pub use seal::Sealing;
pub use sealed_source::SealedSource;
pub use table::OpenFiles;
pub use writers::{Thread, Writers};

use crate::record_log::Durable;

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
    pub fn durable(self) -> Durable {
        match self {
            Self::S3 => Durable::No,
            Self::Disk => Durable::Yes,
        }
    }
}
