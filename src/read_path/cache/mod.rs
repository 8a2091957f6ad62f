//! Blocks that are kept once they came.
//!
//! Owns: which blocks are kept, and what makes room for others.
//! Must not know: requests, handles.
//!
//! Files of the disk tier are not given to the kernel for passthrough (FUSE_PASSTHROUGH,
//! Linux 6.9): it wants one file with the object's offsets, and reads it without comparing
//! checksums, so a torn or damaged block would be served. And an inode that is open so
//! cannot be open with the page cache too: an open for writing beside it would fail.
//! Source: fs/fuse/iomode.c.

mod cached_block;
mod disk;
mod memory;

use std::hash::Hash;

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};

pub use cached_block::CachedBlock;
pub use disk::{DiskSettings, DiskTier, DiskUse};
pub use memory::{BlockUse, MemoryTier, TierUse};

use crate::read_path::block::BlockId;

/// Memory that a block takes beside its bytes and its names: where it is in maps and lists,
/// what owns its bytes, and what allocations are rounded up to.
const BLOCK_COST_BYTES: u64 = 400;

/// Memory that a block takes.
fn memory_bytes(id: &BlockId, block: &CachedBlock) -> u64 {
    let names = id.object.key.as_str().len() + id.object.etag.as_str().len();
    let sums = size_of_val(block.sums());
    (block.len() + names + sums) as u64 + BLOCK_COST_BYTES
}

/// A map bounded by weight in which `hot_share` is for what was asked for again.
fn scan_resistant<K: Eq + Hash, V, W: Weighter<K, V>, L: Lifecycle<K, V>>(
    limit: u64,
    entries: usize,
    hot_share: f64,
    weighter: W,
    lifecycle: L,
) -> Cache<K, V, W, DefaultHashBuilder, L> {
    let mut options = OptionsBuilder::new();
    options.weight_capacity(limit);
    options.estimated_items_capacity(entries);
    options.hot_allocation(hot_share);
    let hash_builder = DefaultHashBuilder::default();
    match options.build() {
        Ok(options) => Cache::with_options(options, weighter, hash_builder, lifecycle),
        // Nothing that it must have is missing.
        Err(_) => Cache::with(entries, limit, weighter, hash_builder, lifecycle),
    }
}
