//! Bytes of objects, by range.
//!
//! Owns: blocks in memory and on disk, requests for blocks under way, read-ahead.
//! Must not know: inodes, names, staged bytes, FUSE.
//! Lock order: a cursor, `inflight`, then `memory`, then the disk tier's; a run's own alone; all held for microseconds.

mod block;
mod cache;
mod cursor;
mod fetch;
mod load;
mod neighbours;
mod reader;
mod run;
mod streams;
mod throughput;

pub use block::BlockSize;
pub use cache::{DiskSettings, DiskUse, TierUse};
pub use cursor::Cursor;
pub use neighbours::NeighbourUse;
pub use reader::{ReadSettings, Reader};
