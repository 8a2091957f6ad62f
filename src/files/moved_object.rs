//! Objects that were copied by a rename or a change of attributes, and whose bytes they have.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::{ETag, Key};
use crate::vocabulary::{ObjectId, ObjectVersion};

/// A copy, by the versions that have the same bytes.
///
/// What is open, cached or asked of may be of another version, which another client
/// has replaced since: that one is not taken for the copy.
#[derive(Debug, Clone)]
pub struct MovedObject {
    pub version: ObjectVersion,
    /// What it was copied from; nothing where a predecessor copied it.
    pub source: Option<ETag>,
}

/// Copies, by the keys of the originals.
pub type Moved = HashMap<Key, MovedObject>;

impl MovedObject {
    pub fn of(source: ETag, version: ObjectVersion) -> Self {
        Self {
            version,
            source: Some(source),
        }
    }

    /// One that a predecessor copied from an original that is gone.
    pub fn by_predecessor(version: ObjectVersion) -> Self {
        Self {
            version,
            source: None,
        }
    }

    /// Whether this version has the bytes of the copy.
    pub fn has_bytes_of(&self, etag: &ETag, size_bytes: u64) -> bool {
        if *etag == self.version.etag {
            return true;
        }
        match &self.source {
            Some(source) => etag == source,
            // The ETag of a copy in parts tells nothing of its bytes.
            None => {
                let in_parts = etag.is_of_parts() && self.version.etag.is_of_parts();
                in_parts && size_bytes == self.version.size_bytes
            }
        }
    }

    pub fn at(&self, key: Key) -> Arc<ObjectId> {
        Arc::new(self.version.at(key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn moved(source: Option<&str>, etag: &str) -> MovedObject {
        MovedObject {
            source: source.map(ETag::new),
            version: ObjectVersion {
                etag: ETag::new(etag),
                size_bytes: 5,
                last_modified: SystemTime::UNIX_EPOCH,
            },
        }
    }

    #[test]
    fn a_version_that_is_neither_the_copy_nor_its_original_has_other_bytes() {
        let of = |moved: MovedObject, etag: &str, size| moved.has_bytes_of(&ETag::new(etag), size);
        assert!(of(moved(Some("a"), "b"), "a", 5));
        assert!(of(moved(Some("a"), "b"), "b", 5));
        assert!(!of(moved(Some("a"), "b"), "c", 5));
        assert!(!of(moved(Some("a-1"), "b-1"), "c-1", 5));
        assert!(of(moved(None, "b"), "b", 5));
        assert!(!of(moved(None, "b"), "a", 5));
        assert!(of(moved(None, "b-1"), "a-2", 5));
        assert!(!of(moved(None, "b-1"), "a-2", 6));
    }
}
