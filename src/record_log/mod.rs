//! Files of records: the journal, the log of the session, the marks of an overlay.
//!
//! What records come to is a type of who writes them (`LogState`); this layer knows none of
//! them. It knows how they stand in a file (`frame`, and once `text`), what a power loss or
//! a bad disk may have left of them, and how they are written where the disk is full
//! (`room`, `spare`).

mod frame;
mod log;
mod log_file;
mod log_state;
mod rewrite;
mod room;
#[cfg(test)]
pub mod small_disk;
mod spare;
mod text;
mod whole;

pub use frame::{Chain, Header, Subject};
pub use log::{LogError, RecordLog, Replayed, io_error, read, replay};
pub use log_file::LogFile;
pub use log_state::{Durable, LogState};
#[cfg(test)]
pub use rewrite::write_frames;
pub use rewrite::{rename_over, rewrite, sync_dir, write_beside};
pub use room::{COMPACT_FROM_BYTES, is_full};
pub use spare::path_of as spare_of;
pub use whole::{read_upto, read_whole};
