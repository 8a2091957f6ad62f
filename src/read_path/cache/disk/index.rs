//! Which blocks the disk has, and which of them goes when there are too many.

use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};

use super::block_file::BlockName;
use super::folder::Entry;
use crate::read_path::cache::scan_resistant;

/// Share of the tier for blocks that were read again: a stream has the rest.
const HOT_SHARE: f64 = 0.8;
/// What a file takes is counted in such steps.
const DISK_UNIT_BYTES: u64 = 4096;
/// Memory that the index takes for a block, with what it remembers of evicted ones.
pub const BLOCK_COST_BYTES: u64 = 128;

/// Bounded by bytes on disk, and by blocks.
#[derive(Debug)]
pub struct Index {
    blocks: Cache<BlockName, u64, OnDisk, DefaultHashBuilder, Evicted>,
    evicted: Evicted,
    /// On disk.
    used_bytes: u64,
    /// Weight of the shortest block.
    least_bytes: u64,
}

/// The weight of a block: its bytes on disk, or its share of all where it is short. So
/// many short ones do not take more memory than as many long ones.
#[derive(Debug, Clone)]
struct OnDisk {
    least_bytes: u64,
}

impl Weighter<BlockName, u64> for OnDisk {
    fn weight(&self, _: &BlockName, on_disk_bytes: &u64) -> u64 {
        self.least_bytes.max(*on_disk_bytes)
    }
}

/// Blocks that went, with their bytes on disk.
#[derive(Debug, Clone, Default)]
struct Evicted(Arc<Mutex<Vec<(BlockName, u64)>>>);

impl Lifecycle<BlockName, u64> for Evicted {
    type RequestState = ();

    /// What takes the place of others is none of them.
    fn is_pinned(&self, name: &BlockName, _: &u64) -> bool {
        *name == BlockName::NONE
    }

    fn on_evict(&self, (): &mut (), name: BlockName, on_disk_bytes: u64) {
        self.0.lock().push((name, on_disk_bytes));
    }
}

/// What a file of so many bytes takes.
pub fn on_disk_bytes(len_bytes: u64) -> u64 {
    len_bytes
        .max(1)
        .div_ceil(DISK_UNIT_BYTES)
        .saturating_mul(DISK_UNIT_BYTES)
}

impl Index {
    /// `memory_bytes` is what it may take itself.
    pub fn new(limit_bytes: u64, memory_bytes: u64) -> Self {
        let evicted = Evicted::default();
        let most_blocks = (memory_bytes / BLOCK_COST_BYTES).min(limit_bytes / DISK_UNIT_BYTES);
        let most_blocks = most_blocks.max(1);
        let least_bytes = limit_bytes.div_ceil(most_blocks);
        let on_disk = OnDisk { least_bytes };
        let entries = usize::try_from(most_blocks).unwrap_or(usize::MAX);
        let mut blocks = scan_resistant(limit_bytes, entries, HOT_SHARE, on_disk, evicted.clone());
        // It does not grow by being copied.
        blocks.reserve(entries);
        Self {
            blocks,
            evicted,
            used_bytes: 0,
            least_bytes,
        }
    }

