//! What is told of a running mount.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};

use super::answers::{
    Amount, CacheStatus, Calls, Deletes, Descriptors, DiskCacheStatus, Failure, FuseStatus, Health,
    HealthState, LatencyStatus, LogLine, Lost, LostFound, MemoryStatus, OtlpStatus, OverlayStatus,
    Requests, S3Status, SpoolStatus, Status, Unsent, Uploads,
};
use super::{Served, cost};
use crate::config::{AttributesMode, DurabilityConfig, MemoryConfig};
use crate::fuse::Agreement;
use crate::latency::{BOUNDS, Latency};
use crate::ops::{self, UnsentState};
use crate::overlay::Overlay;
use crate::read_path::DiskUse;
use crate::session::otlp::ExportCounters;
use crate::store::OutageCause;
use crate::telemetry::recent_lines;
use crate::vocabulary::ROOT;
use crate::write_path::{Entry, SpoolView};

/// Files of lost+found that are named.
const LOST_NAMED_LIMIT: usize = 20;

impl Served {
    /// Everything that is known. Reads the spool's directory.
    pub fn status(&self, health: Health) -> Status {
        let config = &self.running.mounted;
        let ops = &self.running.ops;
        let controls = ops.controls();
        let uptime = self.started_at.elapsed();
        let (cached, neighbours) = (controls.memory_tier(), controls.neighbour_use());
        Status {
            health,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            endpoint: self.running.s3.endpoint().to_string(),
            durability: match config.durability {
                DurabilityConfig::S3 => "s3".to_owned(),
                DurabilityConfig::Disk => "disk".to_owned(),
            },
            attributes: match config.attributes.mode {
                AttributesMode::Fixed => "fixed".to_owned(),
                AttributesMode::Stored => "stored".to_owned(),
            },
            unit: self.unit.clone(),
            fuse: self.running.agreed.as_ref().map(of_kernel),
            uptime_seconds: uptime.as_secs(),
            mounted_unix_seconds: unix_seconds(controls.mounted_at()),
            takeovers: self.running.takeovers,
            s3: self.s3(),
            uploads: uploads(controls.unsent(ROOT)),
            lost_found: lost_found(&config.spool_dir),
            deletes: Deletes {
                waiting: controls.waiting().deletes,
                failing: controls.deletes_fail(),
            },
            overlay: self.running.overlay.as_deref().map(of_overlay),
            hidden_keys: ops.namespace().hidden().in_all(),
            known_names: ops.namespace().table().count(),
            spool: self.spool(),
            cache: CacheStatus {
                used_bytes: cached.used_bytes,
                limit_bytes: cached.limit_bytes,
                hits: cached.hits,
                misses: cached.misses,
                neighbours_fetched: neighbours.fetched,
                neighbours_used: neighbours.used,
                unread_bytes: cached.unread_bytes,
                disk: controls.disk_tier().map(of_disk),
            },
            memory: memory(&config.memory),
            descriptors: descriptors(),
            calls: self.calls(),
            latency_bounds_seconds: BOUNDS.iter().map(Duration::as_secs_f64).collect(),
            requests: self.requests(),
            cost: cost::of(self.counters.by_kind(), uptime),
            otlp: self.running.otlp.counters().map(of_export),
            recent: recent(),
        }
    }

    fn s3(&self) -> S3Status {
        let health = &self.running.health;
        let outage = health.outage();
        let cause = outage.map(|outage| match outage.cause {
            OutageCause::Unreachable => "unreachable",
            OutageCause::Credentials => "credentials",
            OutageCause::ClockSkew => "clock",
        });
        S3Status {
            serves: outage.is_none(),
            cause: cause.map(str::to_owned),
            since_unix_seconds: outage.map(|outage| unix_seconds(outage.since)),
            last_failure: health.last_failure().map(|failure| Failure {
                at_unix_seconds: unix_seconds(failure.at),
                error: failure.text,
            }),
        }
    }

    fn spool(&self) -> SpoolStatus {
        let dir = &self.running.mounted.spool_dir;
        let disk = rustix::fs::statvfs(dir).ok();
        let controls = self.running.ops.controls();
        SpoolStatus {
            dir: dir.display().to_string(),
            used_bytes: controls.waiting().staged_bytes,
            limit_bytes: controls.spool_limit_bytes(),
            free_bytes: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }

    fn calls(&self) -> Calls {
        let calls = &self.running.adapter.calls;
        let latencies = calls.latencies();
        Calls {
            latency: latencies
                .map(|(name, taken)| (name.to_owned(), latency(taken)))
                .collect(),
            read_bytes: calls.read_bytes(),
            written_bytes: calls.written_bytes(),
        }
    }

    fn requests(&self) -> Requests {
        let (by_kind, latencies) = (self.counters.by_kind(), self.counters.latencies());
        let failed = self.counters.failed_by_kind().into_iter();
        Requests {
            by_kind: by_kind
                .map(|(op, count)| (op.name().to_owned(), count))
                .collect(),
            latency: latencies
                .map(|(op, taken)| (op.name().to_owned(), latency(taken)))
                .collect(),
            failed: self.counters.failed(),
            failed_by_kind: failed
                .map(|(kind, count)| (format!("{kind:?}"), count))
                .collect(),
            retried: self.counters.retried(),
            sent_bytes: self.counters.sent_bytes(),
            sent_bytes_per_second: self.counters.sent_bytes_per_second(),
            received_bytes: self.counters.received_bytes(),
        }
    }

    /// Why the mount does not do all that it should, though it answers.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        found.extend(self.running.health.outage().map(|it| it.to_string()));
        if let Some(count) = self.running.health.failed_changes() {
            found.push(format!(
                "S3 fails: the last {count} changes in a row failed"
            ));
        }
        if self.running.ops.controls().deletes_fail() {
            found.push("the last delete failed".to_owned());
        }
        found
    }

