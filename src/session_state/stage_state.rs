//! What records of one stage come to.

use std::ops::Range;

use rangemap::RangeSet;

use super::record::Record;
use crate::journal::{BlockSum, BlockSums};
use crate::vocabulary::StageId;

/// Checksums in one record of a rewritten file.
const SUMS_LIMIT: usize = 1024;

#[derive(Debug, Clone, Default)]
pub struct SavedStage {
    pub len: u64,
    pub base_len: u64,
    pub written: RangeSet<u64>,
    pub sums: BlockSums,
    /// Recorded by a mediafs that recorded no checksums.
    pub unsummed: bool,
    /// Bytes that were being changed: nobody was told which ones are there.
    pub in_flux: Option<Range<u64>>,
}

impl SavedStage {
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Wrote {
                range, len, sums, ..
            } => {
                self.unsummed |= sums.is_none();
                self.len = self.len.max(len);
                self.in_flux = None;
                insert(&mut self.written, range);
                self.put(sums.unwrap_or_default());
            }
            Record::Overwriting { range, rest, .. } => {
                for run in self.sums.overlapping(&range) {
                    self.sums.remove(&run);
                }
                self.put(rest);
                self.in_flux = Some(range);
            }
            Record::Summed { sums, .. } => {
                self.in_flux = None;
                self.put(sums);
            }
            Record::Truncated {
                len, base_len, cut, ..
            } => {
                (self.len, self.base_len) = (len, base_len);
                cut_off(&mut self.written, len);
                for run in self.sums.overlapping(&(len..len.saturating_add(1))) {
                    self.sums.remove(&run);
                }
                self.sums.cut(len);
                self.put(cut.into_iter().collect());
            }
            _ => {}
        }
    }

    fn put(&mut self, sums: Vec<BlockSum>) {
        for sum in sums {
            self.sums.put(sum);
        }
    }

    pub(super) fn for_each(&self, stage: StageId, give: &mut dyn FnMut(Record)) {
        let (len, base_len) = (self.len, self.base_len);
        give(Record::Staged {
            stage,
            len,
            base_len,
        });
        for range in self.written.iter().cloned() {
            let sums = (!self.unsummed).then(Vec::new);
            give(Record::Wrote {
                stage,
                range,
                len,
                sums,
            });
        }
        for sums in self.sums.list().chunks(SUMS_LIMIT) {
            let sums = sums.to_vec();
            give(Record::Summed { stage, sums });
        }
        if let Some(range) = self.in_flux.clone() {
            let rest = Vec::new();
            give(Record::Overwriting { stage, range, rest });
        }
    }
}

fn cut_off(ranges: &mut RangeSet<u64>, len: u64) {
    // No range is empty, not one to take away either.
    if len < u64::MAX {
        ranges.remove(len..u64::MAX);
    }
}

/// Empty ranges are none.
fn insert(ranges: &mut RangeSet<u64>, range: Range<u64>) {
    if range.start < range.end {
        ranges.insert(range);
    }
}
