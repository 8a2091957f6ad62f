//! The local file of one stage, with a checksum for each block of it.
//!
//! A checksum is computed from the bytes as they come from the application, and
//! compared at each read: what the disk changed in between is found out before
//! anyone sees or uploads it.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rangemap::RangeSet;
use rustix::buffer::spare_capacity;
use rustix::io::pread;

use super::crc64nvme::{Crc64Nvme, Summed};
use super::descriptor::StageDescriptor;
use super::offload::OffloadedParts;
use super::quota::Reservation;
use super::upload_slot::UploadSlot;
use crate::error::FsError;
use crate::journal::{BLOCK_BYTES, BlockSum, BlockSums};
use crate::session_state::{Record, SessionLog};
use crate::vocabulary::StageId;

/// It stays on disk until `Spool::discard`: what a crash leaves is found at the next start.
#[derive(Debug)]
pub struct StageFile {
    id: StageId,
    descriptor: StageDescriptor,
    reservation: Reservation,
    /// Held while bytes and checksums differ, and while they are compared.
    pub(super) sums: RwLock<BlockSums>,
    upload_slot: UploadSlot,
    offloaded: OffloadedParts,
    /// Stages that are in the store, and that the journal has below this one still.
    stored_below: Mutex<Vec<Arc<StageFile>>>,
    /// The spool does not have it any more.
    discarded: AtomicBool,
    /// What is in it is not known: it is neither served nor changed nor uploaded.
    unusable: AtomicBool,
    /// The file goes with it.
    unlinks_on_drop: AtomicBool,
    pub(super) session_log: Arc<SessionLog>,
}

impl Drop for StageFile {
    fn drop(&mut self) {
        if !*self.unlinks_on_drop.get_mut() {
            return;
        }
        let path = self.path();
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the stage file");
        }
        let stage = self.id;
        self.session_log.record(|| Record::StageGone { stage });
    }
}

impl StageFile {
    pub(super) fn new(
        id: StageId,
        descriptor: StageDescriptor,
        reservation: Reservation,
        sums: &[BlockSum],
        (offloaded, session_log): (OffloadedParts, Arc<SessionLog>),
    ) -> Self {
        Self {
            id,
            descriptor,
            reservation,
            sums: RwLock::new(BlockSums::of(sums)),
            upload_slot: UploadSlot::default(),
            stored_below: Mutex::default(),
            offloaded,
            discarded: AtomicBool::new(false),
            unusable: AtomicBool::new(false),
            unlinks_on_drop: AtomicBool::new(false),
            session_log,
        }
    }

    /// The last that holds it removes the file.
    pub(super) fn unlink_on_drop(&self) {
        self.unlinks_on_drop.store(true, Ordering::Relaxed);
    }

    /// Notes a change of the stage for the successor.
    pub(super) fn record(&self, record: impl FnOnce() -> Record) {
        self.session_log.record(record);
    }

    /// Takes what is in these ranges now for what was written, where nobody was told
    /// what that is. Behind the file's end there is nothing that could change.
    pub(super) fn rebuild_checksums(&self, ranges: &RangeSet<u64>) -> io::Result<()> {
        let file_end = self.descriptor.file()?.metadata()?.len();
        let mut sums = self.sums.write();
        for range in ranges.iter() {
            let (mut at, range_end) = (range.start, range.end.min(file_end));
            while at < range_end {
                let end = range_end.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
                sums.put(BlockSums::sum(at, &self.read_raw(at..end)?));
                at = end;
            }
        }
        Ok(())
    }

    pub fn id(&self) -> StageId {
        self.id
    }

    /// When bytes were written last, where the disk tells.
    pub fn modified(&self) -> Option<SystemTime> {
        self.descriptor
            .file()
            .ok()?
            .metadata()
            .ok()?
            .modified()
            .ok()
    }

    pub(super) fn file_len(&self) -> io::Result<u64> {
        Ok(self.descriptor.file()?.metadata()?.len())
    }

