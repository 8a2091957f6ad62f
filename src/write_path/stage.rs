//! Stages: bytes that are local and not yet in S3.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use rangemap::RangeSet;

use super::stage_file::StageFile;
use crate::error::FsError;
use crate::journal::{BlockSum, Offloaded, SealRecord};
use crate::session_state::{Record, SavedStage};
use crate::store::Key;

/// Largest file. Source: S3 User Guide, "MultipartUpload upload limits" (48.8 TiB = 10,000 parts of 5 GiB).
pub const FILE_LIMIT_BYTES: u64 = 10_000 * (5 << 30);

/// A file's content as changed locally: a sparse local file over a base.
///
/// Bytes are local where an extent says so, the base's where it is still
/// visible (below `base_len`), zero elsewhere.
#[derive(Debug, Clone)]
pub struct Stage {
    file: Arc<StageFile>,
    len: u64,
    base_len: u64,
    pub(super) extents: RangeSet<u64>,
}

/// Where a range of a staged file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Local(Range<u64>),
    Lower(Range<u64>),
    Zero(Range<u64>),
}

impl Stage {
    /// A stage that shows its base unchanged.
    pub fn new(file: Arc<StageFile>, base_len: u64) -> Self {
        let stage = Self {
            file,
            len: base_len,
            base_len,
            extents: RangeSet::new(),
        };
        stage.tell_all();
        stage
    }

    /// The stage of a file that was open when a predecessor ended, and is still.
    /// Its file has the checksums that were told of; none is taken from the disk but
    /// of bytes that were being changed, which nobody was told are there.
    ///
    /// Errors: the disk's.
    pub(super) fn adopted(file: Arc<StageFile>, saved: &SavedStage) -> io::Result<Self> {
        let stage = Self {
            file,
            len: saved.len,
            base_len: saved.base_len,
            extents: saved.written.clone(),
        };
        let mut unknown = RangeSet::new();
        if saved.unsummed {
            unknown = stage.extents.clone();
        } else if let Some(range) = saved.in_flux.as_ref().filter(|range| !range.is_empty()) {
            unknown.extend(
                stage
                    .extents
                    .intersection(&RangeSet::from_iter([range.clone()])),
            );
        }
        for missing in stage.file.offloaded().missing() {
            unknown.remove(missing);
        }
        stage.file.rebuild_checksums(&unknown)?;
        if !unknown.is_empty() {
            stage.tell_all();
        }
        stage
            .file
            .reservation()
            .reserve_unchecked(stage.local_bytes());
        Ok(stage)
    }

    /// A stage of which it is not known what it has: all of it reads as an error.
    ///
    /// Errors: the disk's.
    pub(super) fn unusable(file: Arc<StageFile>, told_len: u64) -> io::Result<Self> {
        file.set_unusable();
        let len = told_len.max(file.file_len()?).max(1);
        let stage = Self {
            len,
            base_len: 0,
            extents: std::iter::once(0..len).collect(),
            file,
        };
        stage.file.reservation().reserve_unchecked(len);
        Ok(stage)
    }

    fn tell_all(&self) {
        let (stage, len, base_len) = (self.file.id(), self.len, self.base_len);
        self.file.record(|| Record::Staged {
            stage,
            len,
            base_len,
        });
        for range in self.extents.iter() {
            self.file.record(|| Record::Wrote {
                stage,
                range: range.clone(),
                len,
                sums: Some(Vec::new()),
            });
        }
        let sums = self.file.sums();
        if !sums.is_empty() {
            self.file.record(|| Record::Summed { stage, sums });
        }
    }

    /// A stage as a predecessor left it.
    pub fn recovered(file: Arc<StageFile>, sealed: &SealRecord) -> Self {
        let stage = Self {
            file,
            len: sealed.len,
            base_len: sealed.base_len,
            extents: sealed.written.iter().cloned().collect(),
        };
        stage
            .file
            .reservation()
            .reserve_unchecked(stage.local_bytes());
        stage.tell_all();
        stage
    }

    /// Below it, what is not written shows the base.
    pub fn base_len(&self) -> u64 {
        self.base_len
    }

    /// Bytes that are local.
    pub(super) fn local_bytes(&self) -> u64 {
        let written = covered(self.extents.iter().cloned());
        written.saturating_sub(self.file.offloaded().missing_bytes())
    }

    /// Ranges that were written here.
    pub fn written(&self) -> Vec<Range<u64>> {
        self.extents.iter().cloned().collect()
    }

