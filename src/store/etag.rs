//! ETags: opaque names of object versions.

use std::fmt;
use std::sync::Arc;

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

/// Longest that is kept; S3's have 32 characters, and five more with the number of parts.
const ETAG_LIMIT_BYTES: usize = 1024;

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

    /// A server's value; none where it cannot be a version's name that is sent back.
    pub fn parse(header: &str) -> Option<Self> {
        let etag = Self::new(header);
        let usable = !etag.0.is_empty()
            && etag.0.len() <= ETAG_LIMIT_BYTES
            && !etag.0.contains('"')
            && !etag.0.chars().any(char::is_control);
        usable.then_some(etag)
    }

    /// What S3 names an object of one PUT by, unless it encrypts it with a key of its own.
    ///
    /// Source: S3 API, "Object", on ETag.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let md5: [u8; 16] = Md5::digest(bytes).into();
        Self::new(&format!("{:032x}", u128::from_be_bytes(md5)))
    }

    /// What the object of these parts gets from a store whose ETags are the MD5 of the parts'
    /// MD5s and their number. None where one of them is no MD5.
    ///
    /// Source: S3 User Guide, "Checking object integrity", on multipart ETags.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let (mut all, mut count) = (Md5::new(), 0);
        for part in parts {
            let hex = part.as_str();
            if hex.len() != 32 {
                return None;
            }
            let md5 = u128::from_str_radix(hex, 16).ok()?;
            all.update(md5.to_be_bytes());
            count += 1;
        }
        let bytes: [u8; 16] = all.finalize().into();
        let md5 = u128::from_be_bytes(bytes);
        Some(Self::new(&format!("{md5:032x}-{count}")))
    }

    /// Whether it is of a multipart upload: it depends on how the bytes were cut.
    ///
    /// Source: S3 User Guide, "Checking object integrity", on multipart ETags.
    pub fn is_of_parts(&self) -> bool {
        self.0.contains('-')
    }

    /// Whether it is of no upload at all: what a store with directories of its own says
    /// of one without an object of this name.
    ///
    /// Source: SeaweedFS 4.48, HEAD of a directory that only its entries make.
    pub fn is_of_no_parts(&self) -> bool {
        self.0.ends_with("-0")
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
        write!(f, "ETag({})", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_of_no_parts_is_of_no_upload() {
        let is_of_no_parts = |etag: &str| ETag::new(etag).is_of_no_parts();
        assert!(is_of_no_parts("\"d41d8cd98f00b204e9800998ecf8427e-0\""));
        assert!(!is_of_no_parts("\"d41d8cd98f00b204e9800998ecf8427e\""));
        assert!(!is_of_no_parts("\"d41d8cd98f00b204e9800998ecf8427e-10\""));
    }

    #[test]
    fn what_cannot_be_sent_back_in_a_header_names_no_version() {
        for good in ["\"abc-2\"", "abc", " \"a b\" "] {
            assert!(ETag::parse(good).is_some(), "{good}");
        }
        let long = "e".repeat(ETAG_LIMIT_BYTES + 1);
        for bad in ["", "\"\"", "a\"b", "W/\"weak\"", "a\r\nb", "\u{7f}", &long] {
            assert!(ETag::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(format!("{:?}", ETag::new("a\nb")), "ETag(a\\nb)");
    }
}
