//! What the journal says: plain data.

use std::collections::BTreeSet;
use std::ops::Range;

use rangemap::RangeSet;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::block_sums::BlockSum;
use super::offloaded::Offloaded;
use crate::store::{
    Change, CopyHeaders, ETag, Key, LateObject, ListedObject, ObjectHeaders, UploadId,
    WriteCondition,
};
use crate::vocabulary::{ObjectId, StageId};

/// A step in the life of a stage.
///
/// Where a record has another name on disk, it is the one that earlier versions wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on its way to the disk"
)]
#[serde(tag = "record", rename_all = "lowercase")]
pub enum Record {
    /// A file of this key is being written.
    Begun { stage: StageId, key: Key },
    /// The stage's bytes are fixed and to be uploaded; said again when key or
    /// condition change.
    Sealed(Box<SealRecord>),
    /// A sealed stage has the bytes of the one over it too; said before they are copied.
    Absorbed(Box<Absorbed>),
    /// The parts of a stage's upload are there and about to become this version.
    #[serde(rename = "completing")]
    CompletionExpected { stage: StageId, etag: ETag },
    /// This is to be stored with a sealed stage by now.
    #[serde(rename = "headers")]
    HeadersSet {
        stage: StageId,
        headers: Box<SealedHeaders>,
    },
    /// The stage's bytes go to S3 by this multipart upload.
    #[serde(rename = "sending")]
    UploadStarted {
        stage: StageId,
        sending: UploadStart,
    },
    /// These parts of the stage are about to be in its upload alone.
    Offloaded {
        stage: StageId,
        offloaded: Box<Offloaded>,
    },
    /// What the stage had from here on is cut off, parts of its upload too.
    OffloadedCut { stage: StageId, len: u64 },
    /// The stage is in S3, in lost+found, or nobody wants it any more.
    Done { stage: StageId },
    /// The last word on the stage is not known: a record of it was damaged.
    Doubtful { stage: StageId },
    /// The file is removed, its object is to be deleted.
    #[serde(rename = "doomed")]
    DeletePending {
        key: Key,
        etag: Option<ETag>,
        /// When, in milliseconds since 1970, if other versions are meant too.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        removed_at: Option<u64>,
    },
    /// The object is deleted, or will not be.
    Deleted { key: Key },
    /// A multipart upload was created: its parts cost until it ends.
    Uploading { key: Key, upload: UploadId },
    /// The multipart upload is completed or aborted.
    Uploaded { key: Key, upload: UploadId },
    /// What has this name is about to be copied to another and deleted.
    Renaming(Box<RenameIntent>),
    /// The rename is finished as far as recorded, or given up.
    Renamed { from: Key },
    /// A request for these changes is about to be sent.
    Sent { number: u64, changes: Vec<Change> },
    /// The store has carried it out, or never will.
    Answered { number: u64 },
    /// It got no answer, and its connection ended then. Earlier versions wrote this; it
    /// does not tell that the store has answered since.
    GivenUp { number: u64, at_ms: u64 },
    /// It got no answer, and the store has answered others since its connection ended;
    /// by the time since the machine started.
    HeardSince { number: u64, at_ms: u64 },
    /// One of these may come to be under the key, and is to be deleted then.
    Late { key: Key, objects: Vec<LateObject> },
    /// None will, or the key has an object again that is wanted.
    LateOver { key: Key },
    /// What comes next is of this start of the machine. Source: proc_sys_kernel(5),
    /// `random/boot_id`.
    Boot { id: String },
}

/// A rename of what the store has, whose steps a crash may come between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameIntent {
    /// The key of a file; or what every key of a directory begins with, which ends in `/`.
    pub from: Key,
    pub to: Key,
    /// The version of a file that is renamed. A directory's are those that there are.
    pub version: Option<ETag>,
    /// What is stored with a file under its new name.
    #[serde(default)]
    pub headers: CopyHeaders,
    /// What a file takes the place of, where that is known.
    #[serde(default)]
    pub over: WriteCondition,
    /// Its copy, once that is made.
    #[serde(default)]
    pub copy: Option<ETag>,
    /// Of a directory's objects, those that are renamed; others have come since.
    #[serde(default)]
    pub originals: Option<Originals>,
}

/// Versions of objects, each by a checksum of its key and its ETag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Originals(BTreeSet<u64>);

impl Originals {
    pub fn of(objects: &[ListedObject]) -> Self {
        Self(
            objects
                .iter()
                .map(|it| checksum(&it.key, &it.etag))
                .collect(),
        )
    }

    pub fn has(&self, object: &ListedObject) -> bool {
        self.0.contains(&checksum(&object.key, &object.etag))
    }
}

fn checksum(key: &Key, etag: &ETag) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    digest.update(key.as_str().as_bytes());
    digest.update(&[0]);
    digest.update(etag.as_str().as_bytes());
    digest.finalize()
}

impl RenameIntent {
    pub fn is_of_a_directory(&self) -> bool {
        self.version.is_none()
    }
}

/// All that it takes to upload a stage in another life of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealRecord {
    pub stage: StageId,
    pub key: Key,
    pub headers: ObjectHeaders,
    /// `Always` for a whole replacement.
    pub condition: WriteCondition,
    /// What a whole replacement takes the place of, where that is known.
    #[serde(default)]
    pub known: WriteCondition,
    /// Length of the file in bytes.
    pub len: u64,
    /// Below it, what is not written shows the base.
    pub base_len: u64,
    /// Ranges of bytes that the stage file holds; none is empty.
    #[serde(deserialize_with = "ranges")]
    pub written: Vec<Range<u64>>,
    /// Checksums of what is written. A mediafs that had none left none.
    #[serde(default)]
    pub sums: Vec<BlockSum>,
    /// The version that an upload of it was about to make.
    #[serde(default)]
    pub completing: Option<ETag>,
    /// What was to be stored before `headers`, oldest first, where an upload of it may have
    /// been begun with that.
    #[serde(
        default,
        rename = "attributes_set",
        deserialize_with = "attempted_headers"
    )]
    pub attempted: Vec<ObjectHeaders>,
    pub base: SealedBase,
}

