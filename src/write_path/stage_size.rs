//! How long a stage's file is, and holes in it.

use std::io;
use std::ops::Range;

use rustix::fs::FallocateFlags;

use super::stage_file::StageFile;
use crate::error::FsError;
use crate::journal::{BlockSum, BlockSums};

impl StageFile {
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
        self.cut_offloaded(len)?;
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
        self.invalidate(&(len..u64::MAX));
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
        self.check_may_change(&range)?;
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
        self.tell_overwriting(&sums, &range)?;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (start, len) = (range.start, range.end - range.start);
        if let Err(error) = rustix::fs::fallocate(&file, flags, start, len) {
            self.tell_summed(sums.overlapping(&range));
            return Err(io::Error::from(error).into());
        }
        self.invalidate(&range);
        for sum in &changed {
            sums.put(*sum);
        }
        Ok(changed)
    }
}
