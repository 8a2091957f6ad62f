//! One mount of the page.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sample::{Sample, together, within};
use super::text::{Text, files, percent, size, span, time_of};
use super::{advice, put};
use crate::session::control::answers::{Amount, HealthState, LatencyStatus, Status, Uploads};

/// A figure: a number that is read without scripts, and below it a plot.
struct Tile<'a> {
    /// What the script plots there.
    plot: &'a str,
    title: &'a str,
    now: String,
    more: String,
}

/// Parts with `data-live` are replaced by the script, each by its `id`.
pub fn section(page: &mut String, number: usize, status: &Status, now: SystemTime) {
    let at = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(at.as_millis()).unwrap_or(0);
    // It is always JSON.
    let sample = serde_json::to_string(&Sample::of(status, at_ms)).unwrap_or_default();
    put(
        page,
        format_args!(
            "<section class=\"mount\" id=\"mount-{number}\" aria-labelledby=\"name-{number}\" data-sample=\"{}\">\n",
            Text(&sample)
        ),
    );
    head(page, number, status);
    problems(page, number, status);
    page.push_str("<div class=\"tiles\">\n");
    for tile in tiles(status) {
        let Tile {
            plot,
            title,
            now,
            more,
        } = tile;
        put(
            page,
            format_args!(
                "<div class=\"tile\" data-plot=\"{plot}\">\n<h3>{title}</h3>\n<div data-live id=\"{plot}-{number}\"><p class=\"now\">{}</p><p class=\"more\">{}</p></div>\n<div class=\"plot\"></div>\n</div>\n",
                Text(&now),
                Text(&more)
            ),
        );
    }
    page.push_str("</div>\n");
    uploads(page, number, status);
    lost(page, number, status);
    resources(page, number, status);
    log(page, number, status);
    page.push_str("</section>\n");
}

pub fn badge(state: HealthState) -> impl Display {
    let word = state.as_str();
    format!("<span class=\"badge {word}\">{word}</span>")
}

pub fn not_in_s3(uploads: &Uploads) -> String {
    let all = Amount::from(uploads);
    match all.files {
        0 => "nothing".to_owned(),
        count => format!("{}, {}", files(count), size(all.bytes)),
    }
}

fn head(page: &mut String, number: usize, status: &Status) {
    let health = &status.health;
    put(
        page,
        format_args!(
            "<div class=\"head\">\n<h2 id=\"name-{number}\">{}</h2>\n<p data-live id=\"state-{number}\" role=\"status\">{}</p>\n<p class=\"place\"><span>{}</span> shows <span>{}/{}</span> of <span>{}</span></p>\n</div>\n",
            Text(&health.name),
            badge(health.state),
            Text(&health.mountpoint),
            Text(&status.bucket),
            Text(&status.prefix),
            Text(&status.endpoint),
        ),
    );
}

fn problems(page: &mut String, number: usize, status: &Status) {
    put(
        page,
        format_args!("<div data-live id=\"problems-{number}\">"),
    );
    let found = advice::of(status);
    if !found.is_empty() {
        page.push_str("<ul class=\"problems\">");
        for advice::Advice { what, to_type } in found {
            put(
                page,
                format_args!(
                    "<li><p>{}</p><p class=\"type\">Type <code>{}</code></p></li>",
                    Text(&what),
                    Text(&to_type)
                ),
            );
        }
        page.push_str("</ul>");
    }
    page.push_str("</div>\n");
}

fn tiles(status: &Status) -> [Tile<'static>; 6] {
    let (requests, cache, uploads) = (&status.requests, &status.cache, &status.uploads);
    let hits = percent(cache.hits, cache.hits.saturating_add(cache.misses));
    let age = uploads.oldest_age_seconds.map(span);
    [
        throughput(status),
        latency(status),
        Tile {
            plot: "hits",
            title: "Cache hit rate",
            now: hits.map_or_else(|| "nothing read yet".to_owned(), |it| format!("{it} %")),
            more: format!(
                "{} hits, {} misses; {} fetched ahead and not read",
                cache.hits,
                cache.misses,
                size(cache.unread_bytes)
            ),
        },
        Tile {
            plot: "pending",
            title: "Not in S3",
            now: not_in_s3(uploads),
            more: age.map_or_else(String::new, |age| format!("the oldest for {age}")),
        },
        Tile {
            plot: "s3",
            title: "S3",
            now: s3(status),
            more: format!(
                "{} requests, {} failed, {} sent again",
                requests.by_kind.values().sum::<u64>(),
                requests.failures(),
                requests.retried
            ),
        },
        Tile {
            plot: "cost",
            title: "Cost of requests",
            now: format!("USD {:.2} a day", status.cost.requests_usd_per_day),
            more: "at AWS list prices, at the pace since the start".to_owned(),
        },
    ]
}

