//! What `mediafs status MOUNT --json` prints, and the page that says what it means.

use std::fs;

use serde_json::Value;

use crate::support::Mount;
use crate::support::control::status;

/// Programs read them: none goes, or gets another name.
const FIELDS: &str = "
    attributes bucket cache.disk cache.hits cache.limit_bytes cache.misses cache.neighbours_fetched
    cache.neighbours_used cache.unread_bytes cache.used_bytes calls.latency calls.read_bytes
    calls.written_bytes cost.prices cost.requests_usd
    cost.requests_usd_per_day deletes.failing deletes.waiting descriptors.limit descriptors.open
    durability endpoint
    fuse.features fuse.lacking fuse.max_background fuse.max_readahead_bytes fuse.max_write_bytes
    fuse.protocol hidden_keys known_names latency_bounds_seconds lost_found.files lost_found.last
    memory.limit_bytes memory.reads_bytes memory.resident_bytes mounted_unix_seconds mountpoint name
    pid prefix reasons recent requests.by_kind requests.failed requests.failed_by_kind
    requests.latency requests.received_bytes requests.retried
    requests.sent_bytes requests.sent_bytes_per_second s3.cause s3.last_failure
    s3.serves s3.since_unix_seconds
    spool.dir spool.free_bytes spool.limit_bytes spool.used_bytes state takeovers unit
    uploads.dirty.bytes uploads.dirty.files uploads.failed.bytes uploads.failed.files
    uploads.files uploads.oldest_age_seconds uploads.queued.bytes uploads.queued.files
    uploads.uploading.bytes uploads.uploading.files uptime_seconds version
";
/// Of a mount of another kind than the test's.
const OF_OTHERS: [&str; 2] = ["otlp", "overlay"];

/// The names of an object's fields, those of objects within it behind a dot.
fn fields(value: &Value, above: &str, found: &mut Vec<String>) {
    for (name, value) in value.as_object().unwrap() {
        let name = format!("{above}{name}");
        // Their fields are kinds of requests.
        let by_kind = ["by_kind", "failed_by_kind", "latency"];
        let is_by_kind = by_kind.contains(&name.rsplit('.').next().unwrap());
        if value.is_object() && !is_by_kind {
            fields(value, &format!("{name}."), found);
        } else {
            found.push(name);
        }
    }
}

const PAGE: &str = include_str!("../../src/cli/help/status.md");

/// A row of the page's table of fields.
struct Row {
    /// Names in the first column.
    fields: Vec<String>,
    /// Names of more in the second.
    more: Vec<String>,
    /// The second column, in which fields of an object may be without it.
    words: Vec<&'static str>,
}

impl Row {
    fn read(line: &'static str) -> Self {
        let cells: Vec<&str> = line.trim_matches('|').split('|').collect();
        let [fields, means] = cells[..] else {
            panic!("not two columns: {line}");
        };
        let fields = names(fields, "");
        let is_outside = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        Self {
            more: names(means, fields.last().unwrap()),
            words: means.split(is_outside).collect(),
            fields,
        }
    }

    fn tells(&self, field: &str) -> bool {
        let mut named = self.fields.iter().chain(&self.more);
        let is_in_words = |above: &String| {
            let within = field.strip_prefix(above.as_str());
            let within = within.and_then(|within| within.strip_prefix('.'));
            within.is_some_and(|within| within.split('.').all(|it| self.words.contains(&it)))
        };
        named.any(|name| name == field) || self.fields.iter().any(is_in_words)
    }
}

/// Names in backticks. One that begins with a dot is beside the one before it.
fn names(cell: &str, before: &str) -> Vec<String> {
    let mut before = before.to_owned();
    let spans = cell.split('`').skip(1).step_by(2);
    let spans = spans.filter(|span| !span.contains(' '));
    let whole = spans.map(|span| {
        before = match (span.starts_with('.'), before.rsplit_once('.')) {
            (true, Some((above, _))) => format!("{above}{span}"),
            (true, None) => format!("{before}{span}"),
            (false, _) => span.to_owned(),
        };
        before.clone()
    });
    whole.collect()
}

/// Whether one is the other, or an object that it is in.
fn is_at_or_above(above: &str, field: &str) -> bool {
    let below = field.strip_prefix(above);
    below.is_some_and(|below| below.is_empty() || below.starts_with('.'))
}

#[test]
fn the_fields_of_the_status_are_as_documented() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let mut found = Vec::new();
    fields(&status(&mount), "", &mut found);
    found.sort();
    let wanted: Vec<&str> = FIELDS.split_whitespace().collect();
    assert_eq!(found, wanted);
    let (_, section) = PAGE.split_once("## What status tells\n").unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with("|---"));
    let table = table.skip(1).take_while(|line| line.starts_with('|'));
    let rows: Vec<Row> = table.map(Row::read).collect();
    for field in &found {
        let in_text = section.contains(&format!("`{field}`"));
        let is_told = in_text || rows.iter().any(|row| row.tells(field));
        assert!(is_told, "{field} is not in 'mediafs help status'");
    }
    for name in rows.iter().flat_map(|row| &row.fields) {
        // What may be null, or is a list, has its fields on the page alone.
        let is_there = |field: &String| is_at_or_above(name, field) || is_at_or_above(field, name);
        let is_of_others = OF_OTHERS.contains(&name.as_str());
        assert!(is_of_others || found.iter().any(is_there), "no {name}");
    }
}
