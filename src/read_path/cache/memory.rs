//! Cached blocks in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::{CachedBlock, memory_bytes, scan_resistant};
use crate::read_path::block::{BlockId, BlockSize};

/// Share of the tier for blocks that were read again. The rest is for those that come:
/// it is longer than the windows of three readers, whose blocks wait there to be read.
const HOT_SHARE: f64 = 0.25;

/// Blocks in memory, bounded by the memory that they take. One that is used once goes first: a stream that
/// is longer than the tier leaves there what is used again and again.
#[derive(Debug)]
pub struct MemoryTier {
    blocks: Cache<BlockId, Kept, Memory, DefaultHashBuilder, CountUnread>,
    unread_bytes: Arc<AtomicU64>,
    hits: u64,
    misses: u64,
}

#[derive(Debug)]
struct Kept {
    block: CachedBlock,
    /// The use that it was fetched for has come.
    is_used: AtomicBool,
    /// Some of it was read.
    is_read: AtomicBool,
}

/// Counts what makes room for others before anybody has read it.
#[derive(Debug)]
struct CountUnread(Arc<AtomicU64>);

impl Lifecycle<BlockId, Kept> for CountUnread {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: BlockId, kept: Kept) {
        if !kept.is_read.load(Ordering::Relaxed) {
            let bytes = kept.block.len() as u64;
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// What a read does with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockUse {
    /// Begins at its first byte: a reader in small steps uses a block once.
    Begins,
    Continues,
}

/// A block that is here.
#[derive(Debug)]
pub struct Hit {
    pub block: CachedBlock,
    /// It is used again, not for the first time.
    pub is_reuse: bool,
}

#[derive(Debug, Clone)]
struct Memory;

impl Weighter<BlockId, Kept> for Memory {
    fn weight(&self, id: &BlockId, kept: &Kept) -> u64 {
        memory_bytes(id, &kept.block)
    }
}

/// What a tier holds and what it was good for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierUse {
    /// With what a block takes beside its bytes.
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub blocks: usize,
    pub hits: u64,
    pub misses: u64,
    /// Evicted before anybody had read them.
    pub unread_bytes: u64,
}

impl MemoryTier {
    pub fn new(limit_bytes: u64, block_size: BlockSize) -> Self {
        let blocks = usize::try_from(limit_bytes / block_size.bytes()).unwrap_or(usize::MAX);
        let unread_bytes = Arc::<AtomicU64>::default();
        let count = CountUnread(unread_bytes.clone());
        Self {
            blocks: scan_resistant(limit_bytes, blocks, HOT_SHARE, Memory, count),
            unread_bytes,
            hits: 0,
            misses: 0,
        }
    }

    pub fn usage(&self) -> TierUse {
        TierUse {
            used_bytes: self.blocks.weight(),
            limit_bytes: self.blocks.capacity(),
            blocks: self.blocks.len(),
            hits: self.hits,
            misses: self.misses,
            unread_bytes: self.unread_bytes.load(Ordering::Relaxed),
        }
    }

    pub fn get(&mut self, id: &BlockId, of_read: BlockUse) -> Option<Hit> {
        let Some(kept) = self.blocks.peek(id) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        kept.is_read.store(true, Ordering::Relaxed);
        let block = kept.block.clone();
        let begins = of_read == BlockUse::Begins;
        let is_reuse = begins && kept.is_used.swap(true, Ordering::Relaxed);
        if is_reuse {
            self.blocks.get(id);
        }
        Some(Hit { block, is_reuse })
    }

