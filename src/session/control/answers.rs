//! What is answered at the control socket, as JSON. The names are part of the
//! interface: `mediafs help status` lists them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::overlay::ImportState;

/// Whether a mount serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthState {
    Alive,
    /// It serves what it can: S3 does not, or refuses something.
    Degraded,
    /// The kernel gets its answers, and nobody else can ask it: no daemon says this.
    Unknown,
    /// It does not answer.
    Stuck,
}

impl HealthState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Stuck => "stuck",
        }
    }
}

/// `GET /health`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Health {
    pub name: String,
    pub mountpoint: String,
    pub pid: u32,
    pub state: HealthState,
    /// Why it is not alive.
    pub reasons: Vec<String>,
}

/// Of every mount of a user: an entry of `GET /api/mounts`.
#[derive(Debug, Serialize, Deserialize)]
pub struct MountStatus {
    pub socket: Option<PathBuf>,
    pub status: Option<Status>,
    /// Why there is no status.
    pub error: Option<String>,
}

impl MountStatus {
    pub fn new(socket: Option<PathBuf>, answer: Result<Status, String>) -> Self {
        let error = answer.as_ref().err().cloned();
        Self {
            socket,
            status: answer.ok(),
            error,
        }
    }
}

/// `GET /status`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    #[serde(flatten)]
    pub health: Health,
    pub version: String,
    pub bucket: String,
    pub prefix: String,
    /// In words; no credentials.
    pub endpoint: String,
    pub durability: String,
    pub attributes: String,
    /// Of systemd, where it is one's service.
    pub unit: Option<String>,
    /// None of an older daemon.
    #[serde(default)]
    pub fuse: Option<FuseStatus>,
    /// Since this daemon was started.
    pub uptime_seconds: u64,
    pub mounted_unix_seconds: u64,
    /// Daemons that have resumed the session since.
    #[serde(default)]
    pub takeovers: u64,
    pub s3: S3Status,
    pub uploads: Uploads,
    pub lost_found: LostFound,
    pub deletes: Deletes,
    /// Of an old directory below the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayStatus>,
    /// Keys that cannot be shown as files, in directories that were listed.
    pub hidden_keys: usize,
    /// Files and directories that the kernel or an operation refers to.
    #[serde(default)]
    pub known_names: usize,
    pub spool: SpoolStatus,
    pub cache: CacheStatus,
    #[serde(default)]
    pub memory: MemoryStatus,
    #[serde(default)]
    pub descriptors: Descriptors,
    #[serde(default)]
    pub calls: Calls,
    /// Of the buckets of `LatencyStatus`; what takes longer is in one beyond.
    #[serde(default)]
    pub latency_bounds_seconds: Vec<f64>,
    pub requests: Requests,
    pub cost: Cost,
    /// Of spans and metrics, where they are exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpStatus>,
    /// The last warnings and errors, oldest first.
    pub recent: Vec<LogLine>,
}

/// What was agreed with the kernel when the mount began.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FuseStatus {
    /// Of FUSE, as in `7.40`.
    pub protocol: String,
    pub max_write_bytes: u64,
    pub max_readahead_bytes: u64,
    pub max_background: u16,
    /// In use.
    pub features: Vec<String>,
    /// That help, and that this kernel does not offer.
    pub lacking: Vec<String>,
}