    pub fn file(&self) -> &Arc<StageFile> {
        &self.file
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether any byte of the base still shows, or its absence matters.
    pub fn depends_on_base(&self) -> bool {
        self.gaps(0..self.base_len).next().is_some()
    }

    /// Errors: `TooLarge`, `NoSpace`, `Spool`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), FsError> {
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= FILE_LIMIT_BYTES);
        let end = end.ok_or(FsError::TOO_LARGE)?;
        if data.is_empty() {
            return Ok(());
        }
        let len = self.len.max(end);
        self.make_local(offset..end, len, |file| file.write(offset, data))?;
        Ok(())
    }

    /// Takes bytes of the base over, where nothing newer is.
    pub fn fill(&mut self, offset: u64, data: &[u8]) -> Result<(), FsError> {
        let end = (offset + data.len() as u64).min(self.base_len);
        let gaps: Vec<_> = self.gaps(offset..end).collect();
        for gap in gaps {
            let from = (gap.start - offset) as usize;
            let bytes = data
                .get(from..(gap.end - offset) as usize)
                .ok_or(FsError::InvalidArgument)?;
            let at = gap.start;
            self.make_local(gap, self.len, |file| file.write(at, bytes))?;
        }
        Ok(())
    }

    /// Errors: `TooLarge`, `NoSpace`, `Spool`.
    pub fn truncate(&mut self, len: u64) -> Result<(), FsError> {
        if len > FILE_LIMIT_BYTES {
            return Err(FsError::TOO_LARGE);
        }
        let (stage, base_len) = (self.file.id(), self.base_len.min(len));
        let tell = |cut| {
            self.file.record(|| Record::Truncated {
                stage,
                len,
                base_len,
                cut,
            });
        };
        if len < self.len {
            // Bytes above the new end are gone for good, also when the file grows again.
            if let Err(error) = self.file.truncate(len, tell) {
                self.tell_all();
                return Err(error);
            }
            let before = self.local_bytes();
            self.extents.remove(len..u64::MAX);
            self.file.reservation().release(before - self.local_bytes());
        } else {
            tell(None);
        }
        (self.len, self.base_len) = (len, base_len);
        Ok(())
    }

    /// Makes a range of the file read as zeros, without growing the file.
    ///
    /// Errors: `NoSpace`, `Spool`.
    pub fn zero(&mut self, range: Range<u64>) -> Result<(), FsError> {
        let range = range.start..range.end.min(self.len);
        if range.is_empty() {
            return Ok(());
        }
        self.make_local(range.clone(), self.len, |file| file.punch(range))
    }

    /// The file is as long as it was, and shows less of its base.
    pub(super) fn cut_base(&mut self, base_len: u64) {
        self.base_len = self.base_len.min(base_len);
        let (stage, len, base_len) = (self.file.id(), self.len, self.base_len);
        self.file.record(|| Record::Truncated {
            stage,
            len,
            base_len,
            cut: None,
        });
    }

    /// Makes a range local by `put`, as far as the spool has room for what is new of
    /// it, and the file as long as `len`.
    fn make_local(
        &mut self,
        range: Range<u64>,
        len: u64,
        put: impl FnOnce(&StageFile) -> Result<Vec<BlockSum>, FsError>,
    ) -> Result<(), FsError> {
        let new = self.new_in(&range);
        self.file.reservation().reserve(new)?;
        let outcome = self.put_local(range, len, put);
        if outcome.is_err() {
            self.file.reservation().release(new);
        }
        outcome
    }

    /// Bytes of a range that are not local.
    pub(super) fn new_in(&self, range: &Range<u64>) -> u64 {
        covered(self.extents.gaps(range))
    }

    /// What of a range is not local.
    pub(super) fn new_ranges(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        self.extents.gaps(range).collect()
    }

    /// The same once the spool has room.
    pub(super) fn put_local(
        &mut self,
        range: Range<u64>,
        len: u64,
        put: impl FnOnce(&StageFile) -> Result<Vec<BlockSum>, FsError>,
    ) -> Result<(), FsError> {
        let new = self.new_in(&range);
        let sums = put(&self.file)?;
        if new > 0 || len != self.len || !sums.is_empty() {
            let stage = self.file.id();
            self.file.record(|| Record::Wrote {
                stage,
                range: range.clone(),
                len,
                sums: Some(sums),
            });
        }
        self.extents.insert(range);
        self.len = len;
        Ok(())
    }

    /// Where the bytes of a range come from, in order, cut at the end of the file.
    pub fn segments(&self, range: Range<u64>) -> Vec<Segment> {
        let range = range.start..range.end.min(self.len);
        let mut segments = Vec::new();
        if range.is_empty() {
            return segments;
        }
        let mut at = range.start;
        for extent in self.extents.overlapping(&range) {
            self.push_gap(&mut segments, at..extent.start.max(range.start));
            let local = extent.start.max(range.start)..extent.end.min(range.end);
            at = local.end;
            segments.push(Segment::Local(local));
        }
        self.push_gap(&mut segments, at..range.end);
        segments
    }

    fn push_gap(&self, segments: &mut Vec<Segment>, gap: Range<u64>) {
        let base = gap.start..gap.end.min(self.base_len);
        let zero = gap.start.max(self.base_len)..gap.end;
        if !base.is_empty() {
            segments.push(Segment::Lower(base));
        }
        if !zero.is_empty() {
            segments.push(Segment::Zero(zero));
        }
    }

    /// Ranges of the base that still show.
    pub fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let range = range.start..range.end.min(self.base_len);
        self.segments(range)
            .into_iter()
            .filter_map(|segment| match segment {
                Segment::Lower(gap) => Some(gap),
                Segment::Local(_) | Segment::Zero(_) => None,
            })
    }

    /// Marks a part of a file under this key that may leave the spool.
    pub fn mark_offloaded(&self, key: &Key) -> Option<(Arc<StageFile>, Offloaded)> {
        let is_local = |range: &Range<u64>| self.extents.gaps(range).next().is_none();
        let upload = self
            .file
            .upload_slot()
            .get()
            .filter(|upload| upload.key() == key)?;
        let marked = self.file.offloaded().mark(&upload, is_local)?;
        Some((self.file().clone(), marked))
    }
}

