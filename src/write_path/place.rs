//! Where a mount's objects are.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::store::Endpoint;

/// A prefix of a bucket at an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub bucket: String,
    /// Empty, or ends in `/`.
    pub prefix: String,
    /// None in what a mediafs wrote that recorded none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
}

impl Place {
    /// An endpoint that is not recorded may be any.
    pub(super) fn may_be(&self, other: &Self) -> bool {
        let known = self.endpoint.as_ref().zip(other.endpoint.as_ref());
        self.has_keys_of(other) && known.is_none_or(|(ours, theirs)| ours == theirs)
    }

    pub(super) fn has_keys_of(&self, other: &Self) -> bool {
        (&self.bucket, &self.prefix) == (&other.bucket, &other.prefix)
    }

    /// The arguments of `mediafs mount` that name it, but for the mountpoint.
    pub(super) fn arguments(&self) -> String {
        let mut arguments = format!("{}/{}", self.bucket, self.prefix);
        arguments.truncate(arguments.trim_end_matches('/').len());
        arguments.push_str(" MOUNTPOINT");
        if let Some(url) = self.endpoint.as_ref().and_then(Endpoint::url) {
            arguments.push_str(&format!(" --endpoint-url {url}"));
        }
        arguments
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " on {endpoint}"),
            None => f.write_str(" (its endpoint is not recorded)"),
        }
    }
}
