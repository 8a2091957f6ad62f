//! Full parts of a file that is still being written.

use std::ops::Range;
use std::sync::Arc;

use super::parts::PartSize;
use super::stage::Stage;
use super::stage_file::StageFile;
use crate::store::{Key, PartNumber};

/// A part of a file that is still being written.
#[derive(Debug)]
pub struct FullPart {
    pub file: Arc<StageFile>,
    pub number: PartNumber,
    pub range: Range<u64>,
}

impl FullPart {
    /// The next part that is whole though the file is still being written, in
    /// order; each is told once.
    pub fn next_ahead(stage: &Stage, part_size: PartSize) -> Option<Self> {
        let (number, range) = Self::place_ahead(stage, part_size)?;
        stage.file().upload_slot().set_ahead_bytes(range.end);
        Some(Self {
            file: stage.file().clone(),
            number,
            range,
        })
    }

    /// The same part, which is not told by that. None of a file that shows a base, nor of
    /// one that may still become a single request.
    pub fn place_ahead(stage: &Stage, part_size: PartSize) -> Option<(PartNumber, Range<u64>)> {
        let (number, range) = part_size.part_at(stage.file().upload_slot().ahead_bytes())?;
        let whole = stage.len() >= range.end && stage.extents.gaps(&range).next().is_none();
        if !whole || stage.base_len() > 0 || stage.len() <= part_size.bytes() {
            return None;
        }
        Some((number, range))
    }

    /// The first full part that nobody has sent or sends under this key, but for the
    /// first of all. What shows a base is copied from it at close.
    pub fn next_unsent(stage: &Stage, key: &Key, part_size: PartSize) -> Option<Self> {
        if stage.len() <= part_size.bytes() {
            return None;
        }
        let upload = stage
            .file()
            .upload_slot()
            .get()
            .filter(|upload| upload.key() == key);
        let is_sent = |number, range: &Range<u64>| {
            let upload = upload.as_ref();
            upload.is_some_and(|upload| upload.has_or_is_sending(number, range))
        };
        let mut at = part_size.bytes();
        loop {
            let (number, range) = part_size.part_at(at)?;
            if stage.len() < range.end {
                return None;
            }
            let is_local = stage.extents.gaps(&range).next().is_none();
            if is_local && !is_sent(number, &range) {
                let file = stage.file().clone();
                return Some(Self {
                    file,
                    number,
                    range,
                });
            }
            at = range.end;
        }
    }
}
