//! A file's content: what is staged over what the store has.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::FsError;
use crate::journal::{SealRecord, SealedBase};
use crate::namespace::Attributes;
use crate::read_path::Reader;
use crate::store::{ETag, ObjectHeaders, WriteCondition};
use crate::vocabulary::ObjectId;
use crate::write_path::{Segment, Stage, StageFile};

/// What shows where a stage has no bytes of its own.
///
/// Two logs record it, each by a type that has the numbers of stages in place of the stages:
/// `SavedLayer` of the session has all layers, `SealedBase` of the journal has one, because
/// each sealed stage has a record of its own there.
#[derive(Debug, Clone)]
pub enum LowerLayer {
    Empty,
    Object(Arc<ObjectId>),
    /// A stage that is being uploaded.
    Sealed(Arc<SealedStage>),
}

/// A stage that does not change any more, over what it is based on.
#[derive(Debug)]
pub struct SealedStage {
    pub stage: Stage,
    pub base: LowerLayer,
    /// Counts once the base is none that is to be uploaded first. `Always`
    /// for a whole replacement.
    pub condition: WriteCondition,
    /// What a whole replacement takes the place of, where that is known.
    pub known: WriteCondition,
    /// Whether the store may have it already.
    pub sent: UploadHistory,
}

/// Whether an upload was begun, by this daemon or an earlier one.
#[derive(Debug, Default)]
pub struct UploadHistory {
    maybe: AtomicBool,
    recorded: Mutex<Recorded>,
    /// The attributes that each attempt stores, or may have stored.
    stores: Mutex<Vec<Attributes>>,
    /// Failures of the copy that stores attributes.
    failed_copies: AtomicU32,
    /// The version that it was about to make, where that is known.
    version: Mutex<Option<ETag>>,
}

/// What the journal says is to be stored with a stage.
#[derive(Debug, Clone, Default)]
struct Recorded {
    last: Option<ObjectHeaders>,
    /// As `SealRecord` has it.
    attempted: Vec<ObjectHeaders>,
}

/// So many headers are kept that an upload may have been begun with: the first, and the latest.
const ATTEMPTED_LIMIT: usize = 16;

impl UploadHistory {
    /// As the journal has it of a predecessor, which may have begun with each of the headers.
    pub fn maybe(sealed: &SealRecord) -> Self {
        let begun_with = sealed.attempted.iter().chain([&sealed.headers]);
        let stores = begun_with.map(|headers| Attributes::decode(headers.clone()));
        let recorded = Recorded {
            last: Some(sealed.headers.clone()),
            attempted: sealed.attempted.clone(),
        };
        Self {
            maybe: AtomicBool::new(true),
            recorded: Mutex::new(recorded),
            stores: Mutex::new(stores.collect()),
            failed_copies: AtomicU32::default(),
            version: Mutex::new(sealed.completing.clone()),
        }
    }

    pub fn copy(&self) -> Self {
        Self {
            maybe: AtomicBool::new(self.is_maybe_sent()),
            recorded: Mutex::new(self.recorded.lock().clone()),
            stores: Mutex::new(self.stores.lock().clone()),
            failed_copies: AtomicU32::default(),
            version: Mutex::new(self.as_version()),
        }
    }

    pub fn is_maybe_sent(&self) -> bool {
        self.maybe.load(Ordering::Relaxed)
    }

    /// Whether it was so before.
    pub fn mark_maybe_sent(&self) -> bool {
        self.maybe.swap(true, Ordering::Relaxed)
    }

    /// These headers are to be recorded. Returns those before them that an upload may have
    /// been begun with.
    pub fn replace_recorded(&self, headers: &ObjectHeaders) -> Vec<ObjectHeaders> {
        let mut recorded = self.recorded.lock();
        let before = recorded.last.replace(headers.clone()).unwrap_or_default();
        if self.is_maybe_sent() && before != *headers {
            recorded.attempted.retain(|other| *other != before);
            recorded.attempted.push(before);
            if recorded.attempted.len() > ATTEMPTED_LIMIT {
                recorded.attempted.remove(1);
            }
        }
        recorded.attempted.clone()
    }

    /// Notes which attributes an attempt stores.
    pub fn begin(&self, stores: Attributes) {
        self.stores.lock().push(stores);
    }

    /// The attributes that an attempt stored with the object that was found. Where another
    /// client has changed them since, those of the first attempt: once that one is applied,
    /// the conditions of later ones do not hold.
    pub fn stored_as(&self, found: &Attributes) -> Option<Attributes> {
        let all = self.stores.lock();
        let same = all.iter().rfind(|it| it.shows_as(found));
        same.or(all.first()).cloned()
    }

