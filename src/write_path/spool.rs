//! The spool: a local directory that holds every byte until S3 has it.
//!
//! ```text
//! spool/lock         held by the one daemon that uses the spool
//! spool/journal      what the stages are; journal.spare is for when it is rewritten
//! spool/mount.json   which place they are for, and where that was mounted last
//! spool/session      what the kernel was told, for the successor; with session.spare
//! spool/stage/ID     staged bytes
//! spool/orphan/ID    staged bytes of files that are open and have no name
//! spool/lost+found/  bytes that could not be uploaded, each with a sidecar
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::claim::PlacedSpool;
use super::descriptor::{DescriptorQuota, StageDescriptor};
use super::disk_room::DiskRoom;
use super::lost_found::{self, LostFile, LostFound};
use super::offload::OffloadedParts;
use super::quota::SpoolQuota;
use super::spool_error::SpoolError;
use super::spool_lock::SpoolLock;
use super::stage::Stage;
use super::stage_file::StageFile;
use crate::failpoint::{self, Point};
use crate::journal::{
    BlockSum, Journal, Offloaded, Record, RenameIntent, SealRecord, SealedHeaders, UploadStart,
};
use crate::private;
use crate::record_log::{Durable, sync_dir};
use crate::session_state::{self, SessionLog, SessionState};
use crate::store::{ETag, Key};
use crate::vocabulary::StageId;

/// A stage that a predecessor sealed and did not bring to S3.
#[derive(Debug)]
pub struct RecoveredStage {
    pub file: Arc<StageFile>,
    pub sealed: SealRecord,
    /// The multipart upload by which it was going there.
    pub sending: Option<UploadStart>,
}

/// What predecessors left in a spool.
#[derive(Debug, Default)]
pub struct Recovered {
    /// What they had sealed, what another is based on before it.
    pub sealed: Vec<RecoveredStage>,
    /// What their open files are made of, where those are still open.
    pub open: HashMap<StageId, Stage>,
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    pub(super) stage_dir: PathBuf,
    pub(super) orphan_dir: PathBuf,
    pub(super) lost_found: LostFound,
    pub(super) journal: Arc<Journal>,
    session_log: Arc<SessionLog>,
    next_id: AtomicU64,
    room: Arc<SpoolQuota>,
    descriptors: Arc<DescriptorQuota>,
    _lock: SpoolLock,
}

impl Spool {
    /// Opens a spool for this process alone, which sends nothing of it, and makes it
    /// where there is none; its stages hold at most `limit_bytes` together.
    ///
    /// Returns what a predecessor had sealed, what another is based on before it;
    /// other stages that it left go to lost+found.
    pub fn open(path: &Path, limit_bytes: u64) -> Result<(Self, Vec<RecoveredStage>), SpoolError> {
        let placed = SpoolLock::take(path)?.as_recorded();
        let (spool, left) = Self::resume(
            placed,
            limit_bytes,
            Arc::default(),
            &SessionState::default(),
        )?;
        Ok((spool, left.sealed))
    }

    /// The same for a successor, which keeps the files that its predecessor had
    /// open: those that were told of are left as they were.
    pub fn resume(
        placed: PlacedSpool,
        limit_bytes: u64,
        session_log: Arc<SessionLog>,
        saved: &SessionState,
    ) -> Result<(Self, Recovered), SpoolError> {
        let PlacedSpool { lock, place, .. } = placed;
        let path = lock.dir();
        let (stage_dir, orphan_dir) = (path.join("stage"), path.join("orphan"));
        private::directory(&stage_dir)?;
        private::directory(&orphan_dir)?;
        let lost_found = LostFound::open(&path.join(lost_found::DIR_NAME), place)?;
        let journal = Arc::new(Journal::open(&path.join("journal"))?);
        let spool = Self {
            dir: path.to_owned(),
            stage_dir,
            orphan_dir,
            lost_found,
            journal,
            session_log,
            next_id: AtomicU64::new(first_id()),
            room: Arc::new(SpoolQuota::new(limit_bytes, DiskRoom::of(path))),
            descriptors: Arc::new(DescriptorQuota::of_process()),
            _lock: lock,
        };
        let left = spool.recover(saved).map_err(|source| SpoolError::Io {
            path: spool.dir.clone(),
            source,
        })?;
        Ok((spool, left))
    }

