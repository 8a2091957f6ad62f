//! Every setting, defined once: flag, TOML key and `MEDIAFS_*` variable have one name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::choices::{
    AclConfig, AttributesMode, DirMarkersConfig, DurabilityConfig, ExclusiveCreateConfig,
    HardeningConfig, SseConfig, UploadChecksumConfig, UsageConfig,
};
use super::metrics_address::MetricsAddress;
use super::ratio::Ratio;
use super::units::{ByteSize, FileMode, GroupId, Period, Secret, UserId};
use crate::telemetry::LogFormat;

/// Headings of the settings in `mediafs mount --help`, in their order.
const BUCKET: &str = "Bucket and credentials";
const PERMISSIONS: &str = "Permissions";
const CACHING: &str = "Caching";
const WRITING: &str = "Writing and spool";
const PROCESS: &str = "Process and logs";

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
    #[arg(long, help_heading = BUCKET, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// AWS region of the bucket [default: from the AWS configuration]
    #[arg(long, help_heading = BUCKET)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile of the AWS configuration to use
    #[arg(long, help_heading = BUCKET, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// AWS credentials file [default: ~/.aws/credentials; for mediafs@NAME /etc/mediafs/NAME.credentials]
    #[arg(long, help_heading = BUCKET, hide_short_help = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Take bucket, endpoint and credentials from authentik's own settings: its /etc/authentik, its variables, and FILE (.env or .yml)
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "", require_equals = true, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    #[serde(
        skip_serializing_if = "Option::is_none",
        default,
        deserialize_with = "files"
    )]
    pub from_authentik: Option<Vec<PathBuf>>,
    /// Which of authentik's folders is mounted [default: media]
    #[arg(long, help_heading = BUCKET, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageConfig>,
    /// Mount on authentik's /data itself, though authentik executes /data/user_settings.py
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_root: Option<bool>,
    /// Name the bucket in the path of the URL, not in the host name: most services other than AWS need it
    #[arg(long, help_heading = BUCKET, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_path_style: Option<bool>,
    /// Certificates to trust in place of the system's, in PEM form [default: AWS_CA_BUNDLE, or ca_bundle of the profile]
    #[arg(long, help_heading = BUCKET, hide_short_help = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<PathBuf>,
    /// HTTP proxy, as http://HOST:PORT; NO_PROXY names what is reached without it [default: HTTPS_PROXY, HTTP_PROXY, ALL_PROXY]
    #[arg(long, help_heading = BUCKET, hide_short_help = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// How long a call waits for S3 before it fails [default: 30s]
    #[arg(long, help_heading = BUCKET, hide_short_help = true, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Period>,
    /// Send requests without credentials, to a public bucket; read-only unless --read-only=false
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<bool>,
    /// Let S3 bill the requests to this account
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester_pays: Option<bool>,
    /// Account that the bucket must belong to, 12 digits
    #[arg(long, help_heading = BUCKET, hide_short_help = true, value_name = "ACCOUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_bucket_owner: Option<String>,
    /// Use the endpoint of AWS that has IPv6 too
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dual_stack: Option<bool>,
    /// Use the endpoint of AWS with FIPS 140 cryptography
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fips: Option<bool>,
    /// Use S3 Transfer Acceleration
    #[arg(long, help_heading = BUCKET, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accelerate: Option<bool>,

    /// Where owner, mode, times, symlinks and extended attributes are kept: 'mediafs help attributes' [default: fixed]
    #[arg(long, help_heading = PERMISSIONS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<AttributesMode>,
    /// Owner of every file and directory, by name or number [default: 1000 for root, else the user who mounts]
    #[arg(long, help_heading = PERMISSIONS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<UserId>,
    /// Group of every file and directory, by name or number [default: 1000 for root, else that of the user who mounts]
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<GroupId>,
    /// Permissions of files, octal [default: 0644]
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<FileMode>,
    /// Permissions of directories, octal [default: 0755]
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_mode: Option<FileMode>,
    /// Let other users use the mount; the kernel checks file permissions
    #[arg(long, help_heading = PERMISSIONS, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_other: Option<bool>,
    /// Refuse every change
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// SELinux context of every file; ignored where there is no SELinux
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Let no file of the mount be executed
    #[arg(long, help_heading = PERMISSIONS, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_exec: Option<bool>,

    /// How long to trust what S3 said about a file; 0 asks at each open [default: 60s]
    #[arg(long, help_heading = CACHING, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Period>,
    /// How long a name counts as absent [default: 1s]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_ttl: Option<Period>,
    /// How much longer to use what S3 said while S3 does not answer [default: 24h]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_ttl: Option<Period>,
    /// Unit of reading and caching: a power of two from 4KiB to 16MiB [default: 128KiB]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<ByteSize>,
    /// Memory for cached blocks, reads and uploads together: 'mediafs help limits' [default: 320MiB, or half of what there is]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// The part of --memory for cached blocks and reads in progress [default: what uploads leave]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_cache: Option<ByteSize>,
    /// Directory for a cache of file contents on disk, or none: 'mediafs help coherence' [default: none; of mediafs@NAME below /var/cache/mediafs]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "DIR|none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Limit of the cache on disk; 1 GiB of the disk, or 5 % of a small one, stays free [default: 10GiB]
    #[arg(long, help_heading = CACHING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_size: Option<ByteSize>,

    /// When close and fsync return: 'mediafs help durability' [default: s3]
    #[arg(long, help_heading = WRITING)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityConfig>,
    /// When a create with O_EXCL fails because another client was first [default: lazy]
    #[arg(long, help_heading = WRITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclusive_create: Option<ExclusiveCreateConfig>,
    /// Content types by file extension, as in /etc/mime.types; they come before those built in
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime: Option<PathBuf>,
    /// When an empty directory is an object in the bucket [default: auto]
    #[arg(long, help_heading = WRITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir_markers: Option<DirMarkersConfig>,
    /// Limit of objects in one rename of a directory; beyond it mv copies [default: 100000]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_rename_objects: Option<u64>,
    /// Directory for bytes that are not in S3 yet [default: below /var/lib/mediafs or ~/.local/state/mediafs]
    #[arg(long, help_heading = WRITING, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool: Option<PathBuf>,
    /// Old endpoint of a bucket that moved with all its objects: what waits goes to the new one
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "ENDPOINT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_moved_from: Option<String>,
    /// Limit of the spool; beyond it writes fail with ENOSPC until uploads end [default: the disk]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spool_size: Option<ByteSize>,
    /// Size of the first parts of a long upload, from 5MiB to 512MiB; each is in memory while it is sent [default: 8MiB]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part_size: Option<ByteSize>,
    /// Size of the parts in which a rename copies a longer object, from 5MiB to 5GiB [default: 512MiB]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_part_size: Option<ByteSize>,
    /// Parts that all uploads together hold in memory; one file uses about half of them at most [default: a fifth of --memory]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_concurrency: Option<u16>,

    /// Checksum that uploads carry: 'mediafs help coherence' [default: auto]
    #[arg(long, help_heading = WRITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload_checksum: Option<UploadChecksumConfig>,
    /// Storage class of new objects, such as STANDARD_IA: 'mediafs help objects' [default: the bucket's]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "CLASS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Encryption of what is written, with keys of the store [default: the bucket's]
    #[arg(long, help_heading = WRITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse: Option<SseConfig>,
    /// KMS key of --sse=aws:kms [default: the bucket's]
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "KEY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_kms_key_id: Option<String>,
    /// File with a key of yours, 32 bytes or these in base64, that every object is encrypted with (SSE-C)
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sse_customer_key_file: Option<PathBuf>,
    /// Canned ACL of what is written; many stores refuse any [default: none]
    #[arg(long, help_heading = WRITING, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl: Option<AclConfig>,
    /// Cache-Control of new objects
    #[arg(long, help_heading = WRITING, hide_short_help = true, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,

    /// Source that mount(8) and findmnt(8) show [default: mediafs:BUCKET/PREFIX]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "TEXT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fsname: Option<String>,
    /// Mount over a directory that is not empty, and hide what is in it
    #[arg(long, help_heading = PROCESS, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_non_empty: Option<bool>,
    /// Old directory to show below the bucket and to import, until the bucket has all of it: 'mediafs help overlay'
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlay: Option<PathBuf>,
    /// Whether to give up privileges and core dumps after the start: 'mediafs help privileges' [default: on]
    #[arg(long, help_heading = PROCESS, hide_short_help = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardening: Option<HardeningConfig>,
    /// Stay in the foreground
    #[arg(long, help_heading = PROCESS, hide_short_help = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL", hide_possible_values = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreground: Option<bool>,
    /// What to log: error, warn, info, debug, trace, or a filter such as mediafs::requests=debug [default: info]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// How the log is written: 'mediafs help logs' [default: auto]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
    /// File to log to [default: standard error; in the background mediafs.log beside the spool]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file: Option<PathBuf>,
    /// Size at which the log file is renamed, to FILE.1, FILE.2 and so on; 0 leaves that to logrotate [default: 10MiB]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "SIZE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file_size: Option<ByteSize>,
    /// Log files that are kept, with the one that is written [default: 5]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_file_count: Option<u16>,
    /// Threads that take requests from the kernel [default: 4]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuse_threads: Option<u16>,
    /// How long a stop waits for open files and uploads [default: 30s]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Period>,
    /// Socket that 'mediafs status' asks, or none [default: /run/mediafs/NAME.sock; of a user in XDG_RUNTIME_DIR]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "PATH|none")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_socket: Option<PathBuf>,
    /// Address of metrics and a status page, as 127.0.0.1:9750, or a port of loopback: 'mediafs help metrics' [default: none]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsAddress>,
    /// Collector of OpenTelemetry that spans and metrics are exported to, as http://127.0.0.1:4318: 'mediafs help metrics' [default: OTEL_EXPORTER_OTLP_ENDPOINT, or none]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Ratio of calls whose spans are exported, from 0 to 1 [default: as OTEL_TRACES_SAMPLER says, or 0.01]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "RATIO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_sample_ratio: Option<Ratio>,
    /// Replace a background daemon whose mount does not answer for this long; 0: never; a service has WatchdogSec= [default: 60s]
    #[arg(long, help_heading = PROCESS, hide_short_help = true, value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Period>,
}

