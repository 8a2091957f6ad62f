//! What the tier is set to, and what is told of it.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::index::BLOCK_COST_BYTES;
use super::{Mode, Shared};
use crate::read_path::block::BlockSize;

#[derive(Debug, Clone)]
pub struct DiskSettings {
    pub dir: PathBuf,
    pub limit_bytes: u64,
    /// Of blocks that wait to be written, which are in memory.
    pub queue_limit_bytes: u64,
    /// Memory of the index, which bounds the blocks too.
    pub index_limit_bytes: u64,
    /// Bucket, prefix and endpoint: another place has another folder.
    pub place: String,
    pub block_size: BlockSize,
}

impl DiskSettings {
    /// Memory that the index of so many bytes takes, all in whole blocks.
    pub fn index_bytes(limit_bytes: u64, block_size: BlockSize) -> u64 {
        (limit_bytes / block_size.bytes()).saturating_mul(BLOCK_COST_BYTES)
    }
}

/// What the tier holds and what it was good for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskUse {
    pub dir: PathBuf,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub blocks: usize,
    pub hits: u64,
    pub misses: u64,
    /// Blocks that were there and not as they were written.
    pub damaged: u64,
    /// Blocks that were not stored, since the disk was too slow or too full.
    pub dropped: u64,
    /// Why nothing is read or stored.
    pub off: Option<String>,
    /// Why nothing more is stored.
    pub full: Option<String>,
}

/// What is told of a tier.
pub(super) fn of(shared: &Shared) -> DiskUse {
    let mut state = shared.state.lock();
    let (used_bytes, blocks) = state
        .index()
        .map_or((0, 0), |index| (index.used_bytes(), index.blocks()));
    DiskUse {
        dir: shared.settings.dir.clone(),
        used_bytes,
        limit_bytes: shared.settings.limit_bytes,
        blocks,
        hits: shared.hits.load(Ordering::Relaxed),
        misses: shared.misses.load(Ordering::Relaxed),
        damaged: shared.damaged.load(Ordering::Relaxed),
        dropped: shared.dropped.load(Ordering::Relaxed),
        off: match &state.mode {
            Mode::Off(why) => Some(why.clone()),
            Mode::On { .. } => None,
        },
        full: state.full.clone(),
    }
}
