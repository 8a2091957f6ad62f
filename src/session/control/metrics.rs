//! The metrics of a mount: the name, unit, labels and help of each, and its value from
//! the status. Nothing is counted here: `mediafs status` tells the same numbers.
//!
//! Names: prometheus.io/docs/practices/naming. `mediafs help metrics` lists them.

use std::fmt;

use super::answers::{Amount, HealthState, Status};
use super::metric_sink::Kind::{Counter, Gauge};
use super::metric_sink::Metrics;

/// Writes every metric.
pub fn write(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    mount(to, status)?;
    unsent(to, status)?;
    spool(to, status)?;
    cache(to, status)?;
    calls(to, status)?;
    requests(to, status)?;
    export(to, status)?;
    process(to, status)
}

fn mount(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let info = [
        ("name", status.health.name.as_str()),
        ("mountpoint", status.health.mountpoint.as_str()),
        ("bucket", status.bucket.as_str()),
        ("prefix", status.prefix.as_str()),
        ("version", status.version.as_str()),
    ];
    to.info(
        "mediafs_mount",
        "What is mounted where, by which mediafs",
        &info,
    )?;
    let states = [
        HealthState::Alive,
        HealthState::Degraded,
        HealthState::Stuck,
    ];
    let states = states.map(|it| (it.as_str(), u64::from(it == status.health.state)));
    let help = "1 for the state that the mount is in";
    to.numbers(Gauge, "mediafs_state", help, "state", states)?;
    let help = "Whether S3 serves the mount, as its last requests tell";
    to.gauge("mediafs_s3_up", help, u64::from(status.s3.serves))?;
    let help = "Since when S3 does not serve, in seconds since 1970; 0 while it serves";
    let since = status.s3.since_unix_seconds.unwrap_or(0);
    to.gauge("mediafs_s3_outage_start_timestamp_seconds", help, since)?;
    let help = "When the kernel's session began, in seconds since 1970";
    let mounted = status.mounted_unix_seconds;
    to.gauge("mediafs_mounted_timestamp_seconds", help, mounted)?;
    let help = "Uptime of this daemon";
    to.gauge("mediafs_uptime_seconds", help, status.uptime_seconds)?;
    let help = "Daemons that have resumed the session of a predecessor";
    to.counter("mediafs_takeovers", help, status.takeovers)?;
    let help = "Keys that cannot be shown as files, in directories that were listed";
    to.gauge("mediafs_hidden_keys", help, status.hidden_keys as u64)?;
    let help = "Files and directories that the kernel or an operation refers to";
    to.gauge("mediafs_known_names", help, status.known_names as u64)
}

fn unsent(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let uploads = &status.uploads;
    let each = |of: fn(&Amount) -> u64| {
        [
            ("dirty", of(&uploads.dirty)),
            ("queued", of(&uploads.queued)),
            ("uploading", of(&uploads.uploading)),
            ("failed", of(&uploads.failed)),
        ]
    };
    let help = "Files that S3 does not have as they are here";
    let files = each(|amount| amount.files as u64);
    to.numbers(Gauge, "mediafs_unsent_files", help, "state", files)?;
    let help = "Bytes of files that S3 does not have as they are here";
    let bytes = each(|amount| amount.bytes);
    to.numbers(Gauge, "mediafs_unsent_bytes", help, "state", bytes)?;
    let help = "Age of the oldest unsent file; 0 if there is none";
    let age = uploads.oldest_age_seconds.unwrap_or(0);
    to.gauge("mediafs_unsent_oldest_age_seconds", help, age)?;
    let help = "Files that could not be uploaded, in lost+found of the spool";
    to.gauge(
        "mediafs_lost_found_files",
        help,
        status.lost_found.files as u64,
    )?;
    let help = "Objects that are removed here and not yet in S3";
    to.gauge(
        "mediafs_deletes_waiting",
        help,
        status.deletes.waiting as u64,
    )?;
    let help = "1 if the last delete failed";
    let failing = u64::from(status.deletes.failing);
    to.gauge("mediafs_deletes_failing", help, failing)
}

fn spool(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let spool = &status.spool;
    let help = "Bytes in the spool";
    to.gauge("mediafs_spool_used_bytes", help, spool.used_bytes)?;
    if let Some(limit) = spool.limit_bytes {
        let help = "Limit of bytes in the spool; absent if only the disk limits it";
        to.gauge("mediafs_spool_limit_bytes", help, limit)?;
    }
    if let Some(free) = spool.free_bytes {
        let help = "Free bytes of the spool's disk";
        to.gauge("mediafs_spool_disk_free_bytes", help, free)?;
    }
    Ok(())
}

