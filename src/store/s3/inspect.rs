//! What an operator asks about a bucket, beside its objects.

use std::time::SystemTime;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumMode;
use bytes::Bytes;

use super::S3Store;
use super::checksum::{UploadChecksum, with_this_alone};
use super::client::{credentials_of, shared_config};
use super::encoding::whole_seconds;
use super::error::translate;
use super::object::etag;
use super::request_options::ServerEncryption;
use super::settings::answered;
use crate::store::{
    AccessKeys, CustomerKeyed, Encryption, Key, ObjectChecksums, StoreError, StoreErrorKind,
    StoreOp, UploadId,
};

/// Whether a bucket keeps what is replaced and deleted. Source: S3 API `GetBucketVersioning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    Off,
    On,
    /// New objects have no versions; those of before are kept.
    Suspended,
}

/// What a store does with an upload whose checksum is that of other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumUse {
    /// It refuses the upload.
    Compared,
    Ignored,
}

/// Who signs requests: no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub access_key: String,
    pub is_temporary: bool,
}

/// Pages of unfinished uploads that are read, each of up to 1,000.
const UPLOAD_PAGES_LIMIT: usize = 1_000;
/// Code of the answer where there are no rules.
const NO_CORS: &str = "NoSuchCORSConfiguration";

/// Errors: no credentials, in words.
pub async fn signer(store: &S3Store) -> Result<Signer, String> {
    let found = credentials(store).await?;
    Ok(Signer {
        is_temporary: found.session_token.is_some(),
        access_key: found.access_key,
    })
}

/// What requests are signed with. Errors: no credentials, in words.
pub async fn credentials(store: &S3Store) -> Result<AccessKeys, String> {
    let (settings, http) = store.renewal.parts();
    let shared = shared_config(settings, http).await;
    let found = credentials_of(&shared).await?;
    Ok(AccessKeys {
        access_key: found.access_key_id().to_owned(),
        secret_key: found.secret_access_key().to_owned(),
        session_token: found.session_token().map(str::to_owned),
    })
}

/// A multipart upload that nobody has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnfinishedUpload {
    pub key: Key,
    pub id: UploadId,
    pub begun_at: SystemTime,
}

/// Those below a prefix, page by page.
pub async fn unfinished_uploads(
    store: &S3Store,
    prefix: &str,
) -> Result<Vec<UnfinishedUpload>, StoreError> {
    let mut uploads = Vec::new();
    let mut after = (None, None);
    for _ in 0..UPLOAD_PAGES_LIMIT {
        let list = store.client().list_multipart_uploads();
        let list = list.bucket(&store.bucket).prefix(prefix);
        let (key, id) = after.clone();
        let request = list.set_key_marker(key).set_upload_id_marker(id).send();
        let answer = answered(StoreOp::ListUploads, &Key::new(prefix), request).await?;
        uploads.extend(answer.uploads().iter().filter_map(|upload| {
            Some(UnfinishedUpload {
                key: Key::new(upload.key()?),
                id: UploadId(upload.upload_id()?.to_owned()),
                begun_at: whole_seconds(Some(upload.initiated()?)),
            })
        }));
        let told = |marker: Option<&str>| marker.filter(|it| !it.is_empty()).map(str::to_owned);
        let next = (
            told(answer.next_key_marker()),
            told(answer.next_upload_id_marker()),
        );
        // A store that does not go on would tell the same page for ever.
        if answer.is_truncated() != Some(true) || next.0.is_none() || next == after {
            break;
        }
        after = next;
    }
    Ok(uploads)
}

/// That goes along with uploads, as far as it was found out what the store takes.
pub fn upload_checksum(store: &S3Store) -> UploadChecksum {
    store.checksums.upload()
}

