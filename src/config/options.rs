//! Every setting, defined once: flag, TOML key and `MEDIAFS_*` variable have one name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::units::{ByteSize, FileMode, Period};

/// Settings as they are written; what is absent comes from the layer below.
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Bucket to mount (in a file; on the command line it is the first argument)
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Key prefix to mount (in a file; on the command line it follows the bucket)
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Directory to mount on (in a file; on the command line it is the second argument)
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mountpoint: Option<PathBuf>,

    /// URL of an S3 service other than AWS
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// AWS region of the bucket [default: from the AWS configuration]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile of the AWS configuration
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// AWS credentials file [default: ~/.aws/credentials; under systemd the credential `aws`]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Put the bucket in the path, not in the host name
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// Longest wait for S3 before a call fails [default: 30s]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Period>,

    /// Where mode, owner, times, symlinks and extended attributes live [default: fixed]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<AttributesMode>,
    /// When O_EXCL learns that another client was first [default: lazy]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive_create: Option<ExclusiveCreateConfig>,
    /// Owner of every file and directory [default: 1000; not as root: oneself]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Group of every file and directory [default: 1000; not as root: one's own]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Permissions of files, octal [default: 0644]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<FileMode>,
    /// Permissions of directories, octal [default: 0755]
    #[arg(long, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_mode: Option<FileMode>,
    /// Let other users use the mount; file permissions are checked
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_other: Option<bool>,
    /// Refuse every change
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Let no file of the mount be executed
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_exec: Option<bool>,
    /// Shown as the mount's source [default: mediafs:BUCKET/PREFIX]
    #[arg(long, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsname: Option<String>,
    /// Mount over a directory that is not empty
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_non_empty: Option<bool>,

    /// How long what S3 said of a file counts as true; 0 asks at each open [default: 60s]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// How long a name counts as absent [default: 1s]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_ttl: Option<Period>,
    /// How long after --ttl what S3 said goes on while S3 does not answer [default: 24h]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_ttl: Option<Period>,
    /// When directories get a marker object [default: auto]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_markers: Option<DirMarkersConfig>,
    /// Most objects that one directory rename moves [default: 100000]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rename_objects: Option<u64>,

    /// Unit of reading and caching, a power of two [default: 1MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<ByteSize>,
    /// Memory for cached blocks and reads under way [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_cache: Option<ByteSize>,
    /// Directory for bytes that are not yet in S3 [default: below /var/lib/mediafs or ~/.local/state/mediafs]
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// The bucket was at this endpoint (a URL, or aws) and has moved with all that is in it, so that what the spool holds for it may go to where it is now
    #[arg(long, value_name = "ENDPOINT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_moved_from: Option<String>,
    /// Most bytes in the spool: writes beyond it fail with ENOSPC until uploads end [default: the disk's]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_size: Option<ByteSize>,
    /// When close and fsync return [default: s3]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityConfig>,
    /// Size of the first parts of long uploads, each held in memory while it is sent [default: 8MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_size: Option<ByteSize>,
    /// Longer objects are copied in parts of this size when they are renamed [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_part_size: Option<ByteSize>,
    /// Parts that uploads hold in memory together; one file takes about half of them [default: 8]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_concurrency: Option<u16>,

    /// Give up privileges and core dumps once started [default: on]
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardening: Option<HardeningConfig>,
    /// Stay in the foreground
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreground: Option<bool>,
    /// What to log: error, warn, info, debug, trace, or a filter such as mediafs::requests=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// Where to log [default: standard error; in the background mediafs.log beside the spool]
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// Threads that take requests from the kernel [default: 4]
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuse_threads: Option<u16>,
    /// Longest wait for open files and uploads when told to stop [default: 30s]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Period>,
    /// Replace a daemon in the background whose mount answers nothing for so long; 0 never does. In the service WatchdogSec= says it [default: 60s]
    #[arg(long, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Period>,
}

impl Options {
    /// The settings that are given, by their name.
    pub(super) fn by_name(&self) -> BTreeMap<String, Value> {
        let written = serde_json::to_value(self).ok();
        let written = written.and_then(|written| match written {
            Value::Object(settings) => Some(settings),
            _ => None,
        });
        written.into_iter().flatten().collect()
    }
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
    /// Once S3 has the object
    S3,
    /// Once the spool has the bytes on disk; the upload follows, through outages too
    Disk,
}

/// Where attributes live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributesMode {
    /// In the mount's options; what is changed lasts until the kernel forgets the file
    Fixed,
    /// With the objects, as s3fs and rclone keep them
    Stored,
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
    /// Capabilities but two, new privileges, core dumps, being traced
    On,
    /// Keep all, to debug the daemon or let it run programs that need more
    Off,
}
