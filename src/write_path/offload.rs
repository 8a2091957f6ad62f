//! Parts of a stage that leave the spool while their file is still being written.
//!
//! Where the spool is short of room, parts that S3 has confirmed are punched out of the
//! stage's file. Nobody can read them out of an unfinished upload, so that until it is
//! completed they can neither be read nor changed, and the file cannot take another
//! name. The first part stays: many programs write the beginning of a file last.
//!
//! ```text
//! the part is marked: from here on it is neither read nor changed
//! the journal has it, which outlives a power loss
//! its bytes are punched out of the file, the spool has their room again
//! ```

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::multipart::MultipartUpload;
use crate::error::FsError;
use crate::journal::{Journal, Offloaded, OffloadedPart, Record};
use crate::record_log::Durable;
use crate::vocabulary::StageId;

/// The parts of one stage that only its unfinished upload has.
#[derive(Debug)]
pub struct OffloadedParts {
    stage: StageId,
    journal: Arc<Journal>,
    parts: Mutex<Option<Offloaded>>,
}

impl OffloadedParts {
    /// `of_predecessor`: what that punched out of the stage.
    pub(super) fn new(
        stage: StageId,
        journal: Arc<Journal>,
        of_predecessor: Option<Offloaded>,
    ) -> Self {
        let parts = of_predecessor.filter(|it| !it.parts.is_empty());
        Self {
            stage,
            journal,
            parts: Mutex::new(parts),
        }
    }

    pub fn get(&self) -> Option<Offloaded> {
        self.parts.lock().clone()
    }

    pub fn has_any(&self) -> bool {
        self.parts.lock().is_some()
    }

    /// Up to here the upload has parts that only it has.
    pub fn end(&self) -> u64 {
        self.parts.lock().as_ref().map_or(0, Offloaded::end)
    }

    /// Ranges that the file does not have though they were written.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let offloaded = self.parts.lock();
        offloaded.as_ref().map_or_else(Vec::new, Offloaded::missing)
    }

    pub(super) fn missing_bytes(&self) -> u64 {
        let missing = self.missing().into_iter();
        missing.map(|range| range.end - range.start).sum()
    }

    /// Errors: `Offloaded`, where some of a range is not in the file.
    pub(super) fn check_is_here(&self, range: &Range<u64>) -> Result<(), FsError> {
        self.check_none(range, OffloadedPart::missing)
    }

    /// Errors: `Offloaded`, where some of a range is of a part that cannot be sent again.
    pub(super) fn check_may_change(&self, range: &Range<u64>) -> Result<(), FsError> {
        self.check_none(range, |part| part.range.clone())
    }

    fn check_none(
        &self,
        range: &Range<u64>,
        of: impl Fn(&OffloadedPart) -> Range<u64>,
    ) -> Result<(), FsError> {
        let offloaded = self.parts.lock();
        let mut parts = offloaded.iter().flat_map(|it| &it.parts).map(of);
        if parts.any(|part| part.start < range.end && range.start < part.end) {
            return Err(FsError::Offloaded);
        }
        Ok(())
    }

    /// To be called before the file is cut.
    ///
    /// Errors: `Offloaded`, where it would be cut in the middle of such a part; `Spool`.
    pub(super) fn cut(&self, len: u64) -> Result<(), FsError> {
        let mut offloaded = self.parts.lock();
        let Some(parts) = offloaded.as_mut().filter(|it| it.end() > len) else {
            return Ok(());
        };
        let is_cut = |part: &OffloadedPart| part.range.start < len && len < part.range.end;
        if parts.parts.iter().any(is_cut) {
            return Err(FsError::Offloaded);
        }
        let stage = self.stage;
        let record = Record::OffloadedCut { stage, len };
        self.journal.append(record, Durable::No)?;
        parts.cut(len);
        if parts.parts.is_empty() {
            *offloaded = None;
        }
        Ok(())
    }

    /// Marks the first part that S3 has and that may leave the file; from then on it is
    /// neither read nor changed. To be called where nobody writes.
    pub(super) fn mark(
        &self,
        upload: &MultipartUpload,
        is_local: impl Fn(&Range<u64>) -> bool,
    ) -> Option<Offloaded> {
        let mut offloaded = self.parts.lock();
        let before = offloaded.as_ref();
        if before.is_some_and(|before| before.upload != *upload.id()) {
            return None;
        }
        let known = before.iter().flat_map(|before| &before.parts);
        let known: HashSet<u16> = known.map(|part| part.number).collect();
        let (range, part) = upload.first_done(|number, range| {
            number.get() > 1 && !known.contains(&number.get()) && is_local(range)
        })?;
        let part = OffloadedPart::new(range, part);
        if part.missing().is_empty() {
            return None;
        }
        let marked = Offloaded {
            key: upload.key().clone(),
            headers: upload.headers().clone(),
            upload: upload.id().clone(),
            parts: vec![part],
        };
        match offloaded.as_mut() {
            Some(offloaded) => offloaded.add(marked.clone()),
            None => *offloaded = Some(marked.clone()),
        }
        Some(marked)
    }

    /// Whether a part is marked: it is not any more once the file was cut there.
    pub(super) fn is_marked(&self, part: &OffloadedPart) -> bool {
        is_marked(&self.parts.lock(), part)
    }

    /// Tells the journal of a marked part, before or after it is told of a cut.
    pub(super) fn record(&self, marked: Offloaded) -> io::Result<()> {
        let offloaded = self.parts.lock();
        if !marked.parts.iter().all(|part| is_marked(&offloaded, part)) {
            return Ok(());
        }
        let record = Record::Offloaded {
            stage: self.stage,
            offloaded: Box::new(marked),
        };
        self.journal.append(record, Durable::No)
    }
}

