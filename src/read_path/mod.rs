//! Bytes of objects, by range.
//!
//! Owns: blocks in memory, requests for blocks under way, read-ahead.
//! Must not know: inodes, names, staged bytes, FUSE.
//! Lock order: `inflight`, then `memory`; both held for microseconds.

mod block;
mod cached_block;
mod cursor;
mod reader;

pub use block::BlockSize;
pub use cursor::Cursor;
pub use reader::{ReadSettings, Reader};
