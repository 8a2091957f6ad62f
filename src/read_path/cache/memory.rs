//! Cached blocks in memory.

use lru::LruCache;

use super::CachedBlock;
use crate::read_path::block::BlockId;

/// Blocks in memory, least recently used first to go. Bounded by bytes.
#[derive(Debug)]
pub struct MemoryTier {
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

    pub fn used_and_limit(&self) -> (u64, u64) {
        (self.used_bytes, self.limit_bytes)
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
    use std::sync::Arc;

    use super::*;
    use crate::store::{ETag, Key};
    use crate::vocabulary::ObjectId;

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
}
