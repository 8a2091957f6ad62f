//! Blocks: the unit in which objects are cached.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use lru::LruCache;

use super::cached_block::CachedBlock;
use crate::vocabulary::ObjectId;

/// Bytes of one block; the last block of an object is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(NonZeroUsize);

impl BlockSize {
    /// Takes powers of two from 4 KiB to 16 MiB.
    pub fn new(bytes: usize) -> Option<Self> {
        let fits = bytes.is_power_of_two() && (4096..=16 << 20).contains(&bytes);
        if fits {
            NonZeroUsize::new(bytes).map(Self)
        } else {
            None
        }
    }

    pub fn bytes(self) -> u64 {
        self.0.get() as u64
    }

    /// The blocks that a byte range touches.
    pub fn blocks(self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / self.bytes()..range.end.div_ceil(self.bytes())
    }

    /// Bytes of the blocks in an object of the given size.
    pub fn byte_range(self, blocks: &Range<u64>, object_size_bytes: u64) -> Range<u64> {
        blocks.start * self.bytes()..(blocks.end * self.bytes()).min(object_size_bytes)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    pub object: Arc<ObjectId>,
    pub index: u64,
}

/// Blocks in memory, least recently used first to go. Bounded by bytes.
#[derive(Debug)]
pub(super) struct MemoryTier {
    blocks: LruCache<BlockId, CachedBlock>,
    used_bytes: u64,
    limit_bytes: u64,
}

impl MemoryTier {
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            blocks: LruCache::unbounded(),
            used_bytes: 0,
            limit_bytes,
        }
    }

    pub fn get(&mut self, id: &BlockId) -> Option<CachedBlock> {
        self.blocks.get(id).cloned()
    }

    pub fn contains(&self, id: &BlockId) -> bool {
        self.blocks.contains(id)
    }

    #[cfg(test)]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub fn remove(&mut self, id: &BlockId) {
        if let Some(removed) = self.blocks.pop(id) {
            self.used_bytes -= removed.len() as u64;
        }
    }

    pub fn insert(&mut self, id: BlockId, block: CachedBlock) {
        self.used_bytes += block.len() as u64;
        if let Some(replaced) = self.blocks.put(id, block) {
            self.used_bytes -= replaced.len() as u64;
        }
        while self.used_bytes > self.limit_bytes {
            let Some((_, evicted)) = self.blocks.pop_lru() else {
                return;
            };
            self.used_bytes -= evicted.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{ETag, Key};

    fn id(index: u64) -> BlockId {
        let object = ObjectId {
            key: Key::new("k"),
            etag: ETag::new("e"),
            size_bytes: 100,
        };
        BlockId {
            object: Arc::new(object),
            index,
        }
    }

    #[test]
    fn the_least_recently_used_block_goes_first_and_the_limit_holds() {
        let mut tier = MemoryTier::new(10);
        let block = |bytes: &'static [u8]| CachedBlock::new(bytes.into());
        tier.insert(id(0), block(b"12345"));
        tier.insert(id(1), block(b"12345"));
        tier.get(&id(0));
        tier.insert(id(2), block(b"1"));
        assert!(tier.contains(&id(0)) && !tier.contains(&id(1)) && tier.contains(&id(2)));
        assert_eq!(tier.used_bytes, 6);
        tier.remove(&id(2));
        assert!(!tier.contains(&id(2)));
        assert_eq!(tier.used_bytes, 5);
    }

    #[test]
    fn ranges_map_to_the_blocks_they_touch() {
        let size = BlockSize::new(4096).unwrap();
        assert_eq!(size.blocks(&(0..0)), 0..0);
        assert_eq!(size.blocks(&(0..4096)), 0..1);
        assert_eq!(size.blocks(&(4095..4097)), 0..2);
        assert_eq!(size.byte_range(&(1..3), 9000), 4096..9000);
        assert!(BlockSize::new(5000).is_none());
    }
}