    /// Takes what the folder has. Returns what there is no room for.
    pub fn fill(&mut self, mut entries: Vec<Entry>) -> Vec<BlockName> {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used_at));
        let mut removed = Vec::new();
        for entry in entries {
            let weight = self.least_bytes.max(on_disk_bytes(entry.len_bytes));
            // The least recently used ones are the last.
            if self.blocks.weight() + weight > self.blocks.capacity() {
                removed.push(entry.name);
            } else {
                removed.extend(self.insert(entry.name, entry.len_bytes));
            }
        }
        removed
    }

    /// Most blocks that there is room for.
    pub fn most_blocks(&self) -> usize {
        usize::try_from(self.blocks.capacity() / self.least_bytes).unwrap_or(usize::MAX)
    }

    pub fn has(&self, name: BlockName) -> bool {
        self.blocks.contains_key(&name)
    }

    /// Notes that a block is used again.
    pub fn touch(&self, name: BlockName) -> bool {
        self.blocks.get(&name).is_some()
    }

    /// Returns whose files are to be removed for it.
    pub fn insert(&mut self, name: BlockName, len_bytes: u64) -> Vec<BlockName> {
        let takes = on_disk_bytes(len_bytes);
        self.used_bytes += takes;
        self.blocks.insert(name, takes);
        self.take_evicted()
    }

    pub fn remove(&mut self, name: BlockName) {
        if let Some((_, on_disk_bytes)) = self.blocks.remove(&name) {
            self.used_bytes = self.used_bytes.saturating_sub(on_disk_bytes);
        }
    }

    /// Gives up so many bytes at least, where there are so many. Returns whose files are to
    /// be removed.
    ///
    /// Something else takes their place for a moment: another capacity would change
    /// what is remembered of evicted blocks for good.
    pub fn give_up(&mut self, bytes: u64) -> Vec<BlockName> {
        let left = self.used_bytes.saturating_sub(bytes);
        let mut removed = Vec::new();
        while self.used_bytes > left {
            let before = self.used_bytes;
            let free = self.blocks.capacity().saturating_sub(self.blocks.weight());
            self.blocks.insert(BlockName::NONE, free + before - left);
            self.blocks.remove(&BlockName::NONE);
            removed.extend(self.take_evicted());
            if self.used_bytes == before {
                break;
            }
        }
        removed
    }

    fn take_evicted(&mut self) -> Vec<BlockName> {
        let mut evicted = mem::take(&mut *self.evicted.0.lock());
        let went = evicted.iter().map(|(_, on_disk_bytes)| on_disk_bytes);
        self.used_bytes = self.used_bytes.saturating_sub(went.sum());
        // One that was replaced by itself is there.
        evicted.retain(|(name, _)| !self.blocks.contains_key(name));
        evicted.into_iter().map(|(name, _)| name).collect()
    }

    /// On disk.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    const BLOCK: u64 = 4096;
    const MEMORY: u64 = 1 << 20;

    fn name(number: u128) -> BlockName {
        let text = format!("{number:032x}");
        BlockName::parse(&text[..2], &text[2..]).unwrap()
    }

    /// Reads a block as the tier does: stored where it is not there.
    fn read(index: &mut Index, number: u128) -> bool {
        let there = index.touch(name(number));
        if !there {
            index.insert(name(number), BLOCK);
        }
        there
    }

    #[test]
    fn the_limit_holds_and_whoever_is_evicted_is_told_once() {
        let mut index = Index::new(10 * BLOCK, MEMORY);
        let mut evicted = Vec::new();
        for number in 0..30 {
            evicted.extend(index.insert(name(number), BLOCK - 1));
            assert!(index.used_bytes() <= 10 * BLOCK);
        }
        assert_eq!(evicted.len() + index.blocks(), 30);
        assert!(evicted.iter().all(|name| !index.has(*name)));
        assert!(index.insert(name(29), BLOCK).is_empty(), "it is there");
        let given_up = index.give_up(4 * BLOCK).len();
        assert!(given_up >= 4 && given_up + index.blocks() == 10);
        assert!(
            index.insert(name(40), BLOCK).is_empty(),
            "there is room again"
        );
        let left = index.blocks();
        assert_eq!(index.give_up(u64::MAX).len(), left);
        assert_eq!(index.used_bytes(), 0);
        assert_eq!(index.insert(name(50), 11 * BLOCK), [name(50)]);
    }

    #[test]
    fn a_long_stream_leaves_what_is_read_again() {
        let mut index = Index::new(100 * BLOCK, MEMORY);
        for number in 1000..1200 {
            read(&mut index, number);
        }
        for _ in 0..3 {
            (0..20).for_each(|number| {
                read(&mut index, number);
            });
        }
        let hits = |index: &mut Index| (0..20).filter(|number| read(index, *number)).count();
        assert_eq!(hits(&mut index), 20, "before the stream");
        for number in 10_000..20_000 {
            read(&mut index, number);
        }
        assert_eq!(hits(&mut index), 20, "after it");
    }

    #[test]
    fn what_is_given_up_for_others_on_the_disk_leaves_what_is_known_of_evicted_blocks() {
        let mut index = Index::new(100 * BLOCK, MEMORY);
        (0..100).for_each(|number| {
            read(&mut index, number);
        });
        for number in 1000..1200 {
            assert_eq!(index.give_up(BLOCK).len(), 1);
            read(&mut index, number);
        }
        // Evicted and asked for again.
        (5000..5025).for_each(|number| {
            read(&mut index, number);
        });
        assert!(!read(&mut index, 5000));
        (6000..6200).for_each(|number| {
            read(&mut index, number);
        });
        assert!(read(&mut index, 5000), "a stream leaves it");
    }

    #[test]
    fn short_blocks_take_no_more_memory_than_there_is_for_the_index() {
        let memory = 1000 * BLOCK_COST_BYTES;
        let mut index = Index::new(1 << 30, memory);
        for number in 0..10_000 {
            read(&mut index, number);
            index.touch(name(number / 2));
        }
        assert!((900..=1000).contains(&index.blocks()), "{}", index.blocks());
        assert_eq!(index.used_bytes(), index.blocks() as u64 * BLOCK);
        let takes = index.blocks.memory_used().total() as u64;
        assert!(takes <= memory, "{takes}");
        let given_up = index.give_up(10 * BLOCK).len();
        assert!((10..=12).contains(&given_up), "{given_up}");
        for number in 0..index.blocks() as u128 {
            index.remove(name(10_000 - number));
        }
        index.give_up(u64::MAX);
        assert_eq!((index.used_bytes(), index.blocks()), (0, 0));
    }

    #[test]
    fn after_a_restart_what_was_used_last_stays() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let entry = |number: u64| Entry {
            name: name(u128::from(number)),
            len_bytes: BLOCK,
            used_at: at(number),
        };
        let mut index = Index::new(10 * BLOCK, MEMORY);
        let removed = index.fill((0..15).map(entry).collect());
        let oldest: Vec<_> = (0..5).rev().map(name).collect();
        assert_eq!(removed, oldest);
        assert!((5..15).all(|number| index.has(name(number))));
    }
}
