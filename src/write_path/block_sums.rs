//! Checksums of a file's blocks, kept up as bytes are written.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::journal::BlockSum;

/// One checksum for so many bytes: an overwrite in the middle reads as much.
pub const BLOCK_BYTES: u64 = 128 << 10;

/// At most one checksum a block, of one run of bytes that holds all that was
/// written in it.
#[derive(Debug, Default)]
pub struct BlockSums(BTreeMap<u64, BlockSum>);

impl BlockSums {
    pub fn of(sums: &[BlockSum]) -> Self {
        let sums = sums.iter().map(|sum| (sum.start / BLOCK_BYTES, *sum));
        Self(sums.collect())
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

    /// The checksum of a block once a piece of it is written, where that is known
    /// without reading the block.
    pub fn joined(&self, piece: &Range<u64>, bytes: &[u8]) -> Option<BlockSum> {
        let Some(old) = self.of_block(piece.start) else {
            return Some(Self::sum(piece.start, bytes));
        };
        if piece.start <= old.start && piece.end >= old.end {
            return Some(Self::sum(piece.start, bytes));
        }
        (piece.start == old.end).then(|| {
            let mut hasher = crc32fast::Hasher::new_with_initial(old.crc32);
            hasher.update(bytes);
            BlockSum {
                start: old.start,
                end: piece.end,
                crc32: hasher.finalize(),
            }
        })
    }

    pub fn of_block(&self, offset: u64) -> Option<BlockSum> {
        self.0.get(&(offset / BLOCK_BYTES)).copied()
    }

    pub fn overlapping(&self, range: &Range<u64>) -> Vec<BlockSum> {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        let sums = self.0.range(blocks).map(|(_, sum)| *sum);
        sums.filter(|sum| sum.start < range.end && sum.end > range.start)
            .collect()
    }

    pub fn put(&mut self, sum: BlockSum) {
        self.0.insert(sum.start / BLOCK_BYTES, sum);
    }

    /// Nothing is left of the block of `len`, nor above it.
    pub fn cut(&mut self, len: u64) {
        self.0.split_off(&(len / BLOCK_BYTES));
    }
}
