//! Full parts of a file that is still being written.

use std::ops::Range;
use std::sync::Arc;

use super::parts::PartSize;
use super::stage::Stage;
use super::stage_file::StageFile;
use crate::journal::Offloaded;
use crate::store::{Key, PartNumber};

/// A part of a file that is still being written.
#[derive(Debug)]
pub struct FullPart {
    pub file: Arc<StageFile>,
    pub number: PartNumber,
    pub range: Range<u64>,
}

impl Stage {
    /// The next part that is whole though the file is still being written, in
    /// order; each is told once.
    pub fn next_ahead(&self, part_size: PartSize) -> Option<FullPart> {
        let (number, range) = self.full_ahead(part_size)?;
        self.file().set_ahead_bytes(range.end);
        Some(FullPart {
            file: self.file().clone(),
            number,
            range,
        })
    }

    /// The same part, which is not told by that. None of a file that shows a base, nor of
    /// one that may still become a single request.
    pub fn full_ahead(&self, part_size: PartSize) -> Option<(PartNumber, Range<u64>)> {
        let (number, range) = part_size.part_at(self.file().ahead_bytes())?;
        let whole = self.len() >= range.end && self.extents.gaps(&range).next().is_none();
        if !whole || self.base_len() > 0 || self.len() <= part_size.bytes() {
            return None;
        }
        Some((number, range))
    }

    /// The first full part that nobody has sent or sends under this key, but for the
    /// first of all.
    pub fn next_unsent(&self, key: &Key, part_size: PartSize) -> Option<FullPart> {
        if self.base_len() > 0 || self.len() <= part_size.bytes() {
            return None;
        }
        let upload = self.file().upload().filter(|upload| upload.key() == key);
        let is_sent = |number, range: &Range<u64>| {
            let upload = upload.as_ref();
            upload.is_some_and(|upload| upload.has_or_gets(number, range))
        };
        let mut at = part_size.bytes();
        loop {
            let (number, range) = part_size.part_at(at)?;
            if self.len() < range.end || self.extents.gaps(&range).next().is_some() {
                return None;
            }
            if !is_sent(number, &range) {
                let file = self.file().clone();
                return Some(FullPart {
                    file,
                    number,
                    range,
                });
            }
            at = range.end;
        }
    }

    /// Marks a part of a file under this key that may leave the spool.
    pub fn mark_offloaded(&self, key: &Key) -> Option<(Arc<StageFile>, Offloaded)> {
        let is_local = |range: &Range<u64>| self.extents.gaps(range).next().is_none();
        let marked = self.file().mark_offloaded(key, is_local)?;
        Some((self.file().clone(), marked))
    }
}
