//! Configuration: default < TOML file < `MEDIAFS_*` environment < flag.
//!
//! Owns: the settings' names, defaults and checks. A value remembers which
//! layer it came from, and errors name it. No secret is ever a setting:
//! credentials come from the AWS chain, or from authentik's own settings.

mod authentik;
mod bucket;
mod choices;
mod control_socket;
mod credentials;
mod disk_cache;
mod environment;
mod explain;
mod limits;
mod log_file;
mod memory;
mod metrics_address;
mod named;
mod options;
mod otlp;
mod places;
mod ratio;
mod requests;
mod service;
mod show;
mod source;
mod target;
mod units;
mod variables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use authentik::AuthentikSource;
pub use bucket::check_new_bucket;
pub use choices::{
    AclConfig, AttributesMode, DirMarkersConfig, DurabilityConfig, ExclusiveCreateConfig,
    HardeningConfig, SseConfig, UploadChecksumConfig, UsageConfig,
};
pub use control_socket::ControlSocketConfig;
pub use credentials::{CredentialsOrigin, credentials_origin};
pub use disk_cache::DiskCacheConfig;
pub use explain::nearest;
pub use log_file::LogFileConfig;
pub use memory::MemoryConfig;
pub use metrics_address::MetricsAddress;
pub use named::{NamedMount, named_mounts};
pub use options::Options;
pub use otlp::OtlpConfig;
pub use places::{CONFIG_DIR, config_files, in_words, is_name, own_config_dir};
pub use requests::RequestConfig;
pub use show::{Setting, SettingOrigin, shown as shown_setting};
pub use source::{ConfigSource, settings_of_file};
pub use target::{Target, state_base};
pub use units::{ByteSize, FileMode, Period, Secret};

use crate::store::{Endpoint, ProxyUrl};
use crate::telemetry::check_filter;

const ENV_PREFIX: &str = "MEDIAFS_";
/// How the name of a layer that authentik's settings make begins.
const AUTHENTIK_LAYER: &str = "authentik: ";
/// In the place of a path: there is to be none.
const NO_PATH: &str = "none";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// A checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Of the file that it is read from, in a directory of named mounts.
    pub name: Option<String>,
    pub bucket: String,
    /// Empty, or ends in `/`.
    pub prefix: String,
    /// Absolute.
    pub mountpoint: PathBuf,
    pub s3: S3Config,
    pub attributes: AttributesConfig,
    pub allow_other: bool,
    pub read_only: bool,
    pub no_exec: bool,
    /// Of SELinux.
    pub context: Option<String>,
    /// Shown as the mount's source.
    pub fsname: String,
    pub allow_non_empty: bool,
    /// The old directory below the bucket.
    pub overlay: Option<PathBuf>,
    pub ttl: Duration,
    pub negative_ttl: Duration,
    pub stale_ttl: Duration,
    /// Content types of the operator.
    pub mime: Option<PathBuf>,
    pub dir_markers: DirMarkersConfig,
    pub max_rename_objects: u64,
    pub exclusive_create: ExclusiveCreateConfig,
    pub block_size_bytes: u64,
    pub memory: MemoryConfig,
    pub disk_cache: Option<DiskCacheConfig>,
    pub spool_dir: PathBuf,
    /// Holds what can be had again from S3.
    pub cache_dir: PathBuf,
    /// Where the spool's bucket was before it moved.
    pub spool_moved_from: Option<Endpoint>,
    pub spool_limit_bytes: u64,
    pub durability: DurabilityConfig,
    pub part_size_bytes: u64,
    pub copy_part_size_bytes: u64,
    pub hardening: HardeningConfig,
    pub foreground: bool,
    pub log: String,
    pub log_file: LogFileConfig,
    pub fuse_threads: usize,
    /// What was set above its limit, in words.
    pub capped: Vec<String>,
    /// What else the operator should know, a line each.
    pub notes: Vec<String>,
    pub drain_timeout: Duration,
    /// How long a daemon in the background may be silent; zero: for ever.
    pub watchdog: Duration,
    pub control_socket: ControlSocketConfig,
    /// Where it is read how the mount is, if anywhere.
    pub metrics: Option<MetricsAddress>,
    /// Who gets spans and metrics, if anybody.
    pub otlp: Option<OtlpConfig>,
    /// The settings as they were written, layers merged.
    pub given: Options,
}

