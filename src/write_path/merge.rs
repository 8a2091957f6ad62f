//! Two stages of a file become one: the shorter one is copied into the longer one.
//!
//! A file that is synced again and again while its upload is stuck costs the disk
//! about twice what is written, however long it is already. Where the longer stage is
//! the lower one, which is sealed, its bytes change in place. The upper one's file is
//! the redo log then: a crash in the middle is made good by copying again.
//!
//! ```text
//! bytes and directory entry of the upper stage are on disk
//! the journal has `Absorbed`: from here on the lower one counts as having them
//! they are copied; the lower one's file is synced
//! the upper one's file is removed, the journal has `Done` of it
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rangemap::RangeSet;

use super::spool::Spool;
use super::stage::{Segment, Stage, covered};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::journal::{Absorbed, Record};
use crate::private;
use crate::record_log::{Durable, sync_dir};
use crate::store::{ObjectHeaders, WriteCondition};

const CHUNK_BYTES: u64 = 1 << 20;

impl Stage {
    /// Takes over what an earlier stage, which this one is based on, holds: both
    /// are then based on the same. The earlier one is not needed any more then.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub fn absorb(&mut self, prior: &Stage) -> Result<(), FsError> {
        let gaps: Vec<_> = self.gaps(0..self.base_len()).collect();
        for gap in gaps {
            for segment in prior.segments(gap) {
                match segment {
                    Segment::Local(range) => self.copy_from(prior, range)?,
                    // Nobody reads there, but who looks at the file itself: what a write
                    // that failed has left must not show.
                    Segment::Zero(range) => drop(self.file().punch(range)?),
                    Segment::Lower(_) => {}
                }
            }
        }
        self.cut_base(prior.base_len());
        Ok(())
    }

    /// Bytes that `absorb` would copy.
    fn shown_of(&self, prior: &Stage) -> u64 {
        let segments = self
            .gaps(0..self.base_len())
            .flat_map(|gap| prior.segments(gap));
        covered(segments.filter_map(|segment| match segment {
            Segment::Local(range) => Some(range),
            Segment::Lower(_) | Segment::Zero(_) => None,
        }))
    }

    /// Takes over what a later stage, which is based on this one, holds.
    ///
    /// Errors: `Corrupt`, `Spool`; some of it is taken over then.
    fn absorb_upper(&mut self, later: &Stage) -> Result<(), FsError> {
        if later.base_len() < self.len() {
            self.truncate(later.base_len())?;
        }
        for range in later.written() {
            self.copy_from(later, range)?;
        }
        if later.len() > self.len() {
            self.truncate(later.len())?;
        }
        Ok(())
    }

    /// This sealed stage with the bytes of a later one, as `record` lists them. All
    /// of it outlives a power loss; the later one can be discarded then.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub fn with_absorbed(
        &self,
        later: &Stage,
        record: Absorbed,
        spool: &Spool,
    ) -> Result<Stage, FsError> {
        later.file().sync()?;
        failpoint::at(Point::SealStageSynced);
        sync_dir(&spool.stage_dir)?;
        failpoint::at(Point::SealDirectorySynced);
        let record = Record::Absorbed(Box::new(record));
        spool.journal.append(record, Durable::Yes)?;
        failpoint::at(Point::AbsorbJournaled);
        let mut whole = self.clone();
        whole.absorb_upper(later)?;
        failpoint::at(Point::AbsorbCopied);
        whole.file().sync()?;
        failpoint::at(Point::AbsorbSynced);
        whole.file().descriptor().release();
        Ok(whole)
    }

    /// Takes bytes of another stage over, and the room in the spool that they have there.
    fn copy_from(&mut self, other: &Stage, range: Range<u64>) -> Result<(), FsError> {
        let mut at = range.start;
        while at < range.end {
            let chunk = at..range.end.min(at + CHUNK_BYTES);
            let bytes = other.file().read(chunk.clone())?;
            let new = self.new_in(&chunk);
            self.file()
                .reservation()
                .take_from(other.file().reservation(), new);
            let len = self.len().max(chunk.end);
            let copied = self.put_local(chunk.clone(), len, |file| file.write(at, &bytes));
            if copied.is_err() {
                other
                    .file()
                    .reservation()
                    .take_from(self.file().reservation(), new);
            }
            copied?;
            at = chunk.end;
        }
        Ok(())
    }

    /// Whether it costs less to copy this stage into the one that it is based on.
    pub fn is_absorbed_by(&self, below: &Stage) -> bool {
        // What is not here cannot be copied.
        !self.file().offloaded().has_any() && self.local_bytes() < self.shown_of(below)
    }

    /// Has the disk keep room for what `later` adds. Errors: `NoSpace`, `Spool`.
    pub fn reserve_for(&self, later: &Stage) -> Result<(), FsError> {
        let gaps = later
            .written()
            .into_iter()
            .flat_map(|range| self.new_ranges(&range));
        gaps.into_iter()
            .try_for_each(|gap| self.file().reserve(gap))
    }

    /// How the journal tells that `below` takes this stage over.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub fn as_absorbed(
        &self,
        below: &Stage,
        headers: ObjectHeaders,
        (condition, known): (WriteCondition, WriteCondition),
    ) -> Result<Absorbed, FsError> {
        let cut_at = if self.base_len() < below.len() {
            self.base_len()
        } else {
            u64::MAX
        };
        let written: RangeSet<u64> = self.written().into_iter().collect();
        let mut sums = below.file().sums_around(&written, cut_at)?;
        sums.extend(self.file().sums());
        Ok(Absorbed {
            stage: below.file().id(),
            from: self.file().id(),
            headers,
            condition,
            known,
            cut_at,
            len: self.len(),
            written: self.written(),
            sums,
        })
    }
}

