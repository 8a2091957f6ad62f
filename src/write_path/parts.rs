//! How a long file is cut into the parts of a multipart upload.

use std::ops::Range;

use super::copier::CopyPartSize;
use crate::error::FsError;
use crate::store::{ETag, Key, PART_COUNT_LIMIT, PART_MIN_BYTES};

/// Largest part that is sent from memory; with 10,000 parts it bounds the object.
const PART_MAX_BYTES: u64 = 512 << 20;

/// Size of the parts of an upload, but for very long files, whose parts grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSize(u64);

impl PartSize {
    /// Takes 5 MiB, the least that S3 allows, to 512 MiB.
    pub fn new(bytes: u64) -> Option<Self> {
        (PART_MIN_BYTES..=PART_MAX_BYTES)
            .contains(&bytes)
            .then_some(Self(bytes))
    }

    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Part size with which `PART_COUNT_LIMIT` parts hold the file. Errors: `TooLarge`.
    pub fn for_len(self, len: u64) -> Result<u64, FsError> {
        let least = len
            .div_ceil(u64::from(PART_COUNT_LIMIT))
            .next_multiple_of(1 << 20);
        let part = self.0.max(least);
        if part > PART_MAX_BYTES {
            Err(FsError::TooLarge)
        } else {
            Ok(part)
        }
    }
}

/// Bytes of an object version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRange {
    pub key: Key,
    pub etag: ETag,
    pub range: Range<u64>,
}

/// Cuts a file into parts of `part_bytes` and returns where they end; neighbours
/// that the store has as one range become one part of up to `copy_part_size`.
pub fn plan_parts(
    len: u64,
    part_bytes: u64,
    copy_part_size: CopyPartSize,
    stored: impl Fn(Range<u64>) -> Option<StoredRange>,
) -> Vec<u64> {
    let mut ends: Vec<u64> = Vec::new();
    // What the last part copies.
    let mut copied: Option<StoredRange> = None;
    for index in 0..len.div_ceil(part_bytes) {
        let start = index * part_bytes;
        let end = len.min(start + part_bytes);
        let next = stored(start..end);
        match (&mut copied, &next) {
            (Some(last), Some(next))
                if (&last.key, &last.etag, last.range.end)
                    == (&next.key, &next.etag, next.range.start)
                    && next.range.end - last.range.start <= copy_part_size.bytes() =>
            {
                last.range.end = next.range.end;
                ends.pop();
            }
            _ => copied = next,
        }
        ends.push(end);
    }
    ends
}

/// The parts between these ends.
pub fn ranges(ends: &[u64]) -> impl Iterator<Item = Range<u64>> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(ends.iter().copied())
        .map(|(start, end)| start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_so_that_ten_thousand_hold_the_file() {
        let size = PartSize::new(8 << 20).unwrap();
        assert_eq!(size.for_len(100 << 20).unwrap(), 8 << 20);
        let len = 1 << 40;
        let part = size.for_len(len).unwrap();
        assert!(len.div_ceil(part) <= u64::from(PART_COUNT_LIMIT));
        assert!(matches!(
            size.for_len(u64::MAX >> 8),
            Err(FsError::TooLarge)
        ));
        assert!(PartSize::new(PART_MIN_BYTES - 1).is_none());
    }

    #[test]
    fn what_the_store_has_is_copied_in_long_parts_and_the_rest_is_sent() {
        const MIB: u64 = 1 << 20;
        let stored = |range: Range<u64>| StoredRange {
            key: Key::new("k"),
            etag: ETag::new("e"),
            range,
        };
        // An edit at 20 MiB, and an append behind 40 MiB.
        let edited = 20 * MIB..20 * MIB + 5;
        let plan = plan_parts(
            43 * MIB,
            5 * MIB,
            CopyPartSize::new(10 * MIB).unwrap(),
            |range| {
                let touched = range.end > edited.start && range.start < edited.end;
                (!touched && range.end <= 40 * MIB).then(|| stored(range))
            },
        );
        let wanted = [10, 20, 25, 35, 40, 43].map(|mib| mib * MIB);
        assert_eq!(plan, wanted);
    }
}
