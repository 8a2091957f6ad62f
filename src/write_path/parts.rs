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

/// One part of an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// This range of the file is sent.
    Send(Range<u64>),
    /// These bytes are copied inside the store.
    Copy(StoredRange),
}

/// Cuts a file into parts of `part_bytes`; neighbours that the store has as one
/// range become one part of up to `copy_part_size`.
pub fn plan_parts(
    len: u64,
    part_bytes: u64,
    copy_part_size: CopyPartSize,
    stored: impl Fn(Range<u64>) -> Option<StoredRange>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    for index in 0..len.div_ceil(part_bytes) {
        let start = index * part_bytes;
        let range = start..len.min(start + part_bytes);
        let Some(next) = stored(range.clone()) else {
            parts.push(Part::Send(range));
            continue;
        };
        match parts.last_mut() {
            Some(Part::Copy(last))
                if (&last.key, &last.etag, last.range.end)
                    == (&next.key, &next.etag, next.range.start)
                    && next.range.end - last.range.start <= copy_part_size.bytes() =>
            {
                last.range.end = next.range.end;
            }
            _ => parts.push(Part::Copy(next)),
        }
    }
    parts
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
        let wanted = [
            Part::Copy(stored(0..10 * MIB)),
            Part::Copy(stored(10 * MIB..20 * MIB)),
            Part::Send(20 * MIB..25 * MIB),
            Part::Copy(stored(25 * MIB..35 * MIB)),
            Part::Copy(stored(35 * MIB..40 * MIB)),
            Part::Send(40 * MIB..43 * MIB),
        ];
        assert_eq!(plan, wanted);
    }
}