fn is_marked(offloaded: &Option<Offloaded>, part: &OffloadedPart) -> bool {
    let mut parts = offloaded.iter().flat_map(|it| &it.parts);
    parts.any(|it| it == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::BLOCK_BYTES;
    use crate::store::{
        CompletedPart, ETag, Key, ObjectHeaders, PartNumber, UploadId, WriteCondition,
    };
    use crate::write_path::abort_queue::Aborter;
    use crate::write_path::full_parts::FullPart;
    use crate::write_path::multipart::PartClaim;
    use crate::write_path::{PartSize, PriorAttempt, Spool, Stage, UploadTarget};

    /// No multiple of a block.
    const PART: u64 = 5_300_000;

    struct Written {
        dir: tempfile::TempDir,
        spool: Spool,
        stage: Stage,
        key: Key,
    }

    fn bytes(range: &Range<u64>) -> Vec<u8> {
        let byte = |at: u64| (at / 7 % 251) as u8 + 1;
        range.clone().map(byte).collect()
    }

    impl Written {
        /// A stage of four parts, of which the store has all but the last.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
            let key = Key::new("k");
            let mut stage = Stage::new(spool.create(Some(&key)).unwrap(), 0);
            stage.write(0, &bytes(&(0..4 * PART))).unwrap();
            let target = UploadTarget {
                key: key.clone(),
                headers: ObjectHeaders::default(),
                condition: WriteCondition::Always,
                known: WriteCondition::Always,
                len: 0,
                prior: PriorAttempt::None,
            };
            let id = UploadId("1".to_owned());
            let upload = Arc::new(MultipartUpload::begun(&target, id, Aborter::new().0));
            stage.file().upload_slot().set(Some(upload.clone()));
            for (number, start) in [(1, 0), (2, PART), (3, 2 * PART)] {
                let number = PartNumber::new(number).unwrap();
                let Some(PartClaim::Send(claimed)) =
                    upload.try_claim(number, &(start..start + PART))
                else {
                    panic!("sent already");
                };
                claimed.sent(CompletedPart {
                    number,
                    etag: ETag::new("e"),
                    crc64nvme: None,
                });
            }
            Self {
                dir,
                spool,
                stage,
                key,
            }
        }

        fn mark(&self) -> Option<Offloaded> {
            self.stage
                .mark_offloaded(&self.key)
                .map(|(_, marked)| marked)
        }

        fn has(&self, range: Range<u64>) -> bool {
            match self.stage.file().read(range.clone()) {
                Ok(read) => {
                    assert!(read == bytes(&range), "{range:?}");
                    true
                }
                Err(FsError::Offloaded) => false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn parts_leave_in_order_but_the_first_and_are_neither_read_nor_changed() {
        let mut it = Written::new();
        assert!(it.stage.mark_offloaded(&Key::new("other")).is_none());
        let taken = it.spool.staged_bytes();
        let marked = it.mark().unwrap();
        assert_eq!(marked.parts[0].range, PART..2 * PART);
        assert!(!it.has(PART..2 * PART), "not even before it is gone");
        it.spool.offload(it.stage.file(), marked.clone()).unwrap();
        let missing = marked.parts[0].missing();
        let freed = missing.end - missing.start;
        assert!(freed > PART - 2 * BLOCK_BYTES);
        assert_eq!(it.spool.staged_bytes(), taken - freed);
        // Blocks that other parts share are here.
        assert!(it.has(0..missing.start) && it.has(missing.end..4 * PART));
        assert!(!it.has(missing.start - 1..missing.start + 1));
        let third = it.mark().unwrap();
        assert_eq!(third.parts[0].range.start, 2 * PART);
        it.spool.offload(it.stage.file(), third).unwrap();
        assert!(it.mark().is_none(), "the store does not have the last one");
        for at in [PART, missing.start, 3 * PART - 1] {
            let refused = it.stage.write(at, b"x").unwrap_err();
            assert!(matches!(refused, FsError::Offloaded), "{refused}");
            assert!(it.stage.zero(at..at + 1).is_err());
        }
        assert!(it.stage.truncate(PART + 1).is_err());
        assert_eq!(it.stage.len(), 4 * PART);
        let size = PartSize::new(PART).unwrap();
        let unsent = FullPart::next_unsent(&it.stage, &it.key, size).unwrap();
        assert_eq!(unsent.range, 3 * PART..4 * PART);
    }

    #[test]
    fn what_is_cut_off_and_written_again_is_not_punched() {
        let mut it = Written::new();
        let second = it.mark().unwrap();
        it.spool.offload(it.stage.file(), second).unwrap();
        let late = it.mark().unwrap();
        it.stage.truncate(2 * PART).unwrap();
        it.stage
            .write(2 * PART, &bytes(&(2 * PART..3 * PART)))
            .unwrap();
        it.spool.offload(it.stage.file(), late).unwrap();
        assert!(it.has(2 * PART..3 * PART));
        let id = it.stage.file().id();
        assert_eq!(it.spool.journal().offloaded(id).unwrap().end(), 2 * PART);
        it.stage.truncate(0).unwrap();
        assert!(!it.stage.file().offloaded().has_any());
        assert!(it.spool.journal().offloaded(id).unwrap().parts.is_empty());
        drop(it.stage);
        assert_eq!(it.spool.staged_bytes(), 0);
    }

    #[test]
    fn the_journal_says_at_the_next_start_what_is_missing() {
        let it = Written::new();
        let marked = it.mark().unwrap();
        it.spool.offload(it.stage.file(), marked.clone()).unwrap();
        let id = it.stage.file().id();
        let Written {
            dir, spool, stage, ..
        } = it;
        drop((stage, spool));
        let path = dir.path().join("journal");
        for _ in 0..2 {
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.offloaded(id), Some(marked.clone()));
        }
        Spool::open(dir.path(), u64::MAX).unwrap();
        let kept = dir.path().join("lost+found").join(id.to_string());
        let sidecar = crate::write_path::lost_found::Sidecar::beside(&kept).unwrap();
        let missing = marked.parts[0].missing();
        assert_eq!(sidecar.missing, Some(vec![[missing.start, missing.end]]));
        let written = [[0, missing.start], [missing.end, 4 * PART]];
        assert_eq!(sidecar.written.as_deref(), Some(&written[..]));
        assert!(!sidecar.whole);
    }
}