    /// Checksums of all that was written.
    pub fn sums(&self) -> Vec<BlockSum> {
        self.sums.read().list()
    }

    /// What the stage takes of the spool.
    pub(super) fn reservation(&self) -> &Reservation {
        &self.reservation
    }

    pub(super) fn path(&self) -> PathBuf {
        self.descriptor.path()
    }

    pub(super) fn descriptor(&self) -> &StageDescriptor {
        &self.descriptor
    }

    /// What only the upload has of it.
    pub fn offloaded(&self) -> &OffloadedParts {
        &self.offloaded
    }

    /// The upload that has parts of it, if one was begun.
    pub fn upload_slot(&self) -> &UploadSlot {
        &self.upload_slot
    }

    /// Keeps a stage that is in the store until the journal has this one over its object.
    pub fn keep_below(&self, stored: Arc<StageFile>) {
        self.stored_below.lock().push(stored);
    }

    pub(super) fn take_stored_below(&self) -> Vec<Arc<StageFile>> {
        std::mem::take(&mut *self.stored_below.lock())
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }

    /// Whether it was so before.
    pub(super) fn set_discarded(&self) -> bool {
        let before = self.discarded.swap(true, Ordering::Relaxed);
        self.upload_slot.close();
        before
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

    pub(super) fn sync(&self) -> io::Result<()> {
        self.descriptor.file()?.sync_data()
    }

    /// Bytes of a range; what was never written reads as zeros.
    ///
    /// Errors: `Corrupt`, `Spool`.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, FsError> {
        self.read_through(range, |_| {})
    }

    /// The same with the checksum for the store, which is computed of each block while the
    /// processor's cache has it for its own.
    pub fn read_summed(&self, range: Range<u64>) -> Result<Summed, FsError> {
        let mut crc64nvme = Crc64Nvme::default();
        let bytes = self.read_through(range, |block| crc64nvme.update(block))?;
        Ok(Summed {
            bytes: bytes.into(),
            crc64nvme,
        })
    }

    /// Gives `seen` one block after the other as soon as it is compared.
    fn read_through(
        &self,
        range: Range<u64>,
        mut seen: impl FnMut(&[u8]),
    ) -> Result<Vec<u8>, FsError> {
        self.check_usable()?;
        let sums = self.sums.read();
        self.offloaded.check_is_here(&range)?;
        let mut bytes = self.read_raw(range.clone())?;
        let (mut rest, mut at) = (bytes.as_mut_slice(), range.start);
        while !rest.is_empty() {
            let end = range.end.min((at / BLOCK_BYTES + 1) * BLOCK_BYTES);
            let (block, after) = rest.split_at_mut((end - at) as usize);
            self.compare_all(&sums, at, block)?;
            seen(block);
            (rest, at) = (after, end);
        }
        Ok(bytes)
    }

    /// Compares bytes of one block, or takes those that were compared.
    fn compare_all(&self, sums: &BlockSums, at: u64, bytes: &mut [u8]) -> Result<(), FsError> {
        let range = at..at + bytes.len() as u64;
        for sum in sums.overlapping(&range) {
            let within = sum.start.max(range.start)..sum.end.min(range.end);
            let at = (within.start - range.start) as usize..(within.end - range.start) as usize;
            let part = bytes.get_mut(at).ok_or(FsError::CORRUPT)?;
            if within == (sum.start..sum.end) {
                self.compare(&sum, part)?;
            } else {
                let block = self.read_checked(&sum)?;
                let from = (within.start - sum.start) as usize;
                let checked = block.get(from..from + part.len());
                part.copy_from_slice(checked.ok_or(FsError::CORRUPT)?);
            }
        }
        Ok(())
    }

    pub(super) fn read_checked(&self, sum: &BlockSum) -> Result<Vec<u8>, FsError> {
        let bytes = self.read_raw(sum.start..sum.end)?;
        self.compare(sum, &bytes)?;
        Ok(bytes)
    }

