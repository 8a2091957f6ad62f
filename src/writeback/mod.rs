//! From stages to objects: what is uploaded when, and what is deleted.
//!
//! Owns: uploads of open files, those that nobody waits for, parts that go ahead of
//! close, attributes that go to the store, deletes of names that go.
//! Must not know: system calls, renames, the FUSE protocol.
//! The states of a file, its records and locks: see `files`.

mod cancelled_upload;
mod deletes;
mod early_parts;
mod kept_headers;
mod make_room;
mod predecessor;
mod publish;
mod queue;
mod recover;
mod replaced;
mod retry_queue;
mod sealer;
mod store_attributes;

pub use deletes::{Deletes, Removals, Removed};
pub use early_parts::EarlyParts;
pub use kept_headers::KeptHeaders;
pub use make_room::RoomMaker;
pub use predecessor::Predecessor;
pub use publish::{Asker, PublishOutcome, Uploads};
pub use queue::{UploadQueue, Writeback};
pub use retry_queue::RetryQueue;
pub use sealer::Sealer;
pub use store_attributes::AttributeWriter;