    pub fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains_key(id)
    }

    /// A reader that waited for a block has it.
    pub fn used(&self, id: &BlockId) {
        if let Some(kept) = self.blocks.peek(id) {
            kept.is_used.store(true, Ordering::Relaxed);
            kept.is_read.store(true, Ordering::Relaxed);
        }
    }

    pub fn remove(&mut self, id: &BlockId) {
        self.blocks.remove(id);
    }

    pub fn insert(&mut self, id: BlockId, block: CachedBlock) {
        let kept = Kept {
            block,
            is_used: AtomicBool::new(false),
            is_read: AtomicBool::new(false),
        };
        self.blocks.insert(id, kept);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::read_path::cache::BLOCK_COST_BYTES;
    use crate::store::{ETag, Key};
    use crate::vocabulary::ObjectId;

    const BLOCK: usize = 4096;

    fn id(key: &str, index: u64) -> BlockId {
        let object = ObjectId {
            key: Key::new(key),
            etag: ETag::new("e"),
            size_bytes: 100 << 30,
        };
        BlockId {
            object: Arc::new(object),
            index,
        }
    }

    fn tier(blocks: u64) -> MemoryTier {
        let size = BlockSize::new(BLOCK).unwrap();
        MemoryTier::new(blocks * BLOCK as u64, size)
    }

    fn block() -> CachedBlock {
        CachedBlock::new(vec![1; BLOCK].into())
    }

    /// Reads a block as the reader does: fetched where it is not there.
    fn read(tier: &mut MemoryTier, id: &BlockId) -> bool {
        if tier.get(id, BlockUse::Begins).is_some() {
            return true;
        }
        tier.insert(id.clone(), block());
        tier.used(id);
        false
    }

    #[test]
    fn the_limit_holds_and_what_is_removed_is_gone() {
        let mut tier = tier(8);
        for index in 0..100 {
            tier.insert(id("k", index), block());
            assert!(tier.usage().used_bytes <= 8 * BLOCK as u64);
        }
        assert!(tier.contains(&id("k", 99)));
        tier.remove(&id("k", 99));
        assert!(tier.get(&id("k", 99), BlockUse::Begins).is_none());
    }

    #[test]
    fn what_a_short_block_takes_beside_its_bytes_counts() {
        let mut tier = tier(100);
        let key = "k".repeat(200);
        for index in 0..10_000 {
            tier.insert(id(&key, index), CachedBlock::new(vec![1].into()));
        }
        let usage = tier.usage();
        let each = usage.used_bytes / usage.blocks as u64;
        assert!((600..650).contains(&each), "{usage:?}");
        let takes = tier.blocks.memory_used().total() / usage.blocks;
        // What owns bytes and names is as much again.
        assert!(takes * 2 <= BLOCK_COST_BYTES as usize, "{takes}");
        assert!(usage.used_bytes <= 100 * BLOCK as u64);
    }

    #[test]
    fn what_is_evicted_unread_is_counted() {
        let mut tier = tier(8);
        for index in 0..40 {
            read(&mut tier, &id("read", index));
        }
        assert_eq!(tier.usage().unread_bytes, 0);
        for index in 0..40 {
            tier.insert(id("ahead", index), block());
        }
        let unread = tier.usage().unread_bytes;
        assert_eq!(unread % BLOCK as u64, 0);
        assert!((30..=40).contains(&(unread / BLOCK as u64)), "{unread}");
    }

    #[test]
    fn a_long_stream_leaves_what_is_read_again() {
        let mut tier = tier(100);
        // Full of what nobody reads any more, as after days.
        for index in 0..200 {
            read(&mut tier, &id("yesterday", index));
        }
        let icons: Vec<BlockId> = (0..20).map(|at| id(&format!("icon{at}"), 0)).collect();
        for _ in 0..3 {
            icons.iter().for_each(|icon| {
                read(&mut tier, icon);
            });
        }
        let hits = |tier: &mut MemoryTier| icons.iter().filter(|icon| read(tier, icon)).count();
        assert_eq!(hits(&mut tier), 20, "before the stream");
        for index in 0..10_000 {
            // Fetched ahead, then read in two steps.
            let id = id("film", index);
            tier.insert(id.clone(), block());
            for of_read in [BlockUse::Begins, BlockUse::Continues, BlockUse::Continues] {
                assert!(tier.get(&id, of_read).is_some());
            }
        }
        assert_eq!(hits(&mut tier), 20, "after it");
    }

    #[test]
    fn what_is_fetched_ahead_is_there_when_its_reader_comes() {
        let mut tier = tier(100);
        for index in 0..200 {
            read(&mut tier, &id("yesterday", index));
            read(&mut tier, &id("yesterday", index));
        }
        for index in 0..40 {
            tier.insert(id("ahead", index), block());
        }
        assert!((0..40).all(|index| tier.contains(&id("ahead", index))));
    }
}