fn cache(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let cache = &status.cache;
    let disk = cache.disk.as_ref();
    let tiers = |memory: u64, disk: Option<u64>| {
        let disk = disk.map(|value| ("disk", value));
        [("memory", memory)].into_iter().chain(disk)
    };
    let used = tiers(cache.used_bytes, disk.map(|it| it.used_bytes));
    let help = "Bytes of cached blocks";
    to.numbers(Gauge, "mediafs_cache_used_bytes", help, "tier", used)?;
    let limit = tiers(cache.limit_bytes, disk.map(|it| it.limit_bytes));
    let help = "Byte limit of cached blocks";
    to.numbers(Gauge, "mediafs_cache_limit_bytes", help, "tier", limit)?;
    let hits = tiers(cache.hits, disk.map(|it| it.hits));
    let help = "Blocks that were cached when they were read";
    to.numbers(Counter, "mediafs_cache_hits", help, "tier", hits)?;
    let misses = tiers(cache.misses, disk.map(|it| it.misses));
    let help = "Blocks that were not cached when they were read";
    to.numbers(Counter, "mediafs_cache_misses", help, "tier", misses)?;
    let help = "Bytes that left the cache in memory before anybody had read them";
    let unread = cache.unread_bytes;
    to.counter("mediafs_cache_evicted_unread_bytes", help, unread)?;
    let help = "Small files fetched ahead";
    let fetched = cache.neighbours_fetched;
    to.counter("mediafs_neighbours_fetched", help, fetched)?;
    let help = "Small files fetched ahead and read";
    let used = cache.neighbours_used;
    to.counter("mediafs_neighbours_used", help, used)?;
    if let Some(disk) = disk {
        let help = "Blocks on disk that were damaged";
        to.counter("mediafs_cache_damaged_blocks", help, disk.damaged)?;
        let help = "Blocks not stored: disk too slow or too full";
        to.counter("mediafs_cache_dropped_blocks", help, disk.dropped)?;
    }
    Ok(())
}

fn calls(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let bounds = &status.latency_bounds_seconds;
    let help = "How long the kernel's requests took, by operation";
    let calls = &status.calls;
    let name = "mediafs_call_duration_seconds";
    to.histograms(name, help, "operation", bounds, &calls.latency)?;
    let help = "Bytes that applications have read";
    to.counter("mediafs_read_bytes", help, calls.read_bytes)?;
    let help = "Bytes that applications have written";
    to.counter("mediafs_written_bytes", help, calls.written_bytes)
}

fn requests(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let (bounds, requests) = (&status.latency_bounds_seconds, &status.requests);
    let help = "Requests that were sent to S3, by kind";
    let sent = requests.by_kind.iter();
    let sent = sent.map(|(kind, count)| (kind.as_str(), *count));
    to.numbers(Counter, "mediafs_s3_requests", help, "request", sent)?;
    let help = "How long requests to S3 took, by kind";
    let name = "mediafs_s3_request_duration_seconds";
    to.histograms(name, help, "request", bounds, &requests.latency)?;
    let help = "Requests to S3 that failed, by reason";
    let failed = requests.failed_by_kind.iter();
    let failed = failed.map(|(kind, count)| (kind.as_str(), *count));
    to.numbers(
        Counter,
        "mediafs_s3_requests_failed",
        help,
        "reason",
        failed,
    )?;
    let help = "Requests that were sent again, since an earlier attempt had failed";
    to.counter("mediafs_s3_retries", help, requests.retried)?;
    let help = "Bytes of bodies that S3 took";
    to.counter("mediafs_s3_sent_bytes", help, requests.sent_bytes)?;
    let help = "Bytes of bodies received from S3";
    to.counter("mediafs_s3_received_bytes", help, requests.received_bytes)?;
    let help = "What the requests would have cost at the list prices of AWS, in USD";
    let cost = status.cost.requests_usd;
    to.sum("mediafs_s3_requests_cost_usd", help, cost)
}

fn export(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let Some(otlp) = &status.otlp else {
        return Ok(());
    };
    let help = "Spans that the collector of OpenTelemetry took";
    let exported = otlp.spans_exported;
    to.counter("mediafs_otlp_spans_exported", help, exported)?;
    let help = "Spans dropped: the queue was full, or the collector refused them";
    to.counter("mediafs_otlp_spans_dropped", help, otlp.spans_dropped)?;
    let help = "Export requests that the collector did not take";
    to.counter("mediafs_otlp_requests_failed", help, otlp.failed)
}

fn process(to: &mut impl Metrics, status: &Status) -> fmt::Result {
    let memory = &status.memory;
    let help = "Limit of memory for blocks, reads and uploads";
    to.gauge("mediafs_memory_limit_bytes", help, memory.limit_bytes)?;
    let help = "The part of the budget for cached blocks and reads in progress";
    to.gauge("mediafs_memory_reads_bytes", help, memory.reads_bytes)?;
    let help = "Memory of the daemon's process";
    let resident = memory.resident_bytes;
    to.gauge("process_resident_memory_bytes", help, resident)?;
    let help = "Descriptors that the daemon has open";
    to.gauge("process_open_fds", help, status.descriptors.open as u64)?;
    let help = "Limit of open descriptors of the daemon";
    to.gauge("process_max_fds", help, status.descriptors.limit)
}
