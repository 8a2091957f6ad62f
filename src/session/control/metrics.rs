//! The metrics of a mount: the name, unit, labels and help of each, and its value from
//! the status. Nothing is counted here: `mediafs status` tells the same numbers.
//!
//! Names: prometheus.io/docs/practices/naming. `mediafs help metrics` lists them.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::answers::{Amount, HealthState, LatencyStatus, Status};

pub use prometheus_text::CONTENT_TYPE;

/// What a scrape is answered with.
pub fn text(status: Status) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape(status)));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Status);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (status, mut to) = (&self.0, Metrics(encoder));
        mount(&mut to, status)?;
        unsent(&mut to, status)?;
        spool(&mut to, status)?;
        cache(&mut to, status)?;
        calls(&mut to, status)?;
        requests(&mut to, status)?;
        process(&mut to, status)
    }
}

fn mount(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
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
    to.gauges("mediafs_state", help, "state", states)?;
    let help = "Whether S3 serves the mount, as its last requests tell";
    to.gauge("mediafs_s3_up", help, u64::from(status.s3.serves))?;
    let help = "Since when S3 does not serve, in seconds since 1970; 0 while it serves";
    let since = status.s3.since_unix_seconds.unwrap_or(0);
    to.gauge("mediafs_s3_outage_start_timestamp_seconds", help, since)?;
    let help = "When the kernel's session began, in seconds since 1970";
    let mounted = status.mounted_unix_seconds;
    to.gauge("mediafs_mounted_timestamp_seconds", help, mounted)?;
    let help = "Since when this daemon serves";
    to.gauge("mediafs_uptime_seconds", help, status.uptime_seconds)?;
    let help = "Daemons that have resumed the session of a predecessor";
    to.counter("mediafs_takeovers", help, status.takeovers)?;
    let help = "Keys that cannot be shown as files, in directories that were listed";
    to.gauge("mediafs_hidden_keys", help, status.hidden_keys)?;
    let help = "Files and directories that the kernel or an operation refers to";
    to.gauge("mediafs_known_names", help, status.known_names)
}

fn unsent(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
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
    to.gauges("mediafs_unsent_files", help, "state", files)?;
    let help = "Bytes of files that S3 does not have as they are here";
    let bytes = each(|amount| amount.bytes);
    to.gauges("mediafs_unsent_bytes", help, "state", bytes)?;
    let help = "How long the oldest of them is not in S3; 0 where none is";
    let age = uploads.oldest_age_seconds.unwrap_or(0);
    to.gauge("mediafs_unsent_oldest_age_seconds", help, age)?;
    let help = "Files that could not be uploaded, in lost+found of the spool";
    to.gauge("mediafs_lost_found_files", help, status.lost_found.files)?;
    let help = "Objects that are removed here and not yet in S3";
    to.gauge("mediafs_deletes_waiting", help, status.deletes.waiting)?;
    let help = "Whether S3 refused the last attempt to delete";
    let failing = u64::from(status.deletes.failing);
    to.gauge("mediafs_deletes_failing", help, failing)
}

fn spool(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
    let spool = &status.spool;
    let help = "Bytes in the spool";
    to.gauge("mediafs_spool_used_bytes", help, spool.used_bytes)?;
    if let Some(limit) = spool.limit_bytes {
        let help = "Most bytes in the spool; absent where its disk alone is the limit";
        to.gauge("mediafs_spool_limit_bytes", help, limit)?;
    }
    if let Some(free) = spool.free_bytes {
        let help = "Free bytes of the spool's disk";
        to.gauge("mediafs_spool_disk_free_bytes", help, free)?;
    }
    Ok(())
}

