//! The journal: what the spool's stages are, which objects are still to be
//! deleted, which renames were begun and which multipart uploads are to be ended,
//! for the start after a crash.
//!
//! Its file is a `RecordLog`. Once it is mostly about stages that are done it is
//! rewritten in its spare, which is synced and takes its place.
//!
//! A record that the disk has changed takes with it what it was about: a stage of
//! which the last word is not known goes to lost+found and is not uploaded.
//!
//! Order that holds after a power loss, for stages sealed with `Durable::Yes`:
//! bytes of the stage file, its directory entry, then its `sealed` record are
//! on disk when `append` returns.

mod block_sums;
mod damage;
mod offloaded;
mod peeked;
mod record;
mod sent;
mod store_log;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

pub use block_sums::{BLOCK_BYTES, BlockSum, BlockSums};
pub use offloaded::{Offloaded, OffloadedPart};
pub use peeked::Peeked;
pub use record::{
    Absorbed, Originals, Record, RenameIntent, SealRecord, SealedBase, SealedHeaders, StageRecord,
    UploadStart,
};

use crate::record_log::{Durable, LogError, LogState, RecordLog, Replayed, Subject, read};
use crate::store::{DeletePending, ETag, Key, LateObject, UploadId};
use crate::vocabulary::StageId;

#[derive(Debug)]
pub struct Journal {
    log: RecordLog<JournalState>,
    numbers: sent::Numbers,
    all_noted: sent::CompleteFlag,
}

/// What the records come to.
#[derive(Debug, Default)]
pub struct JournalState {
    stages: BTreeMap<StageId, StageRecord>,
    /// Records of sealed stages so far.
    order: u64,
    pending: BTreeMap<Key, (Option<ETag>, Option<u64>)>,
    uploads: BTreeSet<(Key, UploadId)>,
    renames: BTreeMap<Key, RenameIntent>,
    sent: sent::SentChanges,
    late: BTreeMap<Key, Vec<LateObject>>,
    damage: Vec<Option<Subject>>,
}

impl Journal {
    /// Opens the journal, and makes it where there is none. One that is damaged is
    /// rewritten with what still counts, and kept beside it as it was.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let is_new = !path.exists();
        let mut replayed: Replayed<JournalState> = read(path)?;
        let live = &mut replayed.state;
        live.keep_damaged(path);
        let all_noted = sent::CompleteFlag::beside(path);
        let boot = live.sent.begin(is_new, live.damage.is_empty(), &all_noted);
        let numbers = sent::Numbers::after(&live.sent);
        let log = RecordLog::resume(path, replayed)?;
        let journal = Self {
            log,
            numbers,
            all_noted,
        };
        boot.into_iter().for_each(|it| journal.append_or_log(it));
        Ok(journal)
    }

    /// Stages that are not done: those being written, then the sealed ones in the
    /// order in which their place was recorded last.
    pub fn known(&self) -> Vec<(StageId, StageRecord)> {
        self.log.with(JournalState::known)
    }

    /// What waits, read from the file beside the daemon that appends to it.
    pub fn peek(path: &Path) -> Result<Peeked, LogError> {
        Ok(Peeked::of(&read::<JournalState>(path)?.state))
    }

    /// What sealed stages were to take over, and may have in part.
    pub fn absorbing(&self) -> Vec<Absorbed> {
        self.log.with(|live| live.absorbing().cloned().collect())
    }

    /// By which multipart upload a stage goes to S3.
    pub fn sending(&self, stage: StageId) -> Option<UploadStart> {
        self.log
            .with(|live| live.stages.get(&stage)?.sending.clone())
    }

    /// Parts of a stage that are not in its file.
    pub fn offloaded(&self, stage: StageId) -> Option<Offloaded> {
        self.log
            .with(|live| live.stages.get(&stage)?.offloaded.clone())
    }

    /// Objects that are still to be deleted.
    pub fn pending_deletes(&self) -> Vec<DeletePending> {
        self.log.with(|live| {
            let pending = live.pending.iter();
            let pending = pending.map(|(key, (etag, removed_at))| DeletePending {
                key: key.clone(),
                etag: etag.clone(),
                removed_at: removed_at.map(|at| UNIX_EPOCH + Duration::from_millis(at)),
            });
            pending.collect()
        })
    }

    /// Whether one of these is.
    pub fn has_pending_of<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> bool {
        self.log
            .with(|live| keys.into_iter().any(|key| live.pending.contains_key(key)))
    }

    /// Whether one below this prefix is.
    pub fn has_pending_below(&self, prefix: &str) -> bool {
        let is_below = |key: &Key| key.as_str().starts_with(prefix);
        self.log.with(|live| live.pending.keys().any(is_below))
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub fn uploads(&self) -> Vec<(Key, UploadId)> {
        self.log.with(|live| live.uploads.iter().cloned().collect())
    }

    /// Renames that were begun and are neither finished nor given up.
    pub fn renames(&self) -> Vec<RenameIntent> {
        self.log
            .with(|live| live.renames.values().cloned().collect())
    }

    /// What was appended before outlives a power loss once this returns.
    pub fn sync(&self) -> io::Result<()> {
        self.log.sync()
    }

    /// Errors: the disk's; the record then does not count.
    pub fn append(&self, record: Record, durable: Durable) -> io::Result<()> {
        self.log.append(record, durable)
    }

    /// Appends what the next start can do without.
    fn append_or_log(&self, record: Record) {
        if let Err(error) = self.append(record, Durable::No) {
            tracing::warn!(%error, "journal write failed: after a crash a step is repeated or an upload is left");
        }
    }
}