fn throughput(status: &Status) -> Tile<'static> {
    let (calls, requests) = (&status.calls, &status.requests);
    Tile {
        plot: "throughput",
        title: "Throughput",
        now: format!("{} a second to S3", size(requests.sent_bytes_per_second)),
        more: format!(
            "since the start: {} read, {} written, {} from S3, {} to S3",
            size(calls.read_bytes),
            size(calls.written_bytes),
            size(requests.received_bytes),
            size(requests.sent_bytes)
        ),
    }
}

fn latency(status: &Status) -> Tile<'static> {
    let share = |latencies: &BTreeMap<String, LatencyStatus>, share| {
        let buckets = together(latencies.values());
        let within = within(&buckets, &status.latency_bounds_seconds, share);
        within.map_or_else(|| "none yet".to_owned(), duration)
    };
    let (calls, requests) = (&status.calls.latency, &status.requests.latency);
    Tile {
        plot: "latency",
        title: "Latency",
        now: format!("half of calls within {}", share(calls, 50)),
        more: format!(
            "99 % of calls within {}; S3: half within {}, 99 % within {}",
            share(calls, 99),
            share(requests, 50),
            share(requests, 99)
        ),
    }
}

fn s3(status: &Status) -> String {
    match (
        status.s3.serves,
        &status.s3.cause,
        status.s3.since_unix_seconds,
    ) {
        (true, _, _) => "serves".to_owned(),
        (false, Some(cause), Some(since)) => format!("{cause} since {}", time_of(since)),
        (false, _, _) => "does not serve".to_owned(),
    }
}

fn duration(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", seconds * 1000.0)
    } else {
        format!("{seconds} s")
    }
}

fn table(page: &mut String, id: &str, number: usize, title: &str, columns: &[&str]) {
    put(
        page,
        format_args!(
            "<h3 id=\"{id}-title-{number}\">{title}</h3>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"name-{number} {id}-title-{number}\">\n<table>\n<thead><tr>"
        ),
    );
    for column in columns {
        put(page, format_args!("<th scope=\"col\">{column}</th>"));
    }
    page.push_str("</tr></thead>\n<tbody>\n");
}

const TABLE_ENDS: &str = "</tbody>\n</table>\n</div>\n";

fn uploads(page: &mut String, number: usize, status: &Status) {
    put(
        page,
        format_args!("<div data-live id=\"uploads-{number}\">\n"),
    );
    let files = &status.uploads.files;
    if files.is_empty() {
        page.push_str("<h3>Uploads</h3>\n<p class=\"note\">All is in S3.</p>\n");
    } else {
        let columns = ["File", "State", "Size", "For", "Error"];
        table(
            page,
            "uploads",
            number,
            "Uploads, the oldest first",
            &columns,
        );
        for file in files {
            put(
                page,
                format_args!(
                    "<tr><th scope=\"row\" class=\"path\">{}</th><td><span class=\"badge {state}\">{state}</span></td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    Text(&file.path),
                    size(file.bytes),
                    file.age_seconds.map(span).unwrap_or_default(),
                    Text(file.error.as_deref().unwrap_or_default()),
                    state = Text(&file.state),
                ),
            );
        }
        page.push_str(TABLE_ENDS);
    }
    page.push_str("</div>\n");
}

