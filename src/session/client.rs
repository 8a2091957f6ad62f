//! The client of the configured bucket.

use std::sync::Arc;

use crate::config::{AclConfig, Config, RequestConfig, UploadChecksumConfig};
use crate::store::s3::{
    Addressing, AwsVariants, ChecksumChoice, CustomerKey, Identity, NamedProxy, NetworkError,
    OnNetworkError, RequestOptions, S3Settings, S3Store, ServerEncryption, UploadChecksum,
    proxy_of,
};
use crate::store::{Endpoint, KeySource};

/// A client of the configured bucket, which has asked nothing yet.
///
/// Errors: certificates, a proxy, a key or options that cannot be used.
pub async fn s3(config: &Config, on_error: OnNetworkError) -> Result<S3Store, NetworkError> {
    let requests = &config.s3.requests;
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
        identity: if requests.anonymous {
            Identity::Anonymous
        } else {
            Identity::Credentials
        },
        variants: AwsVariants {
            dual_stack: requests.dual_stack,
            fips: requests.fips,
            accelerate: requests.accelerate,
        },
        requests: request_options(requests)?,
    };
    S3Store::connect(settings, on_error).await
}

/// The proxy that requests to the bucket go through.
pub fn proxy(config: &Config, service: &Endpoint) -> Option<NamedProxy> {
    let given = config.s3.endpoint_url.as_deref();
    proxy_of(config.s3.proxy.as_ref(), given.or(service.url()))
}

fn request_options(config: &RequestConfig) -> Result<RequestOptions, NetworkError> {
    let customer = config.sse_customer_key_file.as_ref().map(|path| {
        let key = CustomerKey::read(path);
        key.map_err(|why| NetworkError::CustomerKey {
            path: path.clone(),
            why,
        })
    });
    let managed = config.sse.map(|sse| ServerEncryption::Managed {
        algorithm: sse.algorithm(),
        kms_key: config.sse_kms_key_id.clone(),
    });
    Ok(RequestOptions {
        storage_class: config.storage_class.clone(),
        encryption: customer
            .transpose()?
            .map(ServerEncryption::Customer)
            .or(managed),
        acl: config.acl.map(AclConfig::name),
        cache_control: config.cache_control.clone(),
        requester_pays: config.requester_pays,
        bucket_owner: config.expected_bucket_owner.clone(),
    })
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
