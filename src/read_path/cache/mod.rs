//! Blocks that are kept once they came.
//!
//! Owns: which blocks are kept, and what makes room for others.
//! Must not know: requests, handles.

mod cached_block;
mod memory;

pub use cached_block::CachedBlock;
pub use memory::MemoryTier;
