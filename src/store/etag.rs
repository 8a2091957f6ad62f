//! ETags: opaque names of object versions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The entity tag of one version of an object, without its quotes.
///
/// Opaque: only equality means anything. Source: RFC 9110, section 8.8.3.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ETag(Arc<str>);

impl ETag {
    /// Takes the header's value, quoted or not.
    pub fn new(header: &str) -> Self {
        Self(header.trim().trim_matches('"').into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value as `If-Match` wants it.
    pub fn quoted(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ETag({})", self.0)
    }
}
