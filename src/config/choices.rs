//! Settings that are one of a few words.

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