/// What a sealed stage becomes by the bytes of one that was sealed over it.
///
/// Until `from` is done, its file has bytes that `stage` may not have yet, or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorbed {
    pub stage: StageId,
    pub from: StageId,
    pub headers: ObjectHeaders,
    pub condition: WriteCondition,
    pub known: WriteCondition,
    /// What the stage had from here on is cut off first.
    pub cut_at: u64,
    /// Length of the file in bytes.
    pub len: u64,
    /// Ranges of bytes that come from `from`; none is empty.
    #[serde(deserialize_with = "ranges")]
    pub written: Vec<Range<u64>>,
    /// Checksums of these, and of what is left of runs of the stage around them.
    pub sums: Vec<BlockSum>,
}

/// What is stored with the bytes of a sealed stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedHeaders {
    pub headers: ObjectHeaders,
    /// As `SealRecord` has it.
    #[serde(rename = "attributes_set", deserialize_with = "attempted_headers")]
    pub attempted: Vec<ObjectHeaders>,
}

impl SealRecord {
    /// The stage has these bytes too. Said twice it comes to the same.
    pub fn absorb(&mut self, absorbed: &Absorbed) {
        let mut written: RangeSet<u64> = self.written.drain(..).collect();
        let mut replaced: RangeSet<u64> = absorbed.written.iter().cloned().collect();
        replaced.extend(absorbed.sums.iter().map(|sum| sum.start..sum.end));
        if absorbed.cut_at < u64::MAX {
            written.remove(absorbed.cut_at..u64::MAX);
            replaced.insert(absorbed.cut_at..u64::MAX);
        }
        written.extend(absorbed.written.iter().cloned());
        self.written = written.into_iter().collect();
        self.sums
            .retain(|sum| !replaced.overlaps(&(sum.start..sum.end)));
        self.sums.extend(&absorbed.sums);
        self.sums.sort_by_key(|sum| sum.start);
        self.base_len = self.base_len.min(absorbed.cut_at);
        self.len = absorbed.len;
        self.headers = absorbed.headers.clone();
        self.condition = absorbed.condition.clone();
        self.known = absorbed.known.clone();
        self.completing = None;
        self.attempted.clear();
    }
}

/// All that it takes to resume a multipart upload in a successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadStart {
    pub key: Key,
    pub headers: ObjectHeaders,
    pub upload: UploadId,
    /// Offsets in the file at which its parts end, in order; no part is empty.
    #[serde(deserialize_with = "ends")]
    pub part_ends: Vec<u64>,
}

fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Range<u64>>, D::Error> {
    let ranges = Vec::<Range<u64>>::deserialize(from)?;
    match ranges.iter().find(|range| range.is_empty()) {
        None => Ok(ranges),
        Some(empty) => Err(D::Error::custom(format!("{empty:?} is an empty range"))),
    }
}

/// Versions up to 4 say no more than whether there were any: what those were is not known.
fn attempted_headers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<ObjectHeaders>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Attempted {
        Any(bool),
        Known(Vec<ObjectHeaders>),
    }
    Ok(match Attempted::deserialize(from)? {
        Attempted::Any(false) => Vec::new(),
        Attempted::Any(true) => vec![ObjectHeaders::default()],
        Attempted::Known(attempted) => attempted,
    })
}

fn ends<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    let ends = Vec::<u64>::deserialize(from)?;
    if ends.first().is_some_and(|first| *first > 0) && ends.is_sorted_by(|a, b| a < b) {
        Ok(ends)
    } else {
        Err(D::Error::custom("some part is empty"))
    }
}

/// What shows where a sealed stage holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SealedBase {
    Empty,
    Object(ObjectId),
    /// A stage that was sealed before and is uploaded before.
    Stage(StageId),
}

impl SealedBase {
    pub fn stage(&self) -> Option<StageId> {
        match self {
            Self::Stage(below) => Some(*below),
            Self::Empty | Self::Object(_) => None,
        }
    }
}

/// What the journal knows of a stage that is not done.
#[derive(Debug, Clone)]
pub struct StageRecord {
    pub key: Key,
    pub sealed: Option<SealRecord>,
    /// The multipart upload by which it goes to S3, if one was begun.
    pub sending: Option<UploadStart>,
    /// What only that upload has of it.
    pub offloaded: Option<Offloaded>,
    /// What it was to take over last. It may lack some of it until that stage is done.
    pub(super) absorbed: Option<Absorbed>,
    /// Which record of a sealed stage was its last; 0 for one that is being written.
    pub(super) order: u64,
    /// A record was damaged that may have said something else of it.
    pub doubtful: bool,
}

impl StageRecord {
    /// An upload of it is about to make this version.
    pub(super) fn expect(&mut self, etag: ETag) {
        if let Some(sealed) = &mut self.sealed {
            sealed.completing = Some(etag);
        }
    }

    /// The record of what it takes over is replayed after its own, and has headers too.
    pub(super) fn set_headers(&mut self, set: SealedHeaders) {
        if let Some(absorbed) = &mut self.absorbed {
            absorbed.headers = set.headers.clone();
        }
        if let Some(sealed) = &mut self.sealed {
            (sealed.headers, sealed.attempted) = (set.headers, set.attempted);
        }
    }
}