impl fmt::Display for FuseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "FUSE {}, writes of {} KiB, read-ahead of {} KiB, {} requests in the background; {}",
            self.protocol,
            self.max_write_bytes >> 10,
            self.max_readahead_bytes >> 10,
            self.max_background,
            self.features.join(", ")
        )?;
        match self.lacking.as_slice() {
            [] => Ok(()),
            lacking => write!(f, "; the kernel has no {}", lacking.join(", ")),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct S3Status {
    pub serves: bool,
    /// `unreachable`, `credentials` or `clock`.
    pub cause: Option<String>,
    pub since_unix_seconds: Option<u64>,
    pub last_failure: Option<Failure>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failure {
    pub at_unix_seconds: u64,
    pub error: String,
}

/// Files that S3 does not have as they are here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uploads {
    /// Being written.
    pub dirty: Amount,
    pub queued: Amount,
    pub uploading: Amount,
    /// Failed for good, and still open.
    pub failed: Amount,
    pub oldest_age_seconds: Option<u64>,
    /// The first of them.
    pub files: Vec<Unsent>,
}

/// In whatever state they are.
impl From<&Uploads> for Amount {
    fn from(of: &Uploads) -> Self {
        let all = [of.dirty, of.queued, of.uploading, of.failed];
        Self {
            files: all.iter().map(|it| it.files).sum(),
            bytes: all.iter().map(|it| it.bytes).sum(),
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    pub files: usize,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unsent {
    /// Below the mountpoint.
    pub path: String,
    /// `dirty`, `queued`, `uploading` or `failed`.
    pub state: String,
    pub bytes: u64,
    pub age_seconds: Option<u64>,
    pub error: Option<String>,
}

/// Files that could not be uploaded: `mediafs spool` shows and handles them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LostFound {
    pub files: usize,
    /// The last of them.
    pub last: Vec<Lost>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lost {
    pub id: String,
    pub key: Option<String>,
    pub bytes: u64,
    pub reason: String,
    pub at_unix_seconds: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deletes {
    pub waiting: usize,
    /// The last attempt failed.
    pub failing: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SpoolStatus {
    pub dir: String,
    pub used_bytes: u64,
    /// None where the disk alone is the limit.
    pub limit_bytes: Option<u64>,
    /// Of its disk.
    pub free_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CacheStatus {
    pub used_bytes: u64,
    pub limit_bytes: u64,
    /// Blocks that were there when they were read, since the daemon was started.
    #[serde(default)]
    pub hits: u64,
    #[serde(default)]
    pub misses: u64,
    /// Small files that were fetched beside others, and those of them that were read then.
    #[serde(default)]
    pub neighbours_fetched: u64,
    #[serde(default)]
    pub neighbours_used: u64,
    /// That left the cache in memory before anybody had read them.
    #[serde(default)]
    pub unread_bytes: u64,
    /// Where there is a cache on disk.
    #[serde(default)]
    pub disk: Option<DiskCacheStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Of the daemon's process, with its program and what the system keeps for it.
    pub resident_bytes: u64,
    /// For blocks, reads and uploads together.
    pub limit_bytes: u64,
    /// Of it, for cached blocks and reads in progress.
    pub reads_bytes: u64,
}

/// Of the daemon's process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Descriptors {
    pub open: usize,
    pub limit: u64,
}

/// Counts since the daemon was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OtlpStatus {
    pub spans_exported: u64,
    pub spans_dropped: u64,
    /// Requests that the collector did not take.
    pub failed: u64,
}

/// The kernel's requests, since the daemon was started.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Calls {
    /// By operation.
    pub latency: BTreeMap<String, LatencyStatus>,
    /// By applications.
    pub read_bytes: u64,
    pub written_bytes: u64,
}

/// How long things took.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyStatus {
    pub count: u64,
    /// All together.
    pub seconds: f64,
    /// Counts up to each bound, without those below it.
    pub buckets: Vec<u64>,
}

/// Counts are of blocks, since the daemon was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DiskCacheStatus {
    pub dir: String,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub blocks: usize,
    pub hits: u64,
    pub misses: u64,
    /// That were there and not as they were written.
    pub damaged: u64,
    /// That were not stored: the disk was too slow or too full.
    pub dropped: u64,
    /// Why nothing is read or stored.
    pub off: Option<String>,
    /// Why nothing more is stored.
    pub full: Option<String>,
}

/// An old directory below the bucket, and its import.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverlayStatus {
    pub dir: String,
    #[serde(flatten)]
    pub import: ImportState,
    pub eta_seconds: Option<u64>,
}

/// Since the daemon was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Requests {
    pub by_kind: BTreeMap<String, u64>,
    /// Of those that are over.
    #[serde(default)]
    pub latency: BTreeMap<String, LatencyStatus>,
    pub failed: u64,
    /// The same by reason.
    #[serde(default)]
    pub failed_by_kind: BTreeMap<String, u64>,
    /// Sent again, since an earlier attempt had failed.
    #[serde(default)]
    pub retried: u64,
    pub sent_bytes: u64,
    /// Of the last seconds.
    #[serde(default)]
    pub sent_bytes_per_second: u64,
    pub received_bytes: u64,
}

impl Requests {
    /// Those that failed for another reason than that there is no such object.
    pub fn failures(&self) -> u64 {
        let absent = self.failed_by_kind.get("NotFound").copied().unwrap_or(0);
        self.failed.saturating_sub(absent)
    }
}

/// What the requests would cost at AWS, since the daemon was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cost {
    /// All together.
    #[serde(default)]
    pub requests_usd: f64,
    /// At the pace since then.
    pub requests_usd_per_day: f64,
    /// Prices and their source.
    pub prices: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    pub at_unix_seconds: u64,
    /// `ERROR` or `WARN`.
    pub level: String,
    pub text: String,
}
