//! What an upload is to make.

use crate::store::{Key, ObjectHeaders, WriteCondition};

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

/// Whether an earlier upload of the same bytes to the same key may have been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriorAttempt {
    None,
    Maybe,
}
