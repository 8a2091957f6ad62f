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
    pub customer_key: CustomerKeyed,
}

/// Whether an object is encrypted with a key that the store does not keep (SSE-C).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CustomerKeyed {
    No,
    Yes,
}

impl ObjectChecksums {
    /// Whether the ETag of an object of one PUT is its MD5.
    ///
    /// Source: S3 API, "Object", on ETag: not with SSE-KMS and SSE-C.
    pub fn etag_is_md5(&self) -> bool {
        let encryption = self.encryption.as_ref();
        let is_of_store = encryption.is_none_or(|it| it.algorithm == "AES256");
        is_of_store && self.customer_key == CustomerKeyed::No
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
            customer_key: CustomerKeyed::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_an_md5_only_where_the_store_encrypts_with_its_own_keys_or_not_at_all() {
        let told = |algorithm: Option<&str>, customer_key| ObjectChecksums {
            etag: ETag::new("e"),
            size_bytes: 1,
            crc64nvme: None,
            crc32c: None,
            sha256: None,
            encryption: algorithm.map(|algorithm| Encryption {
                algorithm: algorithm.to_owned(),
                kms_key: None,
                bucket_key: None,
            }),
            customer_key,
        };
        for (algorithm, customer_key, is_md5) in [
            (None, CustomerKeyed::No, true),
            (Some("AES256"), CustomerKeyed::No, true),
            (Some("aws:kms"), CustomerKeyed::No, false),
            (Some("aws:kms:dsse"), CustomerKeyed::No, false),
            (None, CustomerKeyed::Yes, false),
            (Some("AES256"), CustomerKeyed::Yes, false),
        ] {
            let told = told(algorithm, customer_key);
            assert_eq!(told.etag_is_md5(), is_md5, "{told:?}");
        }
    }
}