    /// Counts a failure of the copy that stores attributes, and returns how many there were.
    pub fn copy_failed(&self) -> u32 {
        self.failed_copies.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn set_version(&self, version: ETag) {
        *self.version.lock() = Some(version);
    }

    pub fn as_version(&self) -> Option<ETag> {
        self.version.lock().clone()
    }
}

/// One contiguous piece of a planned read.
#[derive(Debug)]
pub enum ReadSegment {
    Local(Arc<StageFile>, Range<u64>),
    Object(Arc<ObjectId>, Range<u64>),
    Zero(u64),
}

impl LowerLayer {
    pub fn object(&self) -> Option<&Arc<ObjectId>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Empty | Self::Sealed(_) => None,
        }
    }

    /// The stage that is to be uploaded, if one is.
    pub fn sealed(&self) -> Option<&Arc<SealedStage>> {
        match self {
            Self::Sealed(sealed) => Some(sealed),
            Self::Empty | Self::Object(_) => None,
        }
    }

    /// Whether bytes of an object show.
    pub fn shows_object(&self) -> bool {
        match self {
            Self::Empty => false,
            Self::Object(_) => true,
            Self::Sealed(sealed) => sealed.stage.depends_on_base() && sealed.base.shows_object(),
        }
    }

    pub fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Object(object) => object.size_bytes,
            Self::Sealed(sealed) => sealed.stage.len(),
        }
    }

    pub fn plan(&self, range: Range<u64>, pieces: &mut Vec<ReadSegment>) {
        let range = range.start..range.end.min(self.len());
        if range.is_empty() {
            return;
        }
        match self {
            Self::Empty => {}
            Self::Object(object) => pieces.push(ReadSegment::Object(object.clone(), range)),
            Self::Sealed(sealed) => plan_staged(&sealed.stage, &sealed.base, range, pieces),
        }
    }

    /// As the journal names it.
    pub fn as_sealed(&self) -> SealedBase {
        match self {
            Self::Empty => SealedBase::Empty,
            Self::Object(object) => SealedBase::Object((**object).clone()),
            Self::Sealed(sealed) => SealedBase::Stage(sealed.stage.file().id()),
        }
    }

    /// The same stages, each over another base, on another condition and known to
    /// take the place of something else.
    pub fn map_sealed(
        &self,
        change: impl Fn(&SealedStage) -> (LowerLayer, WriteCondition, WriteCondition) + Copy,
    ) -> Self {
        let Self::Sealed(sealed) = self else {
            return self.clone();
        };
        let (base, condition, known) = change(sealed);
        Self::Sealed(Arc::new(SealedStage {
            stage: sealed.stage.clone(),
            base: base.map_sealed(change),
            condition,
            known,
            sent: sealed.sent.copy(),
        }))
    }

    /// The same under another name, which nothing was sent to.
    pub fn unsent(&self) -> Self {
        let Self::Sealed(sealed) = self else {
            return self.clone();
        };
        Self::Sealed(Arc::new(SealedStage {
            stage: sealed.stage.clone(),
            base: sealed.base.unsent(),
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            sent: UploadHistory::default(),
        }))
    }

    /// The same with another in the place of one sealed stage.
    pub fn replace(&self, old: &Arc<SealedStage>, new: &Arc<SealedStage>) -> Self {
        match self {
            Self::Sealed(sealed) if Arc::ptr_eq(sealed, old) => Self::Sealed(new.clone()),
            Self::Sealed(sealed) => Self::Sealed(Arc::new(SealedStage {
                stage: sealed.stage.clone(),
                base: sealed.base.replace(old, new),
                condition: sealed.condition.clone(),
                known: sealed.known.clone(),
                sent: sealed.sent.copy(),
            })),
            Self::Empty | Self::Object(_) => self.clone(),
        }
    }
}

/// Where the bytes of a range of a staged file come from.
pub fn plan_staged(
    stage: &Stage,
    base: &LowerLayer,
    range: Range<u64>,
    pieces: &mut Vec<ReadSegment>,
) {
    for segment in stage.segments(range) {
        match segment {
            Segment::Local(range) => pieces.push(ReadSegment::Local(stage.file().clone(), range)),
            Segment::Lower(range) => base.plan(range, pieces),
            Segment::Zero(range) => pieces.push(ReadSegment::Zero(range.end - range.start)),
        }
    }
}

/// Fetches planned pieces and joins them.
pub async fn fetch(reader: &Reader, pieces: Vec<ReadSegment>) -> Result<Bytes, FsError> {
    let mut parts: Vec<Bytes> = Vec::new();
    for piece in pieces {
        match piece {
            ReadSegment::Local(file, range) => parts.push(file.read(range)?.into()),
            ReadSegment::Object(object, range) => parts.extend(reader.read(&object, range).await?),
            ReadSegment::Zero(len) => parts.push(vec![0; len as usize].into()),
        }
    }
    if parts.len() == 1 {
        return Ok(parts.remove(0));
    }
    Ok(parts.concat().into())
}
