//! What a request changes, as far as another that comes late can undo it.

use std::fmt;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::request::{CompleteMultipartRequest, CopyRequest, DeleteRequest, PutRequest};
use super::{ETag, Key, WriteCondition};

/// Of a longer body, two requests are not compared.
const COMPARED_LIMIT_BYTES: usize = 64 << 10;

/// What a change leaves under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leaves {
    Nothing,
    /// Its ETag, where that is known before.
    Version(Option<ETag>),
}

impl From<&PutRequest> for Leaves {
    fn from(put: &PutRequest) -> Self {
        Self::Version(Some(ETag::of_bytes(&put.body)))
    }
}

impl From<&CopyRequest> for Leaves {
    fn from(copy: &CopyRequest) -> Self {
        Self::Version(copy.source_if_match.clone())
    }
}

impl From<&CompleteMultipartRequest> for Leaves {
    fn from(complete: &CompleteMultipartRequest) -> Self {
        Self::Version(complete.expected_etag())
    }
}

impl From<&DeleteRequest> for Leaves {
    fn from(_: &DeleteRequest) -> Self {
        Self::Nothing
    }
}

/// Names all that a change leaves under its key: one that comes late undoes none
/// that leaves the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome(u64);

impl Outcome {
    pub(super) const NOTHING: Self = Self(0);

    pub(super) fn of(what: &dyn fmt::Debug) -> Self {
        let md5: [u8; 16] = Md5::digest(format!("{what:?}")).into();
        let [a, b, c, d, e, f, g, h, ..] = md5;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]) | 1)
    }
}

/// A change that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub key: Key,
    pub condition: WriteCondition,
    /// Absent where it is not known.
    #[serde(default)]
    pub outcome: Option<Outcome>,
}

impl Change {
    pub fn new(key: Key, condition: WriteCondition) -> Self {
        let outcome = None;
        Self {
            key,
            condition,
            outcome,
        }
    }
}

impl From<&PutRequest> for Change {
    fn from(put: &PutRequest) -> Self {
        let outcome = (put.body.len() <= COMPARED_LIMIT_BYTES)
            .then(|| Outcome::of(&(ETag::of_bytes(&put.body), &put.headers)));
        Self {
            outcome,
            ..Self::new(put.key.clone(), put.condition.clone())
        }
    }
}

impl From<&CopyRequest> for Change {
    fn from(copy: &CopyRequest) -> Self {
        let what = (&copy.source_if_match, &copy.replace_headers);
        let is_known = copy.source_if_match.is_some() && copy.replace_headers.is_some();
        Self {
            outcome: is_known.then(|| Outcome::of(&what)),
            ..Self::new(copy.target.clone(), copy.condition.clone())
        }
    }
}

impl From<&DeleteRequest> for Change {
    fn from(delete: &DeleteRequest) -> Self {
        Self {
            outcome: Some(Outcome::NOTHING),
            ..Self::new(delete.key.clone(), delete.condition())
        }
    }
}

impl From<&CompleteMultipartRequest> for Change {
    fn from(complete: &CompleteMultipartRequest) -> Self {
        Self::new(complete.key.clone(), complete.condition.clone())
    }
}

/// The keys that the answer to a request tells of: `key`, or those that it changes.
pub(super) fn keys_of<'a>(key: &'a Key, changes: &'a [Change]) -> Vec<&'a Key> {
    match changes {
        [] => vec![key],
        changes => changes.iter().map(|change| &change.key).collect(),
    }
}
