//! Blocks: the unit in which objects are cached.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use crate::vocabulary::ObjectId;

/// Bytes of one block; the last block of an object is shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSize(NonZeroUsize);

impl BlockSize {
    /// Takes powers of two from 4 KiB to 16 MiB.
    pub fn new(bytes: usize) -> Option<Self> {
        let fits = bytes.is_power_of_two() && (4096..=16 << 20).contains(&bytes);
        if fits {
            NonZeroUsize::new(bytes).map(Self)
        } else {
            None
        }
    }

    pub fn bytes(self) -> u64 {
        self.0.get() as u64
    }

    /// The blocks that a byte range touches.
    pub fn blocks(self, range: &Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return 0..0;
        }
        range.start / self.bytes()..range.end.div_ceil(self.bytes())
    }

    /// Bytes of the blocks in an object of the given size.
    pub fn byte_range(self, blocks: &Range<u64>, object_size_bytes: u64) -> Range<u64> {
        blocks.start * self.bytes()..(blocks.end * self.bytes()).min(object_size_bytes)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BlockId {
    pub object: Arc<ObjectId>,
    pub index: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_map_to_the_blocks_they_touch() {
        let size = BlockSize::new(4096).unwrap();
        assert_eq!(size.blocks(&(0..0)), 0..0);
        assert_eq!(size.blocks(&(0..4096)), 0..1);
        assert_eq!(size.blocks(&(4095..4097)), 0..2);
        assert_eq!(size.byte_range(&(1..3), 9000), 4096..9000);
        assert!(BlockSize::new(5000).is_none());
    }
}
