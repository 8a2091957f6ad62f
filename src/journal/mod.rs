//! The journal: what the spool's stages are, which objects are still to be
//! deleted, which renames were begun and which multipart uploads are to be ended,
//! for the start after a crash.
//!
//! Its file is a `Log` of records. Once the file is mostly about stages that are
//! done it is written anew beside the old one, synced and renamed over it.
//!
//! Order that holds after a power loss, for stages sealed with `Durable::Yes`:
//! bytes of the stage file, its directory entry, then its `sealed` record are
//! on disk when `append` returns.

mod log;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

pub use log::{Durable, Log, LogError, Replay, read, replay, sync_dir};
pub use record::{
    BlockSum, Record, RenameIntent, SUMMED_RUN_LIMIT_BYTES, SealedBase, SealedStage, Sending,
    StageId,
};

use crate::store::{Doomed, ETag, Key, StoreLog, UploadId};

/// What the journal knows of a stage that is not done.
#[derive(Debug, Clone)]
pub struct Known {
    pub key: Key,
    pub sealed: Option<SealedStage>,
    /// The multipart upload by which it goes to S3, if one was begun.
    pub sending: Option<Sending>,
    /// Which record of a sealed stage was its last; 0 for one that is being written.
    told: u64,
}

#[derive(Debug)]
pub struct Journal(Log<Live>);

/// What the records come to.
#[derive(Debug, Default)]
pub struct Live {
    stages: BTreeMap<StageId, Known>,
    /// Records of sealed stages so far.
    told: u64,
    doomed: BTreeMap<Key, Option<ETag>>,
    uploads: BTreeSet<(Key, UploadId)>,
    renames: BTreeMap<Key, RenameIntent>,
}

impl Journal {
    /// Opens the journal, makes it where there is none, and writes it anew with
    /// what still counts.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        Log::open(path).map(Self)
    }

    /// Stages that are not done: those being written, then the sealed ones in the
    /// order in which their place was told last.
    pub fn known(&self) -> Vec<(StageId, Known)> {
        self.0.with(Live::known)
    }

    /// The same, read from the file beside the daemon that appends to it.
    pub fn peek(path: &Path) -> Result<Vec<(StageId, Known)>, LogError> {
        Ok(read::<Live>(path)?.known())
    }

    /// By which multipart upload a stage goes to S3.
    pub fn sending(&self, stage: StageId) -> Option<Sending> {
        self.0.with(|live| live.stages.get(&stage)?.sending.clone())
    }

    /// Objects that are still to be deleted.
    pub fn doomed(&self) -> Vec<Doomed> {
        let doomed = |(key, etag): (&Key, &Option<ETag>)| Doomed {
            key: key.clone(),
            etag: etag.clone(),
        };
        self.0.with(|live| live.doomed.iter().map(doomed).collect())
    }

    /// Multipart uploads that are neither completed nor aborted.
    pub fn uploads(&self) -> Vec<(Key, UploadId)> {
        self.0.with(|live| live.uploads.iter().cloned().collect())
    }

    /// Renames that were begun and are neither finished nor given up.
    pub fn renames(&self) -> Vec<RenameIntent> {
        self.0.with(|live| live.renames.values().cloned().collect())
    }

    /// What was appended before outlives a power loss once this returns.
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    /// Errors: the disk's; the record then does not count.
    pub fn append(&self, record: Record, durable: Durable) -> io::Result<()> {
        self.0.append(record, durable)
    }

    /// Appends what the next start can do without.
    fn tell(&self, record: Record) {
        if let Err(error) = self.append(record, Durable::No) {
            tracing::warn!(%error, "not in the journal: the next mount looks again, or leaves an unfinished upload");
        }
    }
}

impl Replay for Live {
    type Record = Record;
    const NAME: &'static str = "journal";
    const VERSION: u32 = 1;
    const DURABLE: Durable = Durable::Yes;

    /// Done is done, whoever was about to tell more of the stage.
    fn admits(&self, record: &Record) -> bool {
        match record {
            Record::Sealed(sealed) => self.stages.contains_key(&sealed.stage),
            _ => true,
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Begun { stage, key } => {
                self.stage(stage, key);
            }
            Record::Sealed(sealed) => {
                self.told += 1;
                let told = self.told;
                let known = self.stage(sealed.stage, sealed.key.clone());
                (known.sealed, known.told) = (Some(*sealed), told);
            }
            Record::Sending { stage, sending } => {
                if let Some(known) = self.stages.get_mut(&stage) {
                    known.sending = Some(sending);
                }
            }
            Record::Completing { stage, etag } => {
                let known = self.stages.get_mut(&stage);
                if let Some(sealed) = known.and_then(|known| known.sealed.as_mut()) {
                    sealed.completing = Some(etag);
                }
            }
            Record::Done { stage } => {
                self.stages.remove(&stage);
            }
            Record::Doomed { key, etag } => {
                self.doomed.insert(key, etag);
            }
            Record::Deleted { key } => {
                self.doomed.remove(&key);
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
        }
    }

    fn records(&self) -> Vec<Record> {
        let stages = self.known().into_iter().flat_map(|(stage, known)| {
            let begun = Record::Begun {
                stage,
                key: known.key,
            };
            let sealed = known.sealed.map(Box::new).map(Record::Sealed);
            let sending = known.sending;
            let sending = sending.map(|sending| Record::Sending { stage, sending });
            std::iter::once(begun).chain(sealed).chain(sending)
        });
        let doomed = self.doomed.iter().map(|(key, etag)| Record::Doomed {
            key: key.clone(),
            etag: etag.clone(),
        });
        let uploads = self.uploads.iter().cloned();
        let uploads = uploads.map(|(key, upload)| Record::Uploading { key, upload });
        let renames = self.renames.values().cloned();
        let renames = renames.map(|intent| Record::Renaming(Box::new(intent)));
        stages.chain(doomed).chain(uploads).chain(renames).collect()
    }
}

impl Live {
    /// The stage, which has this key now.
    fn stage(&mut self, stage: StageId, key: Key) -> &mut Known {
        let known = self.stages.entry(stage).or_insert_with(|| Known {
            key: key.clone(),
            sealed: None,
            sending: None,
            told: 0,
        });
        known.key = key;
        known
    }

    fn known(&self) -> Vec<(StageId, Known)> {
        let stages = self.stages.iter();
        let mut known: Vec<_> = stages.map(|(id, known)| (*id, known.clone())).collect();
        known.sort_by_key(|(id, known)| (known.told, *id));
        known
    }
}

impl StoreLog for Journal {
    fn doomed(&self, doomed: &Doomed) -> io::Result<()> {
        let Doomed { key, etag } = doomed.clone();
        self.append(Record::Doomed { key, etag }, Durable::No)
    }

    fn settled(&self, keys: &[Key]) {
        for key in keys {
            self.tell(Record::Deleted { key: key.clone() });
        }
    }

    fn upload_begun(&self, key: Key, upload: UploadId) {
        self.tell(Record::Uploading { key, upload });
    }

    fn upload_ended(&self, key: Key, upload: UploadId) {
        self.tell(Record::Uploaded { key, upload });
    }
}

#[cfg(test)]
mod tests;
