//! What an upload is to make.

use crate::store::{ETag, Key, ObjectHeaders, WriteCondition};

/// One object, and what it may take the place of.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    pub key: Key,
    pub headers: ObjectHeaders,
    /// `Always` for a whole replacement: the last close wins.
    pub condition: WriteCondition,
    /// What a whole replacement finds under the key, as far as that is known;
    /// `Always` where it is not.
    pub known: WriteCondition,
    pub len: u64,
    pub prior: PriorAttempt,
}

/// The version that an upload has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    pub etag: ETag,
    /// What is stored with it, where an earlier attempt whose answer was lost made it.
    pub found: Option<ObjectHeaders>,
}

impl From<ETag> for Uploaded {
    fn from(etag: ETag) -> Self {
        Self { etag, found: None }
    }
}

/// Whether an earlier upload of the same bytes to the same key may have been applied.
///
/// Which version it was about to make is asked of the source (`completed_as`), for a log has
/// it: a predecessor may have made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorAttempt {
    None,
    Maybe,
}