impl Options {
    /// The settings that are given, by their name.
    pub fn by_name(&self) -> BTreeMap<String, Value> {
        let written = serde_json::to_value(self).ok();
        let written = written.and_then(|written| match written {
            Value::Object(settings) => Some(settings),
            _ => None,
        });
        written.into_iter().flatten().collect()
    }

    /// Every setting that is a path, with its name.
    pub(super) fn paths_mut(&mut self) -> [(&'static str, &mut Option<PathBuf>); 10] {
        [
            ("cache", &mut self.cache),
            ("control-socket", &mut self.control_socket),
            ("mountpoint", &mut self.mountpoint),
            ("credentials-file", &mut self.credentials_file),
            ("ca-bundle", &mut self.ca_bundle),
            ("sse-customer-key-file", &mut self.sse_customer_key_file),
            ("spool", &mut self.spool),
            ("log-file", &mut self.log_file),
            ("mime", &mut self.mime),
            ("overlay", &mut self.overlay),
        ]
    }
}

/// One file, a list of them, or `true` for those that authentik has anyhow.
fn files<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<PathBuf>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a file, a list of files, or true")]
    enum Files {
        Standard(bool),
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match Files::deserialize(from)? {
        Files::Standard(false) => None,
        Files::Standard(true) => Some(Vec::new()),
        Files::One(file) => Some(vec![file]),
        Files::Many(files) => Some(files),
    })
}
