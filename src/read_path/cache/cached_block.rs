//! A cached block with the checksums that its bytes had when they came.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

/// One checksum for so many bytes: a short read compares little more than it returns.
const SUMMED_BYTES: usize = 64 << 10;

#[derive(Debug, Clone)]
pub struct CachedBlock {
    bytes: Bytes,
    sums: Arc<[u32]>,
}

impl CachedBlock {
    pub fn new(bytes: Bytes) -> Self {
        let sums = bytes.chunks(SUMMED_BYTES).map(crc32fast::hash).collect();
        Self { bytes, sums }
    }

    /// Bytes that had these checksums when they came; none where they have others now.
    pub fn checked(bytes: Bytes, sums: Vec<u32>) -> Option<Self> {
        let block = Self::new(bytes);
        (*block.sums == *sums).then_some(block)
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn sums(&self) -> &[u32] {
        &self.sums
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes of a range, cut at the end of the block, as they are.
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.len());
        self.bytes.slice(range.start.min(end)..end)
    }

    /// The same where the memory has them as they came.
    pub fn intact(&self, range: Range<usize>) -> Option<Bytes> {
        let summed = range.start / SUMMED_BYTES..range.end.div_ceil(SUMMED_BYTES);
        let chunks = self.bytes.chunks(SUMMED_BYTES).zip(self.sums.iter());
        let mut touched = chunks.skip(summed.start).take(summed.len());
        touched
            .all(|(bytes, sum)| crc32fast::hash(bytes) == *sum)
            .then(|| self.slice(range))
    }

    /// The block as a memory with other bits would have it.
    #[cfg(test)]
    pub fn damaged(&self, at: usize) -> Self {
        let mut bytes = self.bytes.to_vec();
        bytes[at] ^= 1;
        Self {
            bytes: bytes.into(),
            sums: self.sums.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_by_whoever_reads_near_it_and_hides_nothing_else() {
        let len = 2 * SUMMED_BYTES + 100;
        let block = CachedBlock::new(vec![7; len].into());
        assert_eq!(block.intact(0..len).unwrap().len(), len);
        let damaged = block.damaged(SUMMED_BYTES + 5);
        assert!(damaged.intact(0..SUMMED_BYTES).is_some());
        assert!(damaged.intact(2 * SUMMED_BYTES..len).is_some());
        for range in [
            0..len,
            SUMMED_BYTES + 5..SUMMED_BYTES + 6,
            SUMMED_BYTES - 1..SUMMED_BYTES + 1,
        ] {
            assert!(damaged.intact(range).is_none());
        }
        assert!(damaged.intact(len..len + 5).unwrap().is_empty());
    }
}