/// Bytes in ranges. Holes count too: what is punched may be written again.
pub(super) fn covered(ranges: impl Iterator<Item = Range<u64>>) -> u64 {
    ranges.map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_path::Spool;

    struct Scratch {
        spool: Spool,
        _dir: tempfile::TempDir,
    }

    fn scratch() -> Scratch {
        let dir = tempfile::tempdir().unwrap();
        Scratch {
            spool: Spool::open(dir.path(), u64::MAX).unwrap().0,
            _dir: dir,
        }
    }

    impl Scratch {
        fn stage(&self, base_len: u64) -> Stage {
            Stage::new(self.spool.create(None).unwrap(), base_len)
        }
    }

    #[test]
    fn what_was_written_is_local_the_rest_comes_from_the_base() {
        let scratch = scratch();
        let mut stage = scratch.stage(100);
        stage.write(10, b"0123456789").unwrap();
        stage.write(150, b"x").unwrap();
        assert_eq!(
            stage.segments(0..1000),
            [
                Segment::Lower(0..10),
                Segment::Local(10..20),
                Segment::Lower(20..100),
                Segment::Zero(100..150),
                Segment::Local(150..151)
            ]
        );
        assert_eq!(stage.segments(15..18), [Segment::Local(15..18)]);
        assert_eq!(stage.len(), 151);
    }

    #[test]
    fn bytes_cut_off_stay_gone_when_the_file_grows_again() {
        let scratch = scratch();
        let mut stage = scratch.stage(100);
        stage.write(40, b"abcdefghij").unwrap();
        stage.truncate(45).unwrap();
        stage.truncate(60).unwrap();
        assert_eq!(
            stage.segments(0..60),
            [
                Segment::Lower(0..40),
                Segment::Local(40..45),
                Segment::Zero(45..60)
            ]
        );
        assert_eq!(stage.file().read(40..50).unwrap(), b"abcde\0\0\0\0\0");
    }

    #[test]
    fn a_zeroed_range_hides_what_the_base_and_the_stage_had_there() {
        let scratch = scratch();
        let mut stage = scratch.stage(20);
        stage.write(0, b"0123456789").unwrap();
        stage.zero(5..15).unwrap();
        assert_eq!(
            stage.segments(0..20),
            [Segment::Local(0..15), Segment::Lower(15..20)]
        );
        assert_eq!(
            stage.file().read(0..15).unwrap(),
            b"01234\0\0\0\0\0\0\0\0\0\0"
        );
        stage.zero(18..100).unwrap();
        assert_eq!(stage.len(), 20);
    }

    #[test]
    fn filling_takes_nothing_over_newer_bytes() {
        let scratch = scratch();
        let mut stage = scratch.stage(10);
        stage.write(3, b"NEW").unwrap();
        stage.fill(0, b"basebaseba").unwrap();
        assert_eq!(stage.file().read(0..10).unwrap(), b"basNEWseba");
        assert!(!stage.depends_on_base());
    }

    #[test]
    fn a_stage_that_takes_an_earlier_one_over_shows_the_same_bytes() {
        let scratch = scratch();
        let mut first = scratch.stage(6);
        first.write(2, b"FIRST").unwrap();
        first.truncate(12).unwrap();
        let mut later = scratch.stage(first.len());
        later.write(4, b"la").unwrap();
        later.truncate(10).unwrap();
        later.truncate(11).unwrap();
        later.absorb(&first).unwrap();
        assert_eq!(
            later.segments(0..20),
            [
                Segment::Lower(0..2),
                Segment::Local(2..7),
                Segment::Zero(7..11)
            ]
        );
        assert_eq!(later.file().read(2..10).unwrap(), b"FIlaT\0\0\0");
    }

    #[test]
    fn a_file_over_the_limit_of_s3_is_too_large() {
        let scratch = scratch();
        let mut stage = scratch.stage(0);
        assert!(matches!(
            stage.write(FILE_LIMIT_BYTES, b"x"),
            Err(FsError::TooLarge(_))
        ));
        assert!(matches!(
            stage.truncate(FILE_LIMIT_BYTES + 1),
            Err(FsError::TooLarge(_))
        ));
    }
}