#[derive(Debug, Clone)]
pub struct S3Config {
    pub endpoint_url: Option<String>,
    pub region: Option<String>,
    /// Not that of authentik's settings, which may change.
    pub profile: Option<String>,
    pub credentials_file: Option<PathBuf>,
    /// Has the credentials, if it has any.
    pub authentik: Option<AuthentikSource>,
    pub force_path_style: bool,
    pub ca_bundle: Option<PathBuf>,
    pub proxy: Option<ProxyUrl>,
    pub request_timeout: Duration,
    pub upload_checksum: UploadChecksumConfig,
    pub requests: RequestConfig,
}

#[derive(Debug, Clone, Copy)]
pub struct AttributesConfig {
    pub mode: AttributesMode,
    pub uid: u32,
    pub gid: u32,
    pub file_mode: u16,
    pub dir_mode: u16,
}

impl Config {
    /// Directory of this mount's own files: the spool's parent.
    pub fn state_dir(&self) -> &Path {
        self.spool_dir.parent().unwrap_or(&self.spool_dir)
    }

    /// Names of the settings that another configuration has otherwise.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let (ours, theirs) = (self.given.by_name(), other.given.by_name());
        let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        // Authentik's is read again with its keys.
        let is_own_profile = self.s3.profile.is_some() || other.s3.profile.is_some();
        let counts = |name: &str| name != "profile" || is_own_profile;
        let differ = |name: &&String| counts(name) && ours.get(*name) != theirs.get(*name);
        names.into_iter().filter(differ).cloned().collect()
    }
}