/// Sends bytes with a checksum that is not theirs. An object may come of it.
pub async fn checksum_use(
    store: &S3Store,
    key: &Key,
    body: Bytes,
    checksum: UploadChecksum,
) -> Result<ChecksumUse, StoreError> {
    // Of no byte; the first two have 8 and 4 bytes.
    let (crc64nvme, crc32c) = ("AAAAAAAAAAA=", "AAAAAA==");
    let of = |which, sum: &str| (checksum == which).then(|| sum.to_owned());
    let put = store.client().put_object().bucket(&store.bucket);
    let put = put
        .key(key.as_str())
        .set_checksum_crc64_nvme(of(UploadChecksum::Crc64Nvme, crc64nvme))
        .set_checksum_crc32_c(of(UploadChecksum::Crc32c, crc32c))
        .set_content_md5(
            UploadChecksum::Md5
                .md5_of(&[])
                .filter(|_| checksum == UploadChecksum::Md5),
        )
        .body(ByteStream::from(body))
        .customize()
        .config_override(with_this_alone(checksum));
    match answered(StoreOp::Put, key, put.send()).await {
        Ok(_) => Ok(ChecksumUse::Ignored),
        // Stores have several codes for it; the same upload with its own checksum was taken.
        Err(error)
            if matches!(
                error.kind,
                StoreErrorKind::Corrupt | StoreErrorKind::Rejected
            ) =>
        {
            Ok(ChecksumUse::Compared)
        }
        Err(error) => Err(error),
    }
}

/// That requests are signed for.
pub fn region(store: &S3Store) -> Option<String> {
    let client = store.client();
    client.config().region().map(|region| region.to_string())
}

pub async fn versioning(store: &S3Store) -> Result<Versioning, StoreError> {
    use aws_sdk_s3::types::BucketVersioningStatus as Status;
    let request = store.client().get_bucket_versioning().bucket(&store.bucket);
    let answer = answered(StoreOp::GetVersioning, &bucket_key(store), request.send()).await?;
    Ok(match answer.status() {
        Some(Status::Enabled) => Versioning::On,
        Some(Status::Suspended) => Versioning::Suspended,
        _ => Versioning::Off,
    })
}

/// Origins that browsers may ask from, each as it is written.
pub async fn cors_origins(store: &S3Store) -> Result<Vec<String>, StoreError> {
    let request = store.client().get_bucket_cors().bucket(&store.bucket);
    match answered(StoreOp::GetCors, &bucket_key(store), request.send()).await {
        Ok(answer) => Ok(answer
            .cors_rules()
            .iter()
            .flat_map(|rule| rule.allowed_origins().iter().cloned())
            .collect()),
        Err(error) if error.detail.contains(NO_CORS) || error.kind == StoreErrorKind::NotFound => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Checksums of an object that are of all its bytes, not of the checksums of its parts.
pub(super) async fn checksums(store: &S3Store, key: &Key) -> Result<ObjectChecksums, StoreError> {
    let request = store.client().head_object().bucket(&store.bucket);
    let request = request
        .key(key.as_str())
        .checksum_mode(ChecksumMode::Enabled);
    let answer = request.send().await;
    let answer = answer.map_err(|error| translate(StoreOp::Head, key, error))?;
    let size = answer
        .content_length()
        .and_then(|it| u64::try_from(it).ok());
    let size_bytes = size.ok_or_else(|| {
        let detail = "answer without a Content-Length";
        StoreError::new(
            StoreErrorKind::Malformed,
            StoreOp::Head,
            key.clone(),
            detail,
        )
    })?;
    // One of parts ends in their number.
    let of_all = |sum: Option<&str>| sum.filter(|sum| !sum.contains('-')).map(str::to_owned);
    let encryption = answer.server_side_encryption().map(|algorithm| Encryption {
        algorithm: algorithm.as_str().to_owned(),
        kms_key: None,
        bucket_key: None,
    });
    // A store that answers a request with such a key need not say so.
    let brings_key = matches!(
        store.renewal.parts().0.requests.encryption,
        Some(ServerEncryption::Customer(_))
    );
    let customer_key = match brings_key || answer.sse_customer_algorithm().is_some() {
        true => CustomerKeyed::Yes,
        false => CustomerKeyed::No,
    };
    Ok(ObjectChecksums {
        etag: etag(StoreOp::Head, key, answer.e_tag())?,
        size_bytes,
        crc64nvme: of_all(answer.checksum_crc64_nvme()),
        crc32c: of_all(answer.checksum_crc32_c()),
        sha256: of_all(answer.checksum_sha256()),
        encryption,
        customer_key,
    })
}

fn bucket_key(store: &S3Store) -> Key {
    Key::new(store.bucket.as_str())
}
