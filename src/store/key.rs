//! Object keys.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest key that S3 takes, in bytes of UTF-8. Source: S3 User Guide, "Naming Amazon S3 objects".
pub const KEY_LIMIT_BYTES: usize = 1024;

/// The whole key of one object in the bucket, prefix included.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(Arc<str>);

impl Key {
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this one, of a file or of a directory, or lies below it.
    pub fn is_at_or_below(&self, place: &Self) -> bool {
        let rest = self.0.strip_prefix(place.0.trim_end_matches('/'));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether S3 would refuse the key for its length.
    pub fn is_too_long(&self) -> bool {
        self.0.len() > KEY_LIMIT_BYTES
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_debug())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}
