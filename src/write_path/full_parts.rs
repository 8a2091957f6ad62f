//! Full parts of a file that is still being written.

use std::ops::Range;
use std::sync::Arc;

use super::parts::PartSize;
use super::stage::Stage;
use super::stage_file::StageFile;
use crate::store::PartNumber;

/// A part of a file that is still being written.
#[derive(Debug)]
pub struct FullPart {
    pub file: Arc<StageFile>,
    pub number: PartNumber,
    pub range: Range<u64>,
}

impl Stage {
    /// The next part that is whole though the file is still being written, in
    /// order; each is told once. None of a file that shows a base, nor of one
    /// that may still become a single request.
    pub fn next_ahead(&self, part_size: PartSize) -> Option<FullPart> {
        let (number, range) = part_size.part_at(self.file().ahead_bytes())?;
        let whole = self.len() >= range.end && self.extents.gaps(&range).next().is_none();
        if !whole || self.base_len() > 0 || self.len() <= part_size.bytes() {
            return None;
        }
        self.file().set_ahead_bytes(range.end);
        Some(FullPart {
            file: self.file().clone(),
            number,
            range,
        })
    }
}
