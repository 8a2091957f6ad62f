//! What the records say: plain data.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::journal::BlockSum;
use crate::store::{ETag, Endpoint, ObjectHeaders, StoreAbilities};
use crate::vocabulary::{
    Intent, Kind, NameState, ObjectId, ObjectVersion, OpenMode, Overrides, StageId,
};

/// One thing that the kernel was told, or that follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    Session(SavedSession),
    /// Numbers above these were never given out.
    Numbers {
        ino: u64,
        handle: u64,
    },
    /// An inode came to be, or has another name.
    Placed {
        ino: u64,
        kind: Kind,
        place: Place,
    },
    /// The same, and the kernel counts so many references more.
    Inode {
        ino: u64,
        kind: Kind,
        place: Place,
        lookups: u64,
    },
    /// An inode has no name any more.
    Unplaced {
        ino: u64,
        kind: Kind,
    },
    /// The kernel counts so many references more.
    Lookup {
        ino: u64,
        count: u64,
    },
    Forget {
        ino: u64,
        count: u64,
    },
    /// Nothing refers to the inode any more.
    Gone {
        ino: u64,
    },
    /// What applications set of an inode and the store does not have.
    Set {
        ino: u64,
        set: Overrides,
    },
    /// What an open file shows.
    File {
        ino: u64,
        file: SavedFile,
    },
    FileGone {
        ino: u64,
    },
    /// A stage over `base_len` bytes of a base.
    Staged {
        stage: StageId,
        len: u64,
        base_len: u64,
    },
    /// A range is local now, and runs of bytes have these checksums. A mediafs that
    /// recorded none had none.
    Wrote {
        stage: StageId,
        range: Range<u64>,
        len: u64,
        sums: Option<Vec<BlockSum>>,
    },
    /// Bytes that have a checksum are about to change: until the range is told of as
    /// written it may show old bytes or new ones. What is left of runs over it has
    /// these checksums.
    Overwriting {
        stage: StageId,
        range: Range<u64>,
        rest: Vec<BlockSum>,
    },
    /// Runs of bytes have these checksums.
    Summed {
        stage: StageId,
        sums: Vec<BlockSum>,
    },
    /// Recorded before it is done.
    Truncated {
        stage: StageId,
        len: u64,
        base_len: u64,
        /// Of the run that goes over the end, if one does.
        #[serde(default)]
        cut: Option<BlockSum>,
    },
    StageGone {
        stage: StageId,
    },
    /// A record of the stage was damaged.
    StageDoubtful {
        stage: StageId,
    },
    Opened {
        handle: u64,
        #[serde(rename = "told")]
        saved: SavedHandle,
    },
    DirOpened {
        handle: u64,
        ino: u64,
        request: u64,
    },
    /// Names that may have been given out, after those told before.
    Listed {
        handle: u64,
        names: Vec<String>,
    },
    /// The directory is read from its start again.
    Rewound {
        handle: u64,
    },
    Released {
        handle: u64,
    },
    /// The file was changed through the handle; by which process, where that can be told.
    Changed {
        handle: u64,
        process: Option<u32>,
    },
    /// A request is under way. Only where the kernel does not send it again.
    Began {
        request: u64,
    },
    Answered {
        request: u64,
    },
    /// A request is about to delete or to replace this version: sent again, it
    /// changes no other.
    Changes {
        request: u64,
        basis: Basis,
    },
    /// A request is carried out, whether or not the kernel gets the answer.
    Done {
        request: u64,
    },
}

/// What a request finds that it is about to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// None where nothing is known to be there, or where a daemon recorded it that did
    /// not record this of every request.
    #[serde(default)]
    pub etag: Option<ETag>,
    /// `etag` is what was known to be there, or that nothing was.
    #[serde(
        default,
        rename = "tells_version",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub etag_is_known: bool,
    /// The time by the store's clock in milliseconds since 1970, where it is known.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// What is stored with it, where that is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Box<ObjectHeaders>>,
}

impl Basis {
    pub fn new(etag: Option<ETag>, at: Option<SystemTime>) -> Self {
        let since = at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let at_ms = since.map(|since| since.as_millis() as u64);
        let stored = None;
        Self {
            etag,
            etag_is_known: true,
            at_ms,
            stored,
        }
    }