fn lost(page: &mut String, number: usize, status: &Status) {
    put(page, format_args!("<div data-live id=\"lost-{number}\">\n"));
    if !status.lost_found.last.is_empty() {
        let columns = ["Key", "Size", "When", "Why", "Id"];
        table(page, "lost", number, "Could not be uploaded", &columns);
        for file in &status.lost_found.last {
            put(
                page,
                format_args!(
                    "<tr><th scope=\"row\" class=\"path\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    Text(file.key.as_deref().unwrap_or("(unknown)")),
                    size(file.bytes),
                    time_of(file.at_unix_seconds),
                    Text(&file.reason),
                    Text(&file.id),
                ),
            );
        }
        page.push_str(TABLE_ENDS);
    }
    page.push_str("</div>\n");
}

fn resources(page: &mut String, number: usize, status: &Status) {
    put(
        page,
        format_args!("<div data-live id=\"resources-{number}\">\n<h3>Resources</h3>\n<dl>\n"),
    );
    let (spool, cache, memory) = (&status.spool, &status.cache, &status.memory);
    let free = spool.free_bytes.unwrap_or(0);
    let limit = spool
        .limit_bytes
        .unwrap_or_else(|| spool.used_bytes.saturating_add(free));
    meter(page, "Spool", spool.used_bytes, limit, " high=\"90\"");
    let (used, limit) = (cache.used_bytes, cache.limit_bytes);
    meter(page, "Cache in memory", used, limit, "");
    if let Some(disk) = &cache.disk {
        let (used, limit) = (disk.used_bytes, disk.limit_bytes);
        meter(page, "Cache on disk", used, limit, "");
    }
    let fact = |page: &mut String, name: &str, value: &str| {
        put(
            page,
            format_args!("<div><dt>{name}</dt><dd>{}</dd></div>\n", Text(value)),
        );
    };
    let resident = format!(
        "{}; the budget for blocks, reads and uploads is {}",
        size(memory.resident_bytes),
        size(memory.limit_bytes)
    );
    fact(page, "Memory of the process", &resident);
    let descriptors = &status.descriptors;
    let open = format!("{} of {}", descriptors.open, descriptors.limit);
    fact(page, "Descriptors", &open);
    let daemon = format!(
        "mediafs {}, process {}, for {}",
        status.version,
        status.health.pid,
        span(status.uptime_seconds)
    );
    fact(page, "Daemon", &daemon);
    let takeovers = match status.takeovers {
        0 => "none".to_owned(),
        count => format!("{count} since {}", time_of(status.mounted_unix_seconds)),
    };
    fact(page, "Takeovers", &takeovers);
    fact(
        page,
        "close(2) returns",
        match status.durability.as_str() {
            "disk" => "when the bytes are on this disk",
            _ => "when S3 has the bytes",
        },
    );
    page.push_str("</dl>\n</div>\n");
}

/// What is not to become full has a mark where it is told.
fn meter(page: &mut String, name: &str, used: u64, limit: u64, high: &str) {
    let text = format!("{} of {}", size(used), size(limit));
    let full = percent(used, limit).unwrap_or(0).min(100);
    put(
        page,
        format_args!(
            "<div><dt>{name}</dt><dd><meter min=\"0\" max=\"100\"{high} value=\"{full}\" aria-label=\"{name}\">{full} %</meter> {text}</dd></div>\n"
        ),
    );
}

fn log(page: &mut String, number: usize, status: &Status) {
    put(page, format_args!("<div data-live id=\"log-{number}\">\n"));
    if status.recent.is_empty() {
        page.push_str("<h3>Warnings and errors</h3>\n<p class=\"note\">None so far.</p>\n");
    } else {
        let columns = ["When", "Level", "What the log says"];
        table(
            page,
            "log",
            number,
            "Warnings and errors, the last first",
            &columns,
        );
        for line in status.recent.iter().rev() {
            put(
                page,
                format_args!(
                    "<tr><td class=\"time\">{}</td><td><span class=\"badge {level}\">{level}</span></td><td class=\"path\">{}</td></tr>\n",
                    time_of(line.at_unix_seconds),
                    Text(&line.text),
                    level = Text(&line.level.to_lowercase()),
                ),
            );
        }
        page.push_str(TABLE_ENDS);
    }
    page.push_str("</div>\n");
}
