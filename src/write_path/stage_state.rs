//! What a successor is told of the bytes of a stage.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::stage_file::StageFile;
use crate::error::FsError;
use crate::handover::Record;
use crate::journal::{BlockSum, BlockSums};

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
        if runs.is_empty() || !self.ledger.is_kept() {
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
        self.tell(|| Record::Overwriting { stage, range, rest });
        Ok(())
    }

    /// What could not be changed is what it was, or what is there.
    pub(super) fn tell_summed(&self, sums: Vec<BlockSum>) {
        let stage = self.id;
        self.tell(|| Record::Summed { stage, sums });
    }

    /// What was told of it is damaged: nobody sees its bytes but in lost+found.
    pub fn set_unusable(&self) {
        let stage = self.id;
        if !self.unusable.swap(true, Ordering::Relaxed) {
            self.tell(|| Record::StageDoubtful { stage });
        }
    }

    pub fn is_unusable(&self) -> bool {
        self.unusable.load(Ordering::Relaxed)
    }

    pub(super) fn check_usable(&self) -> Result<(), FsError> {
        if self.is_unusable() {
            return Err(FsError::Corrupt);
        }
        Ok(())
    }
}
