//! What a successor is told of the bytes of a stage.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use rangemap::RangeSet;

use super::stage_file::StageFile;
use crate::error::FsError;
use crate::journal::{BlockSum, BlockSums};
use crate::session_state::Record;

impl StageFile {
    /// Notes that bytes are about to change which have checksums. A daemon that dies
    /// meanwhile leaves old bytes or new ones in the range, and the rest as it was.
    ///
    /// Errors: as `write`.
    pub(super) fn tell_overwriting(
        &self,
        sums: &BlockSums,
        range: &Range<u64>,
    ) -> Result<(), FsError> {
        let runs = sums.overlapping(range);
        if runs.is_empty() || !self.session_log.is_kept() {
            return Ok(());
        }
        let mut rest = Vec::new();
        let over_an_end = |run: &&BlockSum| run.start < range.start || range.end < run.end;
        for run in runs.iter().filter(over_an_end) {
            let block = self.read_checked(run)?;
            let before = block.get(..range.start.saturating_sub(run.start) as usize);
            let after = run.end.saturating_sub(range.end) as usize;
            let after = block.get(block.len() - after..);
            let before = before.map(|bytes| BlockSums::sum(run.start, bytes));
            let after = after.map(|bytes| BlockSums::sum(range.end, bytes));
            let left = before.into_iter().chain(after);
            rest.extend(left.filter(|sum| sum.start < sum.end));
        }
        let (stage, range) = (self.id, range.clone());
        self.record(|| Record::Overwriting { stage, range, rest });
        Ok(())
    }

    /// Checksums of what is left of runs once these ranges have other bytes, and what
    /// is from `cut_at` on is gone.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub(super) fn sums_around(
        &self,
        ranges: &RangeSet<u64>,
        cut_at: u64,
    ) -> Result<Vec<BlockSum>, FsError> {
        let sums = self.sums.read();
        let at_the_cut = cut_at..cut_at.saturating_add(1);
        let changed = ranges.iter().cloned().chain([at_the_cut]);
        let runs = changed.flat_map(|range| sums.overlapping(&range));
        let runs: BTreeMap<u64, BlockSum> = runs.map(|run| (run.start, run)).collect();
        let mut around = Vec::new();
        for run in runs.values() {
            let block = self.read_checked(run)?;
            let kept = run.start..run.end.min(cut_at).max(run.start);
            for piece in ranges.gaps(&kept) {
                let at = (piece.start - run.start) as usize..(piece.end - run.start) as usize;
                let bytes = block.get(at).ok_or(FsError::CORRUPT)?;
                around.push(BlockSums::sum(piece.start, bytes));
            }
        }
        Ok(around)
    }

    /// What could not be changed is what it was, or what is there.
    pub(super) fn tell_summed(&self, sums: Vec<BlockSum>) {
        let stage = self.id;
        self.record(|| Record::Summed { stage, sums });
    }

    /// What was told of it is damaged: nobody sees its bytes but in lost+found.
    pub fn set_unusable(&self) {
        let stage = self.id;
        if !self.unusable.swap(true, Ordering::Relaxed) {
            self.record(|| Record::StageDoubtful { stage });
        }
    }

    pub fn is_unusable(&self) -> bool {
        self.unusable.load(Ordering::Relaxed)
    }

    pub(super) fn check_usable(&self) -> Result<(), FsError> {
        if self.is_unusable() {
            return Err(FsError::CORRUPT);
        }
        Ok(())
    }
}