    /// Of an object whose attributes are about to be replaced.
    pub fn with_stored(self, stored: ObjectHeaders) -> Self {
        let stored = Some(Box::new(stored));
        Self { stored, ..self }
    }

    pub fn at(&self) -> Option<SystemTime> {
        let since = Duration::from_millis(self.at_ms?);
        Some(SystemTime::UNIX_EPOCH + since)
    }
}

/// The session itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedSession {
    pub bucket: String,
    pub prefix: String,
    /// None where a daemon began it that does not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    pub mountpoint: PathBuf,
    /// The same as it was configured: the canonical path needs an answer of the mount.
    pub asked: PathBuf,
    /// Number of the mount's device, as `major:minor`. Source: proc_pid_mountinfo(5).
    pub device: String,
    /// The kernel's FUSE_INIT request and the answer to it, byte for byte.
    pub init: Vec<u8>,
    pub init_answer: Vec<u8>,
    pub mounted_at: SystemTime,
    /// How many daemons have resumed it.
    #[serde(default, skip_serializing_if = "is_none")]
    pub takeovers: u64,
    /// Which conditions the store was found to heed.
    #[serde(default, skip_serializing_if = "StoreAbilities::is_unknown")]
    pub abilities: StoreAbilities,
    /// None where a daemon began it that does not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<SavedAccess>,
}

fn is_none(takeovers: &u64) -> bool {
    *takeovers == 0
}

/// What a configuration said of changes, and who refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedAccess {
    Writable,
    /// Mounted read-only: the kernel refuses them until somebody remounts.
    ReadOnly,
    /// Read-only since a takeover: the daemon refuses them.
    Refused,
}

/// Parent and name.
pub type Place = (u64, Arc<str>);

/// What shows where a stage has no bytes of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SavedLayer {
    Empty,
    Object(ObjectId),
    /// A stage on its way to the store, over another base.
    Sealed(StageId, Box<SavedLayer>),
}

/// What an open file shows, and what is to become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    pub base: SavedLayer,
    pub stage: Option<StageId>,
    /// How the next upload may replace what the store has.
    pub intent: Intent,
    pub dirty: bool,
    pub failed: bool,
    #[serde(flatten, with = "saved_name")]
    pub name: NameState,
    pub remote: Option<ObjectVersion>,
    /// What is stored with `remote`, where attributes are. None where a daemon
    /// recorded the file that does not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Box<ObjectHeaders>>,
}

/// A file's name as it stands in the file: two flags.
mod saved_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::vocabulary::NameState;

    #[derive(Serialize, Deserialize)]
    struct Flags {
        orphan: bool,
        covers: bool,
    }

    pub fn serialize<S: Serializer>(name: &NameState, to: S) -> Result<S::Ok, S::Error> {
        let flags = Flags {
            orphan: *name == NameState::Gone,
            covers: *name == NameState::TakenOver,
        };
        flags.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<NameState, D::Error> {
        let flags = Flags::deserialize(from)?;
        Ok(match (flags.orphan, flags.covers) {
            (true, _) => NameState::Gone,
            (false, true) => NameState::TakenOver,
            (false, false) => NameState::Own,
        })
    }
}

impl SavedFile {
    /// Every stage that the file is made of.
    pub fn stages(&self) -> Vec<StageId> {
        let mut stages: Vec<StageId> = self.stage.into_iter().collect();
        let mut base = &self.base;
        while let SavedLayer::Sealed(stage, below) = base {
            stages.push(*stage);
            base = below;
        }
        stages
    }
}

/// An open file description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHandle {
    pub ino: u64,
    pub mode: OpenMode,
    #[serde(rename = "publishes")]
    pub uploads_on_close: bool,
    /// The request that it answers.
    pub request: u64,
    /// None where a daemon gave it out that does not record them.
    #[serde(default)]
    pub writers: Option<SavedWriters>,
}

/// Who changed a file through a handle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedWriters {
    pub opener: Option<u32>,
    pub changed: bool,
    pub processes: BTreeSet<u32>,
    pub unknown: bool,
}

impl SavedHandle {
    pub(super) fn changed_by(&mut self, process: Option<u32>) {
        // Of a handle whose writers were never recorded they stay unknown.
        let Some(writers) = &mut self.writers else {
            return;
        };
        writers.changed = true;
        match process {
            Some(process) => {
                writers.processes.insert(process);
            }
            None => writers.unknown = true,
        }
    }
}
