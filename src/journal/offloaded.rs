//! Parts of a stage that only its unfinished upload has.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::block_sums::BLOCK_BYTES;
use crate::store::{CompletedPart, ETag, Key, ObjectHeaders, PartNumber, UploadId};

/// Parts that are punched out of a stage's file, and the upload that has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offloaded {
    pub key: Key,
    pub headers: ObjectHeaders,
    pub upload: UploadId,
    pub parts: Vec<OffloadedPart>,
}

/// A part that S3 has confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffloadedPart {
    pub number: u16,
    pub range: Range<u64>,
    pub etag: ETag,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc64nvme: Option<String>,
}

impl Offloaded {
    /// Has these parts too; those of another upload count no more.
    pub fn add(&mut self, more: Self) {
        if self.upload == more.upload {
            self.parts.extend(more.parts);
        } else {
            *self = more;
        }
    }

    /// The file has no bytes from here on.
    pub fn cut(&mut self, len: u64) {
        self.parts.retain(|part| part.range.start < len);
    }

    /// Where the parts end.
    pub fn end(&self) -> u64 {
        let ends = self.parts.iter().map(|part| part.range.end);
        ends.max().unwrap_or(0)
    }

    /// Ranges that the stage's file does not have, in order.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut missing: Vec<_> = self.parts.iter().map(OffloadedPart::missing).collect();
        missing.sort_by_key(|range| range.start);
        missing
    }
}

impl OffloadedPart {
    pub fn new(range: Range<u64>, part: CompletedPart) -> Self {
        Self {
            number: part.number.get(),
            range,
            etag: part.etag,
            crc64nvme: part.crc64nvme,
        }
    }

    /// What of it is not in the stage's file: whole blocks, so that each checksum is of
    /// bytes that are all there or all gone.
    pub fn missing(&self) -> Range<u64> {
        let start = self.range.start.next_multiple_of(BLOCK_BYTES);
        let end = self.range.end - self.range.end % BLOCK_BYTES;
        start..end.max(start)
    }

    /// As the store named it; none where the number is no part's.
    pub fn completed(&self) -> Option<CompletedPart> {
        Some(CompletedPart {
            number: PartNumber::new(self.number)?,
            etag: self.etag.clone(),
            crc64nvme: self.crc64nvme.clone(),
        })
    }
}