/// Copies what a crash may have left half copied, and syncs it. It has checksums,
/// which whoever reads it compares.
pub(super) fn absorb_again(from: &Path, below: &Path, absorbed: &Absorbed) -> io::Result<()> {
    let from = private::open(from, OpenOptions::new().read(true))?;
    let below = private::open(below, OpenOptions::new().read(true).write(true))?;
    if below.metadata()?.len() > absorbed.cut_at {
        below.set_len(absorbed.cut_at)?;
    }
    for range in &absorbed.written {
        copy_range(&from, &below, range.clone())?;
    }
    below.sync_data()
}

/// Behind the end of a file are zeros.
fn copy_range(from: &File, into: &File, range: Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let mut bytes = vec![0; (range.end - at).min(CHUNK_BYTES) as usize];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match from.read_at(rest, at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        into.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::journal::{BLOCK_BYTES, SealRecord, SealedBase};
    use crate::store::Key;
    use crate::vocabulary::StageId;
    use crate::write_path::RecoveredStage;

    const LIMIT: u64 = 4 * BLOCK_BYTES;

    fn conditions() -> (WriteCondition, WriteCondition) {
        (WriteCondition::IfAbsent, WriteCondition::Always)
    }

    fn as_sealed(stage: &Stage) -> SealRecord {
        SealRecord {
            stage: stage.file().id(),
            key: Key::new("k"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::IfAbsent,
            known: WriteCondition::Always,
            len: stage.len(),
            base_len: stage.base_len(),
            written: stage.written(),
            sums: stage.file().sums(),
            completing: None,
            attempted: Vec::new(),
            base: SealedBase::Empty,
        }
    }

    fn sealed(spool: &Spool, stage: &Stage) {
        let record = as_sealed(stage);
        spool.seal(stage.file(), record, Durable::No).unwrap();
    }

    /// What a stage shows over a base of these bytes.
    fn text(stage: &Stage, base: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in stage.segments(0..u64::MAX) {
            match segment {
                Segment::Local(range) => bytes.extend(stage.file().read(range).unwrap()),
                Segment::Lower(range) => {
                    bytes.extend(&base[range.start as usize..range.end as usize]);
                }
                Segment::Zero(range) => bytes.resize(bytes.len() + range.count(), 0),
            }
        }
        bytes
    }

    /// Writes, cuts and punches at random.
    fn change(stage: &mut Stage, random: &mut fastrand::Rng) {
        for _ in 0..random.usize(1..6) {
            let at = random.u64(0..LIMIT);
            let len = random.u64(1..BLOCK_BYTES);
            match random.u8(0..8) {
                0 => stage.truncate(at).unwrap(),
                1 => stage.zero(at..at + len).unwrap(),
                _ => {
                    let data = vec![random.u8(1..); len as usize];
                    stage.write(at, &data).unwrap();
                }
            }
        }
    }

    /// A stage, and one over it, changed at random.
    fn pair(spool: &Spool, random: &mut fastrand::Rng, base: &[u8]) -> (Stage, Stage) {
        let create = || spool.create(Some(&Key::new("k"))).unwrap();
        let mut below = Stage::new(create(), base.len() as u64);
        change(&mut below, random);
        let mut later = Stage::new(create(), below.len());
        change(&mut later, random);
        sealed(spool, &below);
        (below, later)
    }

    fn recovered(found: Vec<RecoveredStage>) -> HashMap<StageId, Stage> {
        let stages = found
            .into_iter()
            .map(|it| Stage::recovered(it.file, &it.sealed));
        stages.map(|stage| (stage.file().id(), stage)).collect()
    }

    #[test]
    fn whichever_is_copied_into_the_other_the_two_show_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let base = vec![7; BLOCK_BYTES as usize];
        for round in 0..60 {
            let (below, later) = pair(&spool, &mut random, &base);
            let want = text(&later, &text(&below, &base));
            let taken = spool.staged_bytes();
            let record = later.as_absorbed(&below, ObjectHeaders::default(), conditions());
            let whole = below
                .with_absorbed(&later, record.unwrap(), &spool)
                .unwrap();
            assert!(text(&whole, &base) == want, "absorbed in round {round}");
            assert!(spool.staged_bytes() <= taken, "room is handed on");
            let mut merged = later.clone();
            merged.absorb(&whole).unwrap();
            assert!(text(&merged, &base) == want, "merged in round {round}");
            assert_eq!(merged.len(), whole.len());
        }
    }

    /// A kill between any two of the copies: the next start finds all the bytes.
    #[test]
    fn what_a_crash_left_half_copied_is_copied_again_and_matches_its_checksums() {
        let mut random = fastrand::Rng::with_seed(2);
        let base = vec![7; BLOCK_BYTES as usize];
        for round in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
            let (below, later) = pair(&spool, &mut random, &base);
            let want = text(&later, &text(&below, &base));
            let record = later.as_absorbed(&below, ObjectHeaders::default(), conditions());
            let record = record.unwrap();
            if round % 3 == 0 {
                below.with_absorbed(&later, record, &spool).unwrap();
            } else {
                let journaled = Record::Absorbed(Box::new(record.clone()));
                spool.journal.append(journaled, Durable::Yes).unwrap();
                if below.len() > record.cut_at && round % 3 == 1 {
                    below.file().truncate(record.cut_at, |_| {}).unwrap();
                }
                for range in &record.written[..random.usize(0..=record.written.len())] {
                    let half = range.start + (range.end - range.start) / 2;
                    let bytes = later.file().read(range.start..half).unwrap();
                    below.file().write(range.start, &bytes).unwrap();
                }
            }
            let id = below.file().id();
            drop((below, later, spool));
            // The second start finds it done.
            for _ in 0..2 {
                let (spool, found) = Spool::open(dir.path(), u64::MAX).unwrap();
                let found = recovered(found);
                assert_eq!(found.len(), 1, "round {round}");
                assert!(text(&found[&id], &base) == want, "round {round}");
                drop(spool);
            }
            let stages = std::fs::read_dir(dir.path().join("stage")).unwrap();
            assert_eq!(stages.count(), 1);
            let kept = std::fs::read_dir(dir.path().join("lost+found")).unwrap();
            assert_eq!(kept.count(), 0);
        }
    }

    #[test]
    fn the_shorter_one_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let stage = |base_len| Stage::new(spool.create(None).unwrap(), base_len);
        let mut below = stage(0);
        below.write(0, &[1; 100]).unwrap();
        let mut appended = stage(100);
        appended.write(100, &[2; 99]).unwrap();
        assert!(appended.is_absorbed_by(&below));
        appended.write(199, b"x").unwrap();
        assert!(!appended.is_absorbed_by(&below));
        let mut over = stage(100);
        over.write(0, &[3; 60]).unwrap();
        assert!(!over.is_absorbed_by(&below), "40 bytes of it show");
        let mut anew = stage(0);
        anew.write(0, b"x").unwrap();
        assert!(!anew.is_absorbed_by(&below), "nothing of it shows");
    }
}