    /// The bound on its stages from now on.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.room.set_limit(limit_bytes);
    }

    /// Bytes that its stages hold, of files that are open and files that wait for S3.
    pub fn staged_bytes(&self) -> u64 {
        self.room.taken_bytes()
    }

    /// `u64::MAX` where the disk alone is the limit.
    pub fn limit_bytes(&self) -> u64 {
        self.room.limit_bytes()
    }

    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// What the journal was told outlives a power loss once this returns.
    pub async fn sync(&self) -> io::Result<()> {
        let journal = self.journal.clone();
        tokio::task::spawn_blocking(move || journal.sync()).await?
    }

    /// A new empty stage file for a key. Without one, for a file that has no
    /// name any more, it goes with the last that holds it.
    pub fn create(&self, key: Option<&Key>) -> io::Result<Arc<StageFile>> {
        let id = StageId(self.next_id.fetch_add(1, Ordering::Relaxed));
        if let Some(key) = key {
            let (stage, key) = (id, key.clone());
            self.journal
                .append(Record::Begun { stage, key }, Durable::No)?;
        }
        let path = self.stage_dir.join(id.to_string());
        let made = StageDescriptor::create(path, &self.descriptors);
        let made = made.inspect_err(|_| self.done(id))?;
        let file = self.stage_of(id, made, &[], None);
        if key.is_none() {
            self.orphan(&file);
        }
        Ok(file)
    }

    /// A stage that a predecessor left in one of the spool's directories.
    pub(super) fn find_stage(
        &self,
        dir: &Path,
        id: StageId,
        sums: &[BlockSum],
    ) -> io::Result<Arc<StageFile>> {
        let found = StageDescriptor::find(dir.join(id.to_string()), &self.descriptors)?;
        Ok(self.stage_of(id, found, sums, self.journal.offloaded(id)))
    }

    fn stage_of(
        &self,
        id: StageId,
        descriptor: StageDescriptor,
        sums: &[BlockSum],
        offloaded: Option<Offloaded>,
    ) -> Arc<StageFile> {
        let reservation = self.room.reservation();
        let offloaded = OffloadedParts::new(id, self.journal.clone(), offloaded);
        let known = (offloaded, self.session_log.clone());
        let file = StageFile::new(id, descriptor, reservation, sums, known);
        Arc::new(file)
    }

    /// Notes that a stage is to be uploaded, by the successor if not by this one.
    ///
    /// With `Durable::Yes` it outlives a power loss once this returns. Its file is open
    /// only while somebody uses it from now on.
    pub fn seal(&self, file: &StageFile, sealed: SealRecord, durable: Durable) -> io::Result<()> {
        if durable == Durable::Yes {
            file.sync()?;
            failpoint::at(Point::SealStageSynced);
            sync_dir(&self.stage_dir)?;
            failpoint::at(Point::SealDirectorySynced);
        }
        self.journal
            .append(Record::Sealed(Box::new(sealed)), durable)?;
        failpoint::at(Point::SealJournaled);
        file.descriptor().release();
        self.discard_stored_below(file);
        Ok(())
    }

    /// Notes what is to be stored with a sealed stage by now.
    pub fn set_headers(
        &self,
        stage: StageId,
        headers: SealedHeaders,
        durable: Durable,
    ) -> io::Result<()> {
        let headers = Box::new(headers);
        let record = Record::HeadersSet { stage, headers };
        self.journal.append(record, durable)
    }

    /// Notes which version an upload is about to make of a stage, in case its answer is lost.
    ///
    /// Outlives a power loss: where it is an edit, the version that it was an edit of
    /// goes, and the bytes alone do not tell any more that the new one is ours.
    pub fn completing(&self, file: &StageFile, etag: ETag) {
        let stage = file.id();
        let record = Record::CompletionExpected { stage, etag };
        if let Err(error) = self.journal.append(record, Durable::Yes) {
            tracing::warn!(%stage, %error, "journal write failed: after a crash this multipart upload would be left in the bucket");
        }
    }

    /// Notes a rename before its first step. Errors: the disk's; it must not begin then.
    pub fn begin_rename(&self, intent: RenameIntent, durable: Durable) -> io::Result<()> {
        self.journal
            .append(Record::Renaming(Box::new(intent)), durable)
    }

    /// A rename is finished, or given up. Errors: the journal's.
    pub fn end_rename(&self, from: &Key) -> io::Result<()> {
        let from = from.clone();
        self.journal.append(Record::Renamed { from }, Durable::No)
    }

    /// Notes by which multipart upload a sealed stage goes to the store.
    pub fn sending(&self, file: &StageFile, sending: UploadStart) {
        let stage = file.id();
        let record = Record::UploadStarted { stage, sending };
        if let Err(error) = self.journal.append(record, Durable::No) {
            tracing::warn!(%stage, %error, "journal write failed: after a crash this upload would start from the beginning");
        }
    }

    /// Removes a stage file: its bytes are in S3, or nobody wants them any more.
    ///
    /// Readers that still hold it go on.
    pub fn discard(&self, file: &StageFile) {
        if file.set_discarded() {
            return;
        }
        self.discard_stored_below(file);
        if let Err(error) = file.descriptor().unlink() {
            tracing::debug!(path = %file.path().display(), %error, "the stage file is moved aside");
            self.move_aside(file);
        }
        failpoint::at(Point::PublishStageRemoved);
        self.done(file.id());
    }

    /// Discards stages below this one that are in the store: the next start would upload
    /// them again, over what is newer.
    fn discard_stored_below(&self, file: &StageFile) {
        for stored in file.take_stored_below() {
            self.discard(&stored);
        }
    }

    /// The stage is of a file that has no name any more: it goes with the last that
    /// holds it, or at the next start unless somebody has the file open still.
    pub fn orphan(&self, file: &StageFile) {
        if file.set_discarded() {
            return;
        }
        self.discard_stored_below(file);
        self.move_aside(file);
        let stage = file.id();
        if let Err(error) = self.journal.append(Record::Done { stage }, Durable::No) {
            tracing::warn!(%stage, %error, "journal write failed: the stage is uploaded again after a crash");
        }
    }

    /// The last that holds it removes the file, or else the next start does.
    fn move_aside(&self, file: &StageFile) {
        let orphan_path = self.orphan_dir.join(file.id().to_string());
        let rename = |from: &Path| fs::rename(from, &orphan_path).map(|()| orphan_path.clone());
        match file.descriptor().moved(rename) {
            Ok(_) => file.unlink_on_drop(),
            Err(error) => {
                tracing::warn!(path = %file.path().display(), %error, "cannot move the stage file aside");
            }
        }
    }

    /// Punches a part out of a stage's file that was marked. It counts as gone from
    /// then on, whatever comes of this.
    ///
    /// Errors: the disk's.
    pub fn offload(&self, file: &StageFile, marked: Offloaded) -> io::Result<()> {
        let parts = marked.parts.clone();
        failpoint::at(Point::OffloadMarked);
        file.offloaded().record(marked)?;
        self.journal.sync()?;
        failpoint::at(Point::OffloadJournaled);
        parts.iter().try_for_each(|part| file.punch_out(part))?;
        failpoint::at(Point::OffloadPunched);
        Ok(())
    }

    /// Keeps the bytes of a stage that could not be uploaded.
    pub fn move_to_lost_found(&self, file: &StageFile, lost: &LostFile<'_>) {
        if file.set_discarded() {
            return;
        }
        self.discard_stored_below(file);
        let reason = &lost.reason;
        let missing = file.offloaded().missing();
        let take = |from: &Path| self.lost_found.take(from, lost, &missing);
        match file.descriptor().moved(take) {
            Ok(kept) => {
                tracing::error!(
                    path = %kept.display(), key = lost.key.map(Key::as_str), %reason, "upload failed: the bytes are in lost+found"
                );
                self.done(file.id());
            }
            Err(error) => tracing::error!(
                path = %file.path().display(), %error, "upload failed: the bytes stay in the spool"
            ),
        }
    }

    pub(super) fn done(&self, stage: StageId) {
        if let Err(error) = self.journal.append(Record::Done { stage }, Durable::No) {
            tracing::warn!(%stage, %error, "journal write failed: the stage is uploaded again after a crash");
        }
        self.session_log
            .record(|| session_state::Record::StageGone { stage });
    }
}

