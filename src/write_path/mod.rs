//! From written bytes to objects.
//!
//! Owns: the spool and its stages, uploads.
//! Must not know: inodes, handles, the block cache, FUSE.
//! Lock order: a stage file's checksums, its upload, that upload's parts. A stage
//! file's `create_lock` alone is held across a request, the one that begins its upload.

mod abort_queue;
mod ahead;
mod budget;
mod byte_source;
mod claim;
mod copier;
mod crc64nvme;
mod descriptor;
mod discard;
mod disk_room;
mod failed;
mod full_parts;
mod inspect;
mod json_sum;
mod lock_owner;
mod lost_found;
mod merge;
mod mount_note;
mod multipart;
mod offload;
mod own_version;
mod part_body;
mod part_sender;
mod parts;
mod pending_work;
mod place;
mod quota;
mod recovery;
mod scratch;
mod spool;
mod spool_error;
mod spool_lock;
mod stage;
mod stage_change;
mod stage_file;
mod upload_slot;
mod upload_target;
mod uploader;
mod written_headers;
mod zeros;

pub use byte_source::{ByteSource, RangeReader};
pub use claim::{Claim, ClaimedSpool, PlacedSpool};
pub use copier::{Copier, CopyOver, CopyPartSize, CopyTask};
pub use crc64nvme::Summed;
pub use discard::discard_entry;
pub use full_parts::FullPart;
pub use inspect::{Entry, EntryState, SpoolView};
pub use lock_owner::is_beyond_return;
pub use lost_found::{LostFile, LostReason};
pub use mount_note::MountNote;
pub use multipart::MultipartUpload;
pub use part_sender::PartSender;
pub use parts::{Origin, PartSize, Run, StoredRange};
pub use pending_work::PendingWork;
pub use place::Place;
pub use scratch::{SCRATCH_NAMES, Scratch};
pub use spool::{Recovered, RecoveredStage, Spool};
pub use spool_error::{OtherPlace, SpoolError};
pub use spool_lock::SpoolLock;
pub use stage::{Segment, Stage};
pub use stage_file::StageFile;
pub use upload_slot::UploadSlot;
pub use upload_target::{PriorAttempt, UploadTarget, Uploaded};
pub use uploader::Uploader;
pub use written_headers::WrittenHeaders;
