//! The client of the configured bucket.

use std::sync::Arc;

use crate::config::{Config, UploadChecksumConfig};
use crate::store::KeySource;
use crate::store::s3::{
    Addressing, ChecksumChoice, NetworkError, OnNetworkError, S3Settings, S3Store, UploadChecksum,
};

/// A client of the configured bucket, which has asked nothing yet.
///
/// Errors: certificates or a proxy that cannot be used.
pub async fn s3(config: &Config, on_error: OnNetworkError) -> Result<S3Store, NetworkError> {
    let settings = S3Settings {
        bucket: config.bucket.clone(),
        endpoint_url: config.s3.endpoint_url.clone(),
        region: config.s3.region.clone(),
        profile: config.s3.profile.clone(),
        credentials_file: config.s3.credentials_file.clone(),
        keys: config
            .s3
            .authentik
            .clone()
            .map(|source| Arc::new(source) as Arc<dyn KeySource>),
        addressing: if config.s3.force_path_style {
            Addressing::Path
        } else {
            Addressing::VirtualHost
        },
        ca_bundle: config.s3.ca_bundle.clone(),
        proxy: config.s3.proxy.clone(),
        upload_checksum: upload_checksum(config.s3.upload_checksum),
    };
    S3Store::connect(settings, on_error).await
}

fn upload_checksum(config: UploadChecksumConfig) -> ChecksumChoice {
    ChecksumChoice::Only(match config {
        UploadChecksumConfig::Auto => return ChecksumChoice::Auto,
        UploadChecksumConfig::Crc64nvme => UploadChecksum::Crc64Nvme,
        UploadChecksumConfig::Crc32c => UploadChecksum::Crc32c,
        UploadChecksumConfig::Md5 => UploadChecksum::Md5,
        UploadChecksumConfig::None => UploadChecksum::None,
    })
}