fn cache(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
    let cache = &status.cache;
    let disk = cache.disk.as_ref();
    let tiers = |memory: u64, disk: Option<u64>| {
        let disk = disk.map(|value| ("disk", value));
        [("memory", memory)].into_iter().chain(disk)
    };
    let used = tiers(cache.used_bytes, disk.map(|it| it.used_bytes));
    let help = "Bytes of cached blocks";
    to.gauges("mediafs_cache_used_bytes", help, "tier", used)?;
    let limit = tiers(cache.limit_bytes, disk.map(|it| it.limit_bytes));
    let help = "Most bytes of cached blocks";
    to.gauges("mediafs_cache_limit_bytes", help, "tier", limit)?;
    let hits = tiers(cache.hits, disk.map(|it| it.hits));
    let help = "Blocks that were cached when they were read";
    to.counters("mediafs_cache_hits", help, "tier", hits)?;
    let misses = tiers(cache.misses, disk.map(|it| it.misses));
    let help = "Blocks that were not cached when they were read";
    to.counters("mediafs_cache_misses", help, "tier", misses)?;
    let help = "Bytes that left the cache in memory before anybody had read them";
    let unread = cache.unread_bytes;
    to.counter("mediafs_cache_evicted_unread_bytes", help, unread)?;
    let help = "Small files that were fetched beside the one that was read";
    let fetched = cache.neighbours_fetched;
    to.counter("mediafs_neighbours_fetched", help, fetched)?;
    let help = "Those of them that were read then";
    let used = cache.neighbours_used;
    to.counter("mediafs_neighbours_used", help, used)?;
    if let Some(disk) = disk {
        let help = "Blocks on disk that were not as they were written";
        to.counter("mediafs_cache_damaged_blocks", help, disk.damaged)?;
        let help = "Blocks that the disk was too slow or too full for";
        to.counter("mediafs_cache_dropped_blocks", help, disk.dropped)?;
    }
    Ok(())
}

fn calls(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
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

fn requests(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
    let (bounds, requests) = (&status.latency_bounds_seconds, &status.requests);
    let help = "Requests that were sent to S3, by kind";
    let sent = requests.by_kind.iter();
    let sent = sent.map(|(kind, count)| (kind.as_str(), *count));
    to.counters("mediafs_s3_requests", help, "request", sent)?;
    let help = "How long requests to S3 took, by kind";
    let name = "mediafs_s3_request_duration_seconds";
    to.histograms(name, help, "request", bounds, &requests.latency)?;
    let help = "Requests to S3 that failed, by reason";
    let failed = requests.failed_by_kind.iter();
    let failed = failed.map(|(kind, count)| (kind.as_str(), *count));
    to.counters("mediafs_s3_requests_failed", help, "reason", failed)?;
    let help = "Requests that were sent again, since an earlier attempt had failed";
    to.counter("mediafs_s3_retries", help, requests.retried)?;
    let help = "Bytes of bodies that S3 took";
    to.counter("mediafs_s3_sent_bytes", help, requests.sent_bytes)?;
    let help = "Bytes of bodies that S3 answered with";
    to.counter("mediafs_s3_received_bytes", help, requests.received_bytes)?;
    let help = "What the requests would have cost at the list prices of AWS, in USD";
    let cost = status.cost.requests_usd;
    to.counter("mediafs_s3_requests_cost_usd", help, cost)
}

fn process(to: &mut Metrics<'_>, status: &Status) -> fmt::Result {
    let memory = &status.memory;
    let help = "Most memory for blocks, reads and uploads together";
    to.gauge("mediafs_memory_limit_bytes", help, memory.limit_bytes)?;
    let help = "The part of the budget for cached blocks and reads in progress";
    to.gauge("mediafs_memory_reads_bytes", help, memory.reads_bytes)?;
    let help = "Memory of the daemon's process";
    let resident = memory.resident_bytes;
    to.gauge("process_resident_memory_bytes", help, resident)?;
    let help = "Descriptors that the daemon has open";
    to.gauge("process_open_fds", help, status.descriptors.open)?;
    let help = "Most descriptors that the daemon may have open";
    to.gauge("process_max_fds", help, status.descriptors.limit)
}

/// Where metrics are written to. Counters get their `_total` there.
struct Metrics<'a>(DescriptorEncoder<'a>);

impl Metrics<'_> {
    fn describe<'s>(
        &'s mut self,
        name: &'s str,
        help: &'s str,
        of_type: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, of_type)
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// One for each value of a label.
    fn gauges<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Gauge)?;
        for (of, value) in values {
            metric.encode_family(&[(label, of)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
        let mut metric = self.describe(name, help, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    /// One for each value of a label; none where there is no value yet.
    fn counters<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.describe(name, help, MetricType::Counter)?;
        for (of, value) in values {
            let labels = [(label, of)];
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    /// One for each value of a label; none where nothing is counted yet.
    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        bounds: &[f64],
        values: &BTreeMap<String, LatencyStatus>,
    ) -> fmt::Result {
        if values.is_empty() {
            return Ok(());
        }
        let mut metric = self.describe(name, help, MetricType::Histogram)?;
        let bounds = || bounds.iter().copied().chain([f64::INFINITY]);
        for (of, latency) in values {
            let buckets: Vec<(f64, u64)> = bounds().zip(latency.buckets.iter().copied()).collect();
            let labels = [(label, of.as_str())];
            let mut metric = metric.encode_family(&labels)?;
            let (sum, count) = (latency.seconds, latency.count);
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
