//! Settings that are one of a few words, as `--help` and files spell them. The layers
//! that act on them have enums of their own, which know neither clap nor TOML.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Which of authentik's folders a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsageConfig {
    /// /media, or /data/media: keys below media/
    Media,
    /// /data/reports: keys below reports/
    Reports,
}

/// When directories get a marker object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirMarkersConfig {
    /// While nothing else is in the directory
    Auto,
    /// From mkdir to rmdir
    Always,
    /// Never: an empty directory lasts as long as the mount
    Never,
}

/// When close and fsync return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityConfig {
    /// When S3 has the object
    S3,
    /// When the local disk has the bytes; the upload follows, through outages too
    Disk,
}

/// Where attributes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributesMode {
    /// In the mount's options; changes last until the kernel forgets the file
    Fixed,
    /// With the objects, as s3fs and rclone keep them
    Stored,
}

/// Checksum of uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UploadChecksumConfig {
    /// CRC-64/NVME, or the best that the store takes
    Auto,
    /// CRC-64/NVME in x-amz-checksum-crc64nvme
    Crc64nvme,
    /// CRC-32C in x-amz-checksum-crc32c
    Crc32c,
    /// MD5 in Content-MD5
    Md5,
    /// None
    None,
}

/// When an exclusive create learns that another client was first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExclusiveCreateConfig {
    /// At close
    Lazy,
    /// At open, which claims the name with an empty object
    Strict,
}

/// Whether the daemon gives up what it does not need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HardeningConfig {
    /// Give up all capabilities but two, new privileges, core dumps and being traced
    On,
    /// Keep all, for a debugger or for programs that need more
    Off,
}

/// How the store encrypts what is written, with keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum SseConfig {
    /// With keys of S3
    #[value(name = "AES256", alias = "aes256")]
    #[serde(rename = "AES256", alias = "aes256")]
    Aes256,
    /// With a key of KMS
    #[value(name = "aws:kms")]
    #[serde(rename = "aws:kms")]
    Kms,
    /// The same, twice
    #[value(name = "aws:kms:dsse")]
    #[serde(rename = "aws:kms:dsse")]
    KmsDsse,
}

impl SseConfig {
    /// As the header has it.
    pub fn algorithm(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "aws:kms",
            Self::KmsDsse => "aws:kms:dsse",
        }
    }
}

/// Canned ACLs. Source: S3 User Guide, "Access control list (ACL) overview".
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AclConfig {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    AwsExecRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
}

impl AclConfig {
    /// As the header has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicRead => "public-read",
            Self::PublicReadWrite => "public-read-write",
            Self::AuthenticatedRead => "authenticated-read",
            Self::AwsExecRead => "aws-exec-read",
            Self::BucketOwnerRead => "bucket-owner-read",
            Self::BucketOwnerFullControl => "bucket-owner-full-control",
        }
    }
}