    fn compare(&self, sum: &BlockSum, bytes: &[u8]) -> Result<(), FsError> {
        if BlockSums::sum(sum.start, bytes) == *sum {
            return Ok(());
        }
        tracing::error!(
            path = %self.path().display(), from = sum.start, to = sum.end,
            "stage damaged on disk (checksum mismatch): its bytes are neither served nor uploaded"
        );
        Err(FsError::CORRUPT)
    }

    pub(super) fn read_raw(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let file = self.descriptor.file()?;
        let len = (range.end - range.start) as usize;
        let mut buffer = Vec::with_capacity(len);
        while buffer.len() < len {
            let at = range.start + buffer.len() as u64;
            match pread(&file, spare_capacity(&mut buffer), at).map_err(io::Error::from) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Behind the file's end there are zeros; and a vector may have room for more.
        buffer.resize(len, 0);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::write_path::Spool;

    fn stage() -> (tempfile::TempDir, Arc<StageFile>) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        (dir, spool.create(None).unwrap())
    }

    /// Random writes, cuts and holes on a stage and on a plain vector.
    #[test]
    fn what_was_written_cut_and_punched_is_read_back_and_matches_its_checksums() {
        let (_dir, stage) = stage();
        let limit = 5 * BLOCK_BYTES;
        let mut want = vec![0_u8; limit as usize];
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..400_u64 {
            let from = random.u64(0..limit);
            let len = random.u64(1..2 * BLOCK_BYTES).min(limit - from);
            let at = from as usize..(from + len) as usize;
            match random.u8(0..8) {
                0 => {
                    stage.truncate(from, |_| {}).unwrap();
                    want[from as usize..].fill(0);
                }
                1 => {
                    stage.punch(from..from + len).unwrap();
                    want[at].fill(0);
                }
                _ => {
                    let data = vec![round as u8 | 1; len as usize];
                    stage.write(from, &data).unwrap();
                    want[at].copy_from_slice(&data);
                }
            }
            let from = random.u64(0..limit);
            let to = random.u64(from..limit);
            let want = &want[from as usize..to as usize];
            assert!(stage.read(from..to).unwrap() == want, "round {round}");
            let seen = stage.read_summed(from..to).unwrap();
            assert!(seen.bytes == want, "round {round}");
            let of_want = Summed::of(want.to_vec().into()).crc64nvme.text();
            assert_eq!(seen.crc64nvme.text(), of_want, "round {round}");
        }
    }

    #[test]
    fn a_flipped_bit_is_corrupt_to_every_reader_and_not_blessed_by_a_write() {
        let (_dir, stage) = stage();
        stage.write(0, &vec![7; 3 * BLOCK_BYTES as usize]).unwrap();
        let at = BLOCK_BYTES + 100;
        let file = stage.descriptor.file().unwrap();
        file.write_all_at(&[6], at).unwrap();
        assert_eq!(
            stage.read(0..BLOCK_BYTES).unwrap(),
            vec![7; BLOCK_BYTES as usize]
        );
        for range in [0..2 * BLOCK_BYTES, at..at + 1, BLOCK_BYTES..BLOCK_BYTES + 1] {
            assert!(matches!(
                stage.read(range.clone()),
                Err(FsError::Corrupt(_))
            ));
            let summed = stage.read_summed(range);
            assert!(matches!(summed, Err(FsError::Corrupt(_))));
        }
        let beside = stage.write(at + 1, b"x");
        assert!(matches!(beside, Err(FsError::Corrupt(_))), "{beside:?}");
        assert!(matches!(
            stage.truncate(at + 1, |_| {}),
            Err(FsError::Corrupt(_))
        ));
        assert!(matches!(
            stage.punch(at + 1..at + 2),
            Err(FsError::Corrupt(_))
        ));
        // Bytes that replace all of the block heal it.
        stage
            .write(BLOCK_BYTES, &vec![8; BLOCK_BYTES as usize])
            .unwrap();
        assert_eq!(stage.read(at..at + 1).unwrap(), [8]);
    }
}