/// Names of stages differ between runs, so that lost+found never has two of one name.
fn first_id() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64) << 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_stage_is_recovered_with_its_bytes_and_an_open_one_is_kept_with_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let key = Key::new("k");
        let open = spool.create(Some(&Key::new("open"))).unwrap();
        open.write(0, b"half").unwrap();
        let stage = spool.create(Some(&key)).unwrap();
        stage.write(0, b"precious").unwrap();
        let sealed = SealRecord {
            stage: stage.id(),
            key,
            headers: crate::store::ObjectHeaders::default(),
            condition: crate::store::WriteCondition::Always,
            known: crate::store::WriteCondition::Always,
            len: 8,
            base_len: 0,
            written: vec![0..4, 4..8],
            sums: stage.sums(),
            completing: None,
            attempted: Vec::new(),
            base: crate::journal::SealedBase::Empty,
        };
        spool.seal(&stage, sealed.clone(), Durable::Yes).unwrap();
        drop((open, stage, spool));

        let (spool, recovered) = Spool::open(dir.path(), u64::MAX).unwrap();
        assert_eq!(recovered.len(), 1);
        assert_eq!(recovered[0].sealed, sealed);
        assert_eq!(recovered[0].file.read(0..8).unwrap(), b"precious");
        let sidecars = fs::read_dir(dir.path().join("lost+found")).unwrap();
        let sidecar = sidecars
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some())
            .unwrap();
        assert!(fs::read_to_string(sidecar).unwrap().contains("\"open\""));

        spool.discard(&recovered[0].file);
        drop(spool);
        let (_spool, recovered) = Spool::open(dir.path(), u64::MAX).unwrap();
        assert!(recovered.is_empty(), "uploaded once, and never again");
    }

    #[test]
    fn what_a_crash_left_is_kept_in_lost_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let stage = spool.create(Some(&Key::new("k"))).unwrap();
        stage.write(0, b"precious").unwrap();
        drop((stage, spool));
        Spool::open(dir.path(), u64::MAX).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("stage")).unwrap().count(), 0);
        let kept: Vec<_> = fs::read_dir(dir.path().join("lost+found"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none())
            .collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), b"precious");
    }
}