/// A setting that is wrong, and why.
type Wrong = (&'static str, String);

/// Every path of the options is absolute.
fn resolve(mut options: Options) -> Result<Config, Wrong> {
    options.bucket = options.bucket.map(target::canonical_bucket);
    let given = options.clone();
    let s3 = S3Config::resolve(&options)?;
    let attributes = AttributesConfig::resolve(&options);
    let log_file = LogFileConfig::resolve(&options)?;
    let disk_cache = DiskCacheConfig::resolve(&options)?;
    positive("upload-concurrency", options.upload_concurrency, 1)?;
    let part_size_bytes = limits::part_size(options.part_size)?;
    let block_size_bytes = limits::block_size(options.block_size)?;
    let sizes = (block_size_bytes, part_size_bytes);
    let memory = MemoryConfig::resolve(&options, sizes, limits::UPLOAD_CONCURRENCY_LIMIT)?;
    let (bucket, prefix, mountpoint) = target::place(&options)?;
    let default_spool = || target::default_spool(&bucket, &prefix, &mountpoint);
    let spool_dir = options.spool.map_or_else(default_spool, Ok);
    let spool_dir = spool_dir.map_err(|why| ("spool", why))?;
    Ok(Config {
        s3,
        attributes,
        allow_other: options.allow_other.unwrap_or(false),
        // Who may write without credentials says so.
        read_only: options
            .read_only
            .unwrap_or(options.anonymous.unwrap_or(false)),
        no_exec: options.no_exec.unwrap_or(false),
        context: options.context,
        fsname: options
            .fsname
            .unwrap_or_else(|| format!("mediafs:{bucket}/{prefix}")),
        allow_non_empty: options.allow_non_empty.unwrap_or(false),
        overlay: options.overlay,
        ttl: period(options.ttl, 60),
        negative_ttl: period(options.negative_ttl, 1),
        stale_ttl: period(options.stale_ttl, 24 * 3600),
        mime: options.mime,
        dir_markers: options.dir_markers.unwrap_or(DirMarkersConfig::Auto),
        exclusive_create: options
            .exclusive_create
            .unwrap_or(ExclusiveCreateConfig::Lazy),
        max_rename_objects: options.max_rename_objects.unwrap_or(100_000),
        block_size_bytes,
        memory,
        disk_cache,
        spool_moved_from: former_endpoint(options.spool_moved_from.as_deref())?,
        spool_limit_bytes: limits::spool_size(options.spool_size)?,
        durability: options.durability.unwrap_or(DurabilityConfig::S3),
        part_size_bytes,
        copy_part_size_bytes: limits::copy_part_size(options.copy_part_size)?,
        hardening: options.hardening.unwrap_or(HardeningConfig::On),
        foreground: options.foreground.unwrap_or(false),
        log: log_filter(options.log)?,
        log_file,
        fuse_threads: positive("fuse-threads", options.fuse_threads, 4)?
            .min(limits::FUSE_THREADS_LIMIT),
        drain_timeout: period(options.drain_timeout, 30),
        watchdog: period(options.watchdog, 60),
        control_socket: ControlSocketConfig::resolve(options.control_socket),
        metrics: options.metrics,
        otlp: OtlpConfig::resolve(&given)?,
        name: None,
        cache_dir: service::cache_dir().unwrap_or_else(|| spool_dir.clone()),
        bucket,
        prefix,
        mountpoint,
        spool_dir,
        capped: limits::capped(&given),
        notes: [metrics_address::notes(options.metrics), otlp::notes(&given)].concat(),
        given,
    })
}

impl S3Config {
    fn resolve(options: &Options) -> Result<Self, Wrong> {
        if let Some(url) = &options.endpoint_url {
            Endpoint::check_url(url).map_err(|why| ("endpoint-url", why.to_owned()))?;
        }
        let named = options.credentials_file.clone();
        let proxy = options.proxy.as_ref().map(|url| ProxyUrl::parse(&url.0));
        let proxy = proxy.transpose().map_err(|why| ("proxy", why.to_owned()))?;
        Ok(Self {
            endpoint_url: options.endpoint_url.clone(),
            region: options.region.clone(),
            profile: options.profile.clone(),
            credentials_file: named.or_else(service::credentials_file),
            authentik: None,
            force_path_style: options.force_path_style.unwrap_or(false),
            ca_bundle: options.ca_bundle.clone(),
            proxy,
            upload_checksum: options
                .upload_checksum
                .unwrap_or(UploadChecksumConfig::Auto),
            requests: RequestConfig::resolve(options)?,
            request_timeout: at_least_a_second("request-timeout", options.request_timeout)?,
        })
    }
}

impl AttributesConfig {
    fn resolve(options: &Options) -> Self {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        Self {
            mode: options.attributes.unwrap_or(AttributesMode::Fixed),
            uid: options.uid.map_or_else(|| default_owner(own.0), |it| it.0),
            gid: options.gid.map_or_else(|| default_owner(own.1), |it| it.0),
            file_mode: options.file_mode.map_or(0o644, |mode| mode.0),
            dir_mode: options.dir_mode.map_or(0o755, |mode| mode.0),
        }
    }
}

/// Of files mounted by root: the first ordinary user, as which applications in containers run.
/// Another user's own mount belongs to that user.
fn default_owner(own_id: u32) -> u32 {
    const FIRST_USER: u32 = 1000;
    if rustix::process::geteuid().is_root() {
        FIRST_USER
    } else {
        own_id
    }
}

/// Errors: a URL that none could be.
fn former_endpoint(given: Option<&str>) -> Result<Option<Endpoint>, Wrong> {
    if let Some(url) = given.filter(|it| it.contains("://")) {
        Endpoint::check_url(url).map_err(|why| ("spool-moved-from", why.to_owned()))?;
    }
    Ok(given.map(Endpoint::parse))
}

/// Errors: one that cannot be parsed.
fn log_filter(given: Option<String>) -> Result<String, Wrong> {
    let filter = given.unwrap_or_else(|| "info".to_owned());
    check_filter(&filter).map_err(|why| ("log", why.to_string()))?;
    Ok(filter)
}

fn period(given: Option<Period>, default_seconds: u64) -> Duration {
    given.map_or(Duration::from_secs(default_seconds), |period| {
        period.0.min(limits::PERIOD_LIMIT)
    })
}

fn at_least_a_second(key: &'static str, given: Option<Period>) -> Result<Duration, Wrong> {
    let period = period(given, 30);
    if period < Duration::from_secs(1) {
        Err((key, "must be at least 1s".to_owned()))
    } else {
        Ok(period)
    }
}

fn positive(key: &'static str, count: Option<u16>, default: usize) -> Result<usize, Wrong> {
    match count {
        Some(0) => Err((key, "must be at least 1".to_owned())),
        count => Ok(count.map_or(default, usize::from)),
    }
}

#[cfg(test)]
mod tests;
