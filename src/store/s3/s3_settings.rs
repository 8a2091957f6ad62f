//! Which bucket is connected to, where, and how its requests are made.

use std::path::PathBuf;
use std::sync::Arc;

use super::checksum::ChecksumChoice;
use super::request_options::RequestOptions;
use crate::store::{GivenKeys, KeySource, ProxyUrl};

/// How the bucket is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressing {
    /// `https://bucket.host/key`
    VirtualHost,
    /// `https://host/bucket/key`
    Path,
}

/// Who signs requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// Whoever the credentials belong to.
    Credentials,
    /// Nobody: they are not signed.
    Anonymous,
}

/// Other endpoints of AWS than a region's plain one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AwsVariants {
    /// IPv6 and IPv4.
    pub dual_stack: bool,
    /// Cryptography that FIPS 140 validates.
    pub fips: bool,
    /// S3 Transfer Acceleration.
    pub accelerate: bool,
}

impl AwsVariants {
    /// The options that name them.
    pub(super) fn names(self) -> Vec<&'static str> {
        let all = [
            (self.dual_stack, "--dual-stack"),
            (self.fips, "--fips"),
            (self.accelerate, "--accelerate"),
        ];
        let named = all.into_iter().filter(|(is_set, _)| *is_set);
        named.map(|(_, name)| name).collect()
    }
}

/// Which bucket, where.
#[derive(Debug, Clone)]
pub struct S3Settings {
    pub bucket: String,
    pub endpoint_url: Option<String>,
    pub region: Option<String>,
    pub profile: Option<String>,
    /// Read in place of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// Asked before the AWS chain.
    pub keys: Option<Arc<dyn KeySource>>,
    pub addressing: Addressing,
    /// Certificates in place of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// In place of those of the environment.
    pub proxy: Option<ProxyUrl>,
    pub upload_checksum: ChecksumChoice,
    pub identity: Identity,
    pub variants: AwsVariants,
    pub requests: RequestOptions,
}

impl S3Settings {
    /// The profile of the AWS configuration: the one that is set, else the one that the
    /// settings of another program name by now.
    pub(super) fn profile_now(&self) -> Option<String> {
        let of_source = || match self.keys.as_ref()?.read() {
            Ok(GivenKeys::Profile(name)) => Some(name),
            _ => None,
        };
        self.profile.clone().or_else(of_source)
    }
}
