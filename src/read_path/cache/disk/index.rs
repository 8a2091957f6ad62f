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

/// Bounded by bytes on disk.
#[derive(Debug)]
pub struct Index {
    blocks: Cache<BlockName, u64, OnDisk, DefaultHashBuilder, Evicted>,
    evicted: Evicted,
    limit_bytes: u64,
}

#[derive(Debug, Clone)]
struct OnDisk;

impl Weighter<BlockName, u64> for OnDisk {
    fn weight(&self, _: &BlockName, on_disk_bytes: &u64) -> u64 {
        *on_disk_bytes
    }
}

#[derive(Debug, Clone, Default)]
struct Evicted(Arc<Mutex<Vec<BlockName>>>);

impl Lifecycle<BlockName, u64> for Evicted {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), name: BlockName, _: u64) {
        self.0.lock().push(name);
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
    pub fn new(limit_bytes: u64, block_bytes: u64) -> Self {
        let evicted = Evicted::default();
        let entries = usize::try_from(limit_bytes / block_bytes).unwrap_or(usize::MAX);
        Self {
            blocks: scan_resistant(limit_bytes, entries, HOT_SHARE, OnDisk, evicted.clone()),
            evicted,
            limit_bytes,
        }
    }

    /// Takes what the folder has. Returns what there is no room for.
    pub fn fill(&mut self, mut entries: Vec<Entry>) -> Vec<BlockName> {
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.used_at));
        let mut removed = Vec::new();
        for entry in entries {
            let takes = on_disk_bytes(entry.len_bytes);
            // The least recently used ones are the last.
            if self.used_bytes() + takes > self.limit_bytes {
                removed.push(entry.name);
            } else {
                removed.extend(self.insert(entry.name, entry.len_bytes));
            }
        }
        removed
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
        self.blocks.insert(name, on_disk_bytes(len_bytes));
        self.take_evicted()
    }

    pub fn remove(&mut self, name: BlockName) {
        self.blocks.remove(&name);
    }

    /// Gives up so many bytes at least, where there are so many. Returns whose files are to
    /// be removed.
    pub fn give_up(&mut self, bytes: u64) -> Vec<BlockName> {
        let left = self.used_bytes().saturating_sub(bytes).max(1);
        self.blocks.set_capacity(left);
        self.blocks.set_capacity(self.limit_bytes);
        self.take_evicted()
    }

    fn take_evicted(&mut self) -> Vec<BlockName> {
        let mut evicted = mem::take(&mut *self.evicted.0.lock());
        // One that was replaced by itself is there.
        evicted.retain(|name| !self.blocks.contains_key(name));
        evicted
    }

    pub fn used_bytes(&self) -> u64 {
        self.blocks.weight()
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
        let mut index = Index::new(10 * BLOCK, BLOCK);
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
        let mut index = Index::new(100 * BLOCK, BLOCK);
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
    fn after_a_restart_what_was_used_last_stays() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let entry = |number: u64| Entry {
            name: name(u128::from(number)),
            len_bytes: BLOCK,
            used_at: at(number),
        };
        let mut index = Index::new(10 * BLOCK, BLOCK);
        let removed = index.fill((0..15).map(entry).collect());
        let oldest: Vec<_> = (0..5).rev().map(name).collect();
        assert_eq!(removed, oldest);
        assert!((5..15).all(|number| index.has(name(number))));
    }
}
