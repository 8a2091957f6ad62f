//! What the read path is set to.

use anyhow::Context;

use crate::config::Config;
use crate::read_path::{BlockSize, DiskSettings, ReadSettings};

/// `place` is bucket, prefix and endpoint in words. Errors: a block size that is none.
pub fn settings(config: &Config, place: &str) -> anyhow::Result<ReadSettings> {
    let block_size = usize::try_from(config.block_size_bytes)
        .ok()
        .and_then(BlockSize::new);
    let block_size =
        block_size.context("--block-size must be a power of two from 4KiB to 16MiB")?;
    let disk = config.disk_cache.as_ref().map(|cache| DiskSettings {
        dir: cache.dir.clone(),
        limit_bytes: cache.limit_bytes,
        place: place.to_owned(),
        block_size,
    });
    Ok(ReadSettings {
        block_size,
        memory_limit_bytes: config.memory.cache_bytes,
        disk,
    })
}
