//! What a store tells of an object's bytes without sending them.

use super::ETag;
use super::request::{Encryption, ObjectMeta};

/// Checksums of all bytes of one object version, each as S3 writes it.
///
/// Source: S3 API `HeadObject` with `x-amz-checksum-mode`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChecksums {
    pub etag: ETag,
    pub size_bytes: u64,
    pub crc64nvme: Option<String>,
    pub crc32c: Option<String>,
    pub sha256: Option<String>,
    pub encryption: Option<Encryption>,
}

impl ObjectChecksums {
    /// Whether the ETag of an object of one PUT is its MD5.
    ///
    /// Source: S3 API, "Object", on ETag: not with SSE-KMS and SSE-C.
    pub fn etag_is_md5(&self) -> bool {
        let encryption = self.encryption.as_ref();
        encryption.is_none_or(|it| it.algorithm == "AES256")
    }

    pub fn has_some(&self) -> bool {
        self.crc64nvme.is_some() || self.crc32c.is_some() || self.sha256.is_some()
    }
}

/// Of a store that tells none.
impl From<ObjectMeta> for ObjectChecksums {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            etag: meta.etag,
            size_bytes: meta.size_bytes,
            crc64nvme: None,
            crc32c: None,
            sha256: None,
            encryption: meta.headers.placement.encryption,
        }
    }
}
