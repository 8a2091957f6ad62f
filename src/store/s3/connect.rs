//! A client for one bucket, from the standard AWS credential and region chain.

use std::path::PathBuf;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Region, StalledStreamProtectionConfig};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::S3Store;
use super::answer::AnswerCheck;

/// A connection that is not up by then is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Region named to services that have none of their own.
const REGION_OF_OTHER_SERVICES: &str = "us-east-1";

/// How the bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://bucket.host/key`
    VirtualHost,
    /// `https://host/bucket/key`
    Path,
}

/// Which bucket, where. Credentials come from the AWS chain, never from here.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub bucket: String,
    pub endpoint_url: Option<String>,
    pub region: Option<String>,
    pub profile: Option<String>,
    /// Read in place of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    pub addressing: Addressing,
}

impl S3Store {
    /// Reads the AWS configuration; sends no request to the bucket yet.
    pub async fn connect(settings: S3Settings) -> Self {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            // Retries and deadlines are the decorator's; two of a kind multiply.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            )
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = settings.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(file) = &settings.credentials_file {
            let files = EnvConfigFiles::builder()
                .include_default_config_file(true)
                .with_file(EnvConfigFileKind::Credentials, file);
            loader = loader.profile_files(files.build());
        }
        if let Some(profile) = settings.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(url) = &settings.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .force_path_style(settings.addressing == Addressing::Path)
            .interceptor(AnswerCheck);
        if shared.region().is_none() {
            config = config.region(Region::new(REGION_OF_OTHER_SERVICES));
        }
        Self {
            client: aws_sdk_s3::Client::from_conf(config.build()),
            bucket: settings.bucket,
        }
    }
}
