//! What the read path is set to.

use anyhow::Context;

use crate::config::{Config, DiskCacheConfig};
use crate::read_path::{BlockSize, DiskSettings, ReadSettings};

/// Of what reads may hold, for blocks that wait to be written to the cache on disk.
const QUEUE_SHARE: u64 = 8;
const QUEUE_LIMIT_BYTES: u64 = 32 << 20;
/// The queue takes some blocks, however long.
const QUEUE_BLOCKS: u64 = 3;
/// Of what reads may hold, for the index of the cache on disk at most.
const INDEX_SHARE: u64 = 4;
/// Blocks of half the length fill the cache on disk; shorter ones are as many.
const INDEX_BLOCKS: u64 = 2;

/// `place` is bucket, prefix and endpoint in words. Errors: an invalid block size.
pub fn settings(config: &Config, place: &str) -> anyhow::Result<ReadSettings> {
    let block_size = usize::try_from(config.block_size_bytes)
        .ok()
        .and_then(BlockSize::new);
    let block_size =
        block_size.context("--block-size must be a power of two from 4KiB to 16MiB")?;
    let for_reads = config.memory.cache_bytes;
    let disk = config.disk_cache.as_ref();
    let disk = disk.map(|cache| of_disk(cache, for_reads, (place, block_size)));
    if let (Some(disk), Some(_)) = (&disk, config.given.cache_size) {
        tell_of_short_index(disk);
    }
    let of_disk = disk.as_ref().map_or(0, |disk| {
        disk.queue_limit_bytes
            .saturating_add(disk.index_limit_bytes)
    });
    Ok(ReadSettings {
        block_size,
        memory_limit_bytes: for_reads.saturating_sub(of_disk),
        disk,
    })
}

fn of_disk(
    cache: &DiskCacheConfig,
    for_reads: u64,
    (place, block_size): (&str, BlockSize),
) -> DiskSettings {
    let queue = (for_reads / QUEUE_SHARE).min(QUEUE_LIMIT_BYTES);
    let whole_blocks = DiskSettings::index_bytes(cache.limit_bytes, block_size);
    DiskSettings {
        dir: cache.dir.clone(),
        limit_bytes: cache.limit_bytes,
        queue_limit_bytes: queue.max(QUEUE_BLOCKS * block_size.bytes()),
        index_limit_bytes: whole_blocks
            .saturating_mul(INDEX_BLOCKS)
            .min(for_reads / INDEX_SHARE),
        place: place.to_owned(),
        block_size,
    }
}

fn tell_of_short_index(disk: &DiskSettings) {
    let needed = DiskSettings::index_bytes(disk.limit_bytes, disk.block_size);
    if needed > disk.index_limit_bytes {
        tracing::warn!(
            needed_mib = needed >> 20,
            limit_mib = disk.index_limit_bytes >> 20,
            "the index of the cache on disk needs more memory than reads can spare, so the cache stays smaller than cache-size: raise memory or block-size, or lower cache-size"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// What is left for reads with a cache on disk, of so much, in blocks.
    fn left(for_reads: u64, cache_bytes: u64, block_bytes: usize) -> (u64, DiskSettings) {
        let cache = DiskCacheConfig {
            dir: "/c".into(),
            limit_bytes: cache_bytes,
        };
        let block_size = BlockSize::new(block_bytes).unwrap();
        let disk = of_disk(&cache, for_reads, ("", block_size));
        let taken = disk.queue_limit_bytes + disk.index_limit_bytes;
        ((for_reads - taken) / block_bytes as u64, disk)
    }

    #[test]
    fn the_cache_on_disk_leaves_most_of_a_small_budget_for_reads() {
        // The least that is taken, with blocks of each length.
        for (for_reads, block_bytes) in [
            (16 * MIB, 128 << 10),
            (16 * MIB, 1 << 20),
            (MIB / 16, 4 << 10),
            (256 * MIB, 16 << 20),
        ] {
            for cache_bytes in [16 * MIB, 10 << 30, 10 << 40] {
                let (blocks, disk) = left(for_reads, cache_bytes, block_bytes);
                assert!(blocks >= 9, "{blocks} of {block_bytes}: {disk:?}");
                assert!(disk.queue_limit_bytes <= for_reads / 4, "{disk:?}");
            }
        }
    }

    #[test]
    fn the_index_of_the_cache_on_disk_is_of_the_budget() {
        let (_, disk) = left(256 * MIB, 10 << 30, 128 << 10);
        assert_eq!(disk.index_limit_bytes, 20 * MIB, "for 163,840 blocks");
        let (_, disk) = left(256 * MIB, 1 << 40, 128 << 10);
        assert_eq!(disk.index_limit_bytes, 64 * MIB);
    }
}
