//! From written bytes to objects.
//!
//! Owns: the spool and its stages, uploads.
//! Must not know: inodes, handles, the block cache, FUSE.
//! Locks: none of its own.

mod block_sums;
mod copier;
mod inspect;
mod lost_found;
mod parts;
mod recovery;
mod room;
mod spool;
mod stage;
mod stage_file;
mod uploader;

pub use crate::journal::{Durable, RenameIntent, SealedBase, SealedStage, StageId};
pub use crate::store::CopyHeaders;
pub use copier::{Copier, CopyPartSize, CopyTask};
pub use inspect::{Entry, EntryState, MountNote, SpoolView};
pub use lost_found::{LostReason, Remnant};
pub use parts::{PartSize, StoredRange};
pub use spool::{Left, Recovered, Spool, SpoolError, SpoolLock};
pub use stage::{Segment, Stage};
pub use stage_file::StageFile;
pub use uploader::{ByteSource, Earlier, UploadTarget, Uploader};
