//! What the read path is set to.

use anyhow::Context;

use crate::config::Config;
use crate::read_path::{BlockSize, DiskSettings, ReadSettings};

/// Of what reads may hold, for blocks that wait to be written to the cache on disk.
const QUEUE_SHARE: u64 = 8;
const QUEUE_LIMIT_BYTES: u64 = 32 << 20;

/// `place` is bucket, prefix and endpoint in words. Errors: a block size that is none.
pub fn settings(config: &Config, place: &str) -> anyhow::Result<ReadSettings> {
    let block_size = usize::try_from(config.block_size_bytes)
        .ok()
        .and_then(BlockSize::new);
    let block_size =
        block_size.context("--block-size must be a power of two from 4KiB to 16MiB")?;
    let for_reads = config.memory.cache_bytes;
    // Room for two blocks, however long.
    let queue_limit_bytes = (for_reads / QUEUE_SHARE)
        .min(QUEUE_LIMIT_BYTES)
        .max(2 * block_size.bytes());
    let disk = config.disk_cache.as_ref().map(|cache| DiskSettings {
        dir: cache.dir.clone(),
        limit_bytes: cache.limit_bytes,
        queue_limit_bytes,
        place: place.to_owned(),
        block_size,
    });
    Ok(ReadSettings {
        block_size,
        memory_limit_bytes: match disk {
            Some(_) => for_reads.saturating_sub(queue_limit_bytes),
            None => for_reads,
        },
        disk,
    })
}