    pub fn health(&self, state: HealthState, reasons: Vec<String>) -> Health {
        Health {
            name: self.name.clone(),
            mountpoint: self.running.notifier.mountpoint().display().to_string(),
            pid: std::process::id(),
            state,
            reasons,
        }
    }
}

fn of_export(counters: &ExportCounters) -> OtlpStatus {
    OtlpStatus {
        spans_exported: counters.spans_exported(),
        spans_dropped: counters.spans_dropped(),
        failed: counters.failed(),
    }
}

fn of_overlay(overlay: &Overlay) -> OverlayStatus {
    let import = overlay.progress().now();
    OverlayStatus {
        dir: overlay.old_directory().path().display().to_string(),
        eta_seconds: import.eta_seconds(),
        import,
    }
}

fn memory(budget: &MemoryConfig) -> MemoryStatus {
    // Source: proc_pid_status(5).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().strip_suffix(" kB"));
    let resident_kib: u64 = resident.and_then(|kib| kib.parse().ok()).unwrap_or(0);
    MemoryStatus {
        resident_bytes: resident_kib.saturating_mul(1024),
        limit_bytes: budget.limit_bytes,
        reads_bytes: budget.cache_bytes,
    }
}

fn of_kernel(agreed: &Agreement) -> FuseStatus {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    FuseStatus {
        protocol: format!("{}.{}", agreed.major, agreed.minor),
        max_write_bytes: agreed.max_write_bytes.into(),
        max_readahead_bytes: agreed.max_readahead_bytes.into(),
        max_background: agreed.max_background,
        features: owned(&agreed.agreed),
        lacking: owned(&agreed.lacking),
    }
}

fn descriptors() -> Descriptors {
    // One is that of the directory itself.
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |open| open.count());
    let limit = getrlimit(Resource::Nofile).current;
    Descriptors {
        open: open.saturating_sub(1),
        limit: limit.unwrap_or(u64::MAX),
    }
}

fn latency(taken: Latency) -> LatencyStatus {
    LatencyStatus {
        count: taken.buckets.iter().sum(),
        seconds: taken.total.as_secs_f64(),
        buckets: taken.buckets,
    }
}

fn of_disk(disk: DiskUse) -> DiskCacheStatus {
    DiskCacheStatus {
        dir: disk.dir.display().to_string(),
        used_bytes: disk.used_bytes,
        limit_bytes: disk.limit_bytes,
        blocks: disk.blocks,
        hits: disk.hits,
        misses: disk.misses,
        damaged: disk.damaged,
        dropped: disk.dropped,
        off: disk.off,
        full: disk.full,
    }
}

pub fn uploads(unsent: ops::Unsent) -> Uploads {
    let now = SystemTime::now();
    let age = |since: Option<SystemTime>| {
        let age = now.duration_since(since?).unwrap_or_default();
        Some(age.as_secs())
    };
    let amount = |it: ops::Amount| Amount {
        files: it.files,
        bytes: it.bytes,
    };
    let (dirty, queued) = (amount(unsent.writing), amount(unsent.queued));
    let (uploading, failed) = (amount(unsent.uploading), amount(unsent.failed));
    let files: Vec<Unsent> = unsent
        .named
        .into_iter()
        .map(|file| {
            let (state, error) = match file.state {
                UnsentState::Writing => ("dirty", None),
                UnsentState::Queued => ("queued", None),
                UnsentState::Uploading => ("uploading", None),
                UnsentState::Failed(error) => ("failed", Some(error)),
            };
            Unsent {
                path: file.path,
                state: state.to_owned(),
                bytes: file.size_bytes,
                age_seconds: age(file.since),
                error,
            }
        })
        .collect();
    Uploads {
        dirty,
        queued,
        uploading,
        failed,
        oldest_age_seconds: files.iter().filter_map(|file| file.age_seconds).max(),
        files,
    }
}

fn lost_found(spool: &Path) -> LostFound {
    let found = SpoolView::at(spool).and_then(|view| view.last_kept(LOST_NAMED_LIMIT));
    let (files, last) = found.unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell what is in lost+found");
        (0, Vec::new())
    });
    LostFound {
        files,
        last: last.into_iter().map(lost).collect(),
    }
}

pub fn lost(entry: Entry) -> Lost {
    Lost {
        id: entry.id,
        key: entry.key.map(|key| key.as_str().to_owned()),
        bytes: entry.size_bytes,
        reason: entry.reason.unwrap_or_default(),
        at_unix_seconds: entry.since_unix_seconds,
    }
}

fn recent() -> Vec<LogLine> {
    let lines = recent_lines().into_iter();
    lines
        .map(|line| LogLine {
            at_unix_seconds: unix_seconds(line.at),
            level: line.level.to_owned(),
            text: line.text,
        })
        .collect()
}

pub fn unix_seconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH);
    since.map_or(0, |since: Duration| since.as_secs())
}
