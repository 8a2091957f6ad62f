//! Changes of a stage's file: bytes, holes, its end; and what the successor is told of them.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rangemap::RangeSet;
use rustix::fs::FallocateFlags;

use super::stage_file::StageFile;
use crate::error::FsError;
use crate::journal::{BlockSum, BlockSums, OffloadedPart};
use crate::session_state::Record;

impl StageFile {
    /// Returns the checksums of what is there now, for the successor.
    ///
    /// Errors: `Corrupt`, where the rest of a block that is changed is not what it was; `Spool`.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<Vec<BlockSum>, FsError> {
        self.check_usable()?;
        let mut sums = self.sums.write();
        self.offloaded()
            .check_may_change(&(offset..offset + data.len() as u64))?;
        let mut changed = Vec::new();
        for (piece, bytes) in BlockSums::pieces(offset, data) {
            let sum = match sums.joined(&piece, bytes) {
                Some(sum) => sum,
                None => self.overwritten(&sums.overlapping(&piece), &piece, bytes)?,
            };
            changed.push(sum);
        }
        let file = self.descriptor().file_to_write()?;
        self.record_overwriting(&sums, &(offset..offset + data.len() as u64))?;
        let outcome = file.write_all_at(data, offset);
        self.upload_slot()
            .invalidate(&(offset..offset + data.len() as u64));
        if outcome.is_err() {
            // Nobody knows how far it came: what is there now counts.
            for sum in &mut changed {
                let bytes = self.read_raw(sum.start..sum.end)?;
                *sum = BlockSums::sum(sum.start, &bytes);
            }
        }
        for sum in &changed {
            sums.put(*sum);
        }
        if outcome.is_err() {
            self.record_sums(changed.clone());
        }
        outcome?;
        Ok(changed)
    }

    /// The checksum of runs and a piece over them, as one.
    fn overwritten(
        &self,
        runs: &[BlockSum],
        piece: &Range<u64>,
        bytes: &[u8],
    ) -> Result<BlockSum, FsError> {
        let start = runs.iter().map(|run| run.start).min();
        let end = runs.iter().map(|run| run.end).max();
        let whole = piece.start.min(start.unwrap_or(u64::MAX))..piece.end.max(end.unwrap_or(0));
        let mut block = vec![0; (whole.end - whole.start) as usize];
        for run in runs {
            overlay(
                &mut block,
                run.start - whole.start,
                &self.read_checked(run)?,
            )?;
        }
        overlay(&mut block, piece.start - whole.start, bytes)?;
        Ok(BlockSums::sum(whole.start, &block))
    }

    /// A hole at the end of the file counts for who looks at the file itself. False
    /// where the disk does not take a file of that length.
    pub fn grow_to(&self, len: u64) -> bool {
        let grown = self.file_len().and_then(|had| match had < len {
            true => self.descriptor().file()?.set_len(len),
            false => Ok(()),
        });
        grown.is_ok()
    }

    /// Has the disk keep room for a range; where it cannot, it is found out later.
    ///
    /// Errors: `NoSpace`, `Spool`.
    pub(super) fn reserve(&self, range: Range<u64>) -> Result<(), FsError> {
        let flags = FallocateFlags::KEEP_SIZE;
        let len = range.end - range.start;
        let file = self.descriptor().file()?;
        match rustix::fs::fallocate(&file, flags, range.start, len).map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Cuts the file; `tell` is called before, with what is left of a run over its end.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub(super) fn truncate(
        &self,
        len: u64,
        tell: impl FnOnce(Option<BlockSum>),
    ) -> Result<(), FsError> {
        self.check_usable()?;
        let mut sums = self.sums.write();
        self.offloaded().cut(len)?;
        let over_the_end = sums.overlapping(&(len..len.saturating_add(1)));
        let cut = over_the_end.first().filter(|sum| sum.start < len);
        let cut = match cut {
            Some(sum) => {
                let mut block = self.read_checked(sum)?;
                block.truncate((len - sum.start) as usize);
                Some(BlockSums::sum(sum.start, &block))
            }
            None => None,
        };
        let file = self.descriptor().file_to_write()?;
        tell(cut);
        file.set_len(len)?;
        self.upload_slot().invalidate(&(len..u64::MAX));
        if let Some(sum) = cut {
            sums.cut(sum.start);
            sums.put(sum);
        } else {
            sums.cut(len);
        }
        Ok(())
    }

    /// Makes a range read as zeros, and returns the checksums of what is there now.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub(super) fn punch(&self, range: Range<u64>) -> Result<Vec<BlockSum>, FsError> {
        self.check_usable()?;
        let mut sums = self.sums.write();
        self.offloaded().check_may_change(&range)?;
        let mut changed = Vec::new();
        for sum in sums.overlapping(&range) {
            let mut block = self.read_checked(&sum)?;
            let from = range.start.max(sum.start) - sum.start;
            let to = range.end.min(sum.end) - sum.start;
            if let Some(part) = block.get_mut(from as usize..to as usize) {
                part.fill(0);
            }
            changed.push(BlockSums::sum(sum.start, &block));
        }
        let file = self.descriptor().file_to_write()?;
        self.record_overwriting(&sums, &range)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (start, len) = (range.start, range.end - range.start);
        if let Err(error) = rustix::fs::fallocate(&file, flags, start, len) {
            self.record_sums(sums.overlapping(&range));
            return Err(io::Error::from(error).into());
        }
        self.upload_slot().invalidate(&range);
        for sum in &changed {
            sums.put(*sum);
        }
        Ok(changed)
    }

    /// Punches a part out of the file that was marked, unless the file was cut meanwhile.
    pub(super) fn punch_out(&self, part: &OffloadedPart) -> io::Result<()> {
        // Nobody reads or writes until this is done.
        let _sums = self.sums.write();
        let missing = part.missing();
        let len = missing.end - missing.start;
        if self.offloaded().is_marked(part) {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let file = self.descriptor().file()?;
            rustix::fs::fallocate(&file, flags, missing.start, len)?;
        }
        self.reservation().release(len);
        Ok(())
    }

    /// Notes that bytes are about to change which have checksums. A daemon that dies
    /// meanwhile leaves old bytes or new ones in the range, and the rest as it was.
    ///
    /// Errors: as `write`.
    pub(super) fn record_overwriting(
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
        let (stage, range) = (self.id(), range.clone());
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
    pub(super) fn record_sums(&self, sums: Vec<BlockSum>) {
        let stage = self.id();
        self.record(|| Record::Summed { stage, sums });
    }
}

fn overlay(block: &mut [u8], at: u64, bytes: &[u8]) -> Result<(), FsError> {
    let at = at as usize;
    let part = block.get_mut(at..at + bytes.len());
    part.ok_or(FsError::CORRUPT)?.copy_from_slice(bytes);
    Ok(())
}