impl LogState for JournalState {
    type Record = Record;
    const NAME: &'static str = "journal";
    const VERSION: u32 = 5;
    const DURABLE: Durable = Durable::Yes;

    fn subject(record: &Record) -> Subject {
        damage::subject(record)
    }

    fn damaged(&mut self, subject: Option<Subject>) {
        self.doubt(subject);
    }

    /// Done is done, whoever was about to append more of the stage.
    fn accepts(&self, record: &Record) -> bool {
        match record {
            Record::Sealed(sealed) => self.stages.contains_key(&sealed.stage),
            Record::Absorbed(absorbed) => self.is_sealed(absorbed.stage),
            Record::HeadersSet { stage, .. } => self.is_sealed(*stage),
            Record::Offloaded { stage, .. } => self.stages.contains_key(stage),
            _ => true,
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Begun { stage, key } => {
                self.stage(stage, key);
            }
            Record::Sealed(sealed) => {
                self.order += 1;
                let order = self.order;
                let known = self.stage(sealed.stage, sealed.key.clone());
                known.doubtful = false;
                known.absorbed = None;
                (known.sealed, known.order) = (Some(*sealed), order);
            }
            Record::UploadStarted { stage, sending } => {
                self.with(stage, |known| known.sending = Some(sending));
            }
            Record::Absorbed(absorbed) => self.absorb(*absorbed),
            Record::Offloaded { stage, offloaded } => self.offload(stage, *offloaded),
            Record::OffloadedCut { stage, len } => self.cut_offloaded(stage, len),
            Record::CompletionExpected { stage, etag } => {
                self.with(stage, |known| known.expect(etag));
            }
            Record::HeadersSet { stage, headers } => {
                self.with(stage, |known| known.set_headers(*headers));
            }
            Record::Done { stage } => {
                self.stages.remove(&stage);
            }
            Record::Doubtful { stage } => self.with(stage, |known| known.doubtful = true),
            Record::DeletePending {
                key,
                etag,
                removed_at,
            } => {
                self.pending.insert(key, (etag, removed_at));
            }
            Record::Deleted { key } => {
                self.pending.remove(&key);
            }
            Record::Uploading { key, upload } => {
                self.uploads.insert((key, upload));
            }
            Record::Uploaded { key, upload } => {
                self.uploads.remove(&(key, upload));
            }
            Record::Renaming(intent) => {
                self.renames.insert(intent.from.clone(), *intent);
            }
            Record::Renamed { from } => {
                self.renames.remove(&from);
            }
            Record::Sent { number, changes } => self.sent.sent(number, changes),
            Record::Answered { number } => self.sent.answered(number),
            Record::GivenUp { .. } => {}
            Record::HeardSince { number, at_ms } => self.sent.give_up(number, at_ms),
            Record::Late { key, objects } => {
                self.late.insert(key, objects);
            }
            Record::LateOver { key } => {
                self.late.remove(&key);
            }
            Record::Boot { id } => self.sent.boot(id),
        }
    }

