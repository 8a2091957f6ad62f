//! What an operator asks about a bucket, beside its objects.

use aws_credential_types::provider::ProvideCredentials;

use super::S3Store;
use super::connect::shared_config;
use super::error::{chain, translate};
use crate::store::{Key, StoreError, StoreErrorKind, StoreOp};

/// Whether a bucket keeps what is replaced and deleted. Source: S3 API `GetBucketVersioning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    Off,
    On,
    /// New objects have no versions; those of before are kept.
    Suspended,
}

/// Who signs requests: no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub access_key: String,
    pub is_temporary: bool,
}

/// Code of the answer where there are no rules.
const NO_CORS: &str = "NoSuchCORSConfiguration";

/// Errors: no credentials, in words.
pub async fn signer(store: &S3Store) -> Result<Signer, String> {
    let (settings, http) = store.renewal.parts();
    let shared = shared_config(settings, http).await;
    let provider = shared.credentials_provider();
    let provider = provider.ok_or("no credentials are configured")?;
    let found = provider.provide_credentials().await;
    let found = found.map_err(|error| chain(&error))?;
    Ok(Signer {
        access_key: found.access_key_id().to_owned(),
        is_temporary: found.session_token().is_some(),
    })
}

pub async fn versioning(store: &S3Store) -> Result<Versioning, StoreError> {
    use aws_sdk_s3::types::BucketVersioningStatus as Status;
    let request = store.client().get_bucket_versioning().bucket(&store.bucket);
    let answer = request.send().await;
    let answer =
        answer.map_err(|error| translate(StoreOp::GetVersioning, &bucket_key(store), error))?;
    Ok(match answer.status() {
        Some(Status::Enabled) => Versioning::On,
        Some(Status::Suspended) => Versioning::Suspended,
        _ => Versioning::Off,
    })
}

/// Origins that browsers may ask from, each as it is written.
pub async fn cors_origins(store: &S3Store) -> Result<Vec<String>, StoreError> {
    let request = store.client().get_bucket_cors().bucket(&store.bucket);
    let answer = request.send().await;
    match answer.map_err(|error| translate(StoreOp::GetCors, &bucket_key(store), error)) {
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

fn bucket_key(store: &S3Store) -> Key {
    Key::new(store.bucket.as_str())
}
