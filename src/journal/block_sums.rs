//! Checksums of what was written of a file, kept up as bytes are written.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Longest run of bytes that has one checksum. None goes over the end of such a
/// block: an overwrite in the middle reads at most as much.
pub const BLOCK_BYTES: u64 = 128 << 10;

/// Checksum of a run of bytes of a stage file; as `[start, end, crc32]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u64, u64, u32)", into = "(u64, u64, u32)")]
pub struct BlockSum {
    pub start: u64,
    pub end: u64,
    pub crc32: u32,
}

impl TryFrom<(u64, u64, u32)> for BlockSum {
    type Error = String;

    fn try_from((start, end, crc32): (u64, u64, u32)) -> Result<Self, String> {
        // The run is read into memory to compare it, and none goes over the end of a block.
        let block = |at: u64| at / BLOCK_BYTES;
        if start < end && block(start) == block(end - 1) {
            Ok(Self { start, end, crc32 })
        } else {
            Err(format!("no run of bytes goes from {start} to {end}"))
        }
    }
}

impl From<BlockSum> for (u64, u64, u32) {
    fn from(sum: BlockSum) -> Self {
        (sum.start, sum.end, sum.crc32)
    }
}

/// A checksum for each run of bytes that was written, and for nothing else: a
/// hole that is filled later leaves the others true.
#[derive(Debug, Clone, Default)]
pub struct BlockSums(BTreeMap<u64, BlockSum>);

impl BlockSums {
    pub fn of(sums: &[BlockSum]) -> Self {
        Self(sums.iter().map(|sum| (sum.start, *sum)).collect())
    }

    pub fn list(&self) -> Vec<BlockSum> {
        self.0.values().copied().collect()
    }

    /// The checksum of bytes that begin at an offset.
    pub fn sum(start: u64, bytes: &[u8]) -> BlockSum {
        BlockSum {
            start,
            end: start + bytes.len() as u64,
            crc32: crc32fast::hash(bytes),
        }
    }

    /// Data cut where blocks end.
    pub fn pieces(offset: u64, data: &[u8]) -> impl Iterator<Item = (Range<u64>, &[u8])> {
        let (mut at, mut rest) = (offset, data);
        std::iter::from_fn(move || {
            let len = rest.len().min((BLOCK_BYTES - at % BLOCK_BYTES) as usize);
            let (bytes, after) = rest.split_at_checked(len).filter(|_| len > 0)?;
            let piece = at..at + len as u64;
            (at, rest) = (piece.end, after);
            Some((piece, bytes))
        })
    }

    /// The checksum of the run that a piece becomes part of, where that is known
    /// without reading what is there: it is new, replaces whole runs, or goes on
    /// where one ends.
    pub fn joined(&self, piece: &Range<u64>, bytes: &[u8]) -> Option<BlockSum> {
        let replaced = self.overlapping(piece);
        if !replaced
            .iter()
            .all(|run| piece.start <= run.start && run.end <= piece.end)
        {
            return None;
        }
        let before = self.0.range(..piece.start).next_back();
        let before = before.map(|(_, run)| *run).filter(|run| {
            run.end == piece.start && run.start / BLOCK_BYTES == piece.start / BLOCK_BYTES
        });
        Some(match before {
            None => Self::sum(piece.start, bytes),
            Some(run) => {
                let mut hasher = crc32fast::Hasher::new_with_initial(run.crc32);
                hasher.update(bytes);
                BlockSum {
                    start: run.start,
                    end: piece.end,
                    crc32: hasher.finalize(),
                }
            }
        })
    }

    pub fn overlapping(&self, range: &Range<u64>) -> Vec<BlockSum> {
        let block = range.start - range.start % BLOCK_BYTES;
        let sums = self.0.range(block..range.end).map(|(_, sum)| *sum);
        sums.filter(|sum| sum.end > range.start).collect()
    }

    /// Takes the place of every run that it overlaps.
    pub fn put(&mut self, sum: BlockSum) {
        for old in self.overlapping(&(sum.start..sum.end)) {
            self.0.remove(&old.start);
        }
        self.0.insert(sum.start, sum);
    }

    pub fn remove(&mut self, run: &BlockSum) {
        self.0.remove(&run.start);
    }

    /// Nothing is left from `len` on. No run may go over it.
    pub fn cut(&mut self, len: u64) {
        self.0.split_off(&len);
    }
}