    fn for_each(&self, give: &mut dyn FnMut(Record)) {
        for (stage, known) in self.known() {
            let key = known.key;
            give(Record::Begun { stage, key });
            if let Some(sealed) = known.sealed {
                give(Record::Sealed(Box::new(sealed)));
            }
            if let Some(sending) = known.sending {
                give(Record::UploadStarted { stage, sending });
            }
            if let Some(offloaded) = known.offloaded.map(Box::new) {
                give(Record::Offloaded { stage, offloaded });
            }
            if known.doubtful {
                give(Record::Doubtful { stage });
            }
        }
        for absorbed in self.absorbing() {
            give(Record::Absorbed(Box::new(absorbed.clone())));
        }
        for (key, (etag, removed_at)) in &self.pending {
            give(Record::DeletePending {
                key: key.clone(),
                etag: etag.clone(),
                removed_at: *removed_at,
            });
        }
        for (key, upload) in self.uploads.iter().cloned() {
            give(Record::Uploading { key, upload });
        }
        for intent in self.renames.values().cloned() {
            give(Record::Renaming(Box::new(intent)));
        }
        self.sent.for_each(give);
        for (key, objects) in self.late.clone() {
            give(Record::Late { key, objects });
        }
    }
}

impl JournalState {
    /// The stage, which has this key now.
    fn stage(&mut self, stage: StageId, key: Key) -> &mut StageRecord {
        let known = self.stages.entry(stage).or_insert_with(|| StageRecord {
            key: key.clone(),
            sealed: None,
            sending: None,
            offloaded: None,
            absorbed: None,
            order: 0,
            doubtful: false,
        });
        known.key = key;
        known
    }

    fn with(&mut self, stage: StageId, change: impl FnOnce(&mut StageRecord)) {
        if let Some(known) = self.stages.get_mut(&stage) {
            change(known);
        }
    }

    fn is_sealed(&self, stage: StageId) -> bool {
        let known = self.stages.get(&stage);
        known.is_some_and(|known| known.sealed.is_some())
    }

    /// What sealed stages were to take over and may not have.
    fn absorbing(&self) -> impl Iterator<Item = &Absorbed> {
        let known = self.stages.values().filter(|it| !it.doubtful);
        let absorbed = known.filter_map(|it| it.absorbed.as_ref());
        absorbed.filter(|it| self.stages.contains_key(&it.from))
    }

    fn absorb(&mut self, absorbed: Absorbed) {
        let Some(known) = self.stages.get_mut(&absorbed.stage) else {
            return;
        };
        let Some(sealed) = known.sealed.as_mut() else {
            return;
        };
        sealed.absorb(&absorbed);
        let (from, key) = (absorbed.from, known.key.clone());
        known.absorbed = Some(absorbed);
        // Its own record may be damaged.
        if !self.stages.contains_key(&from) {
            self.stage(from, key);
        }
    }

    fn offload(&mut self, stage: StageId, offloaded: Offloaded) {
        if let Some(known) = self.stages.get_mut(&stage) {
            match &mut known.offloaded {
                Some(had) => had.add(offloaded),
                None => known.offloaded = Some(offloaded),
            }
        }
    }

    fn cut_offloaded(&mut self, stage: StageId, len: u64) {
        let known = self.stages.get_mut(&stage);
        if let Some(had) = known.and_then(|known| known.offloaded.as_mut()) {
            had.cut(len);
        }
    }

    fn known(&self) -> Vec<(StageId, StageRecord)> {
        let stages = self.stages.iter();
        let mut known: Vec<_> = stages.map(|(id, known)| (*id, known.clone())).collect();
        known.sort_by_key(|(id, known)| (known.order, *id));
        known
    }
}

#[cfg(test)]
mod tests;
