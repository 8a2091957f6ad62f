//! All that is known of a mount, for people.

use super::shown::{counted, files, line, pending, plain, size, span, state, time, warning};
use super::status_overlay::of_overlay;
use crate::session::control::answers::Status;

/// All that is known of one mount, a line each.
pub fn whole(status: &Status) -> String {
    let health = &status.health;
    let mut text = format!("{}: {}\n", plain(&health.name), state(health.state));
    for reason in &health.reasons {
        text.push_str(&format!("  {}\n", warning(&plain(reason))));
    }
    let place = format!("{}/{} on {}", status.bucket, status.prefix, status.endpoint);
    line(&mut text, "bucket", &place);
    line(&mut text, "mountpoint", &health.mountpoint);
    let mut daemon = format!(
        "pid {}, mediafs {}, for {}",
        health.pid,
        status.version,
        span(status.uptime_seconds)
    );
    if status.takeovers > 0 {
        let takeovers = usize::try_from(status.takeovers).unwrap_or(usize::MAX);
        daemon += &format!(", after {}", counted(takeovers, "takeover"));
    }
    line(&mut text, "daemon", &daemon);
    if let Some(fuse) = &status.fuse {
        line(&mut text, "kernel", &fuse.to_string());
    }
    line(&mut text, "S3", &of_s3(status));
    of_uploads(&mut text, status);
    of_lost_found(&mut text, status);
    let deletes = match (status.deletes.waiting, status.deletes.failing) {
        (0, _) => "none waits".to_owned(),
        (waiting, false) => format!("{waiting} wait"),
        (waiting, true) => format!("{waiting} wait; the last attempt failed"),
    };
    line(&mut text, "deletes", &deletes);
    if let Some(overlay) = &status.overlay {
        of_overlay(&mut text, overlay);
    }
    if status.hidden_keys > 0 {
        let hidden = counted(status.hidden_keys, "key");
        let hidden = format!(
            "at least {hidden} cannot be shown as files: 'mediafs doctor --all' counts and names them"
        );
        line(&mut text, "hidden", &hidden);
    }
    line(&mut text, "spool", &of_spool(status));
    of_cache(&mut text, status);
    let memory = &status.memory;
    let shown = format!(
        "budget {}, {} of it for reads; the process has {}",
        size(memory.limit_bytes),
        size(memory.reads_bytes),
        size(memory.resident_bytes)
    );
    line(&mut text, "memory", &shown);
    let names = counted(status.known_names, "name");
    line(&mut text, "names", &format!("the kernel knows {names}"));
    of_requests(&mut text, status);
    for entry in &status.recent {
        let said = format!("{} {}", time(entry.at_unix_seconds), entry.level);
        line(&mut text, "log", &format!("{said} {}", entry.text));
    }
    text
}

fn of_s3(status: &Status) -> String {
    let last = status.s3.last_failure.as_ref().map(|failure| {
        let at = time(failure.at_unix_seconds);
        format!("; last failure {at}: {}", failure.error)
    });
    let now = match (&status.s3.cause, status.s3.since_unix_seconds) {
        (Some(cause), Some(since)) => format!("does not serve ({cause}) since {}", time(since)),
        _ => "serves".to_owned(),
    };
    now + &last.unwrap_or_default()
}

fn of_uploads(text: &mut String, status: &Status) {
    let uploads = &status.uploads;
    let all = [
        ("being written", uploads.dirty),
        ("queued", uploads.queued),
        ("uploading", uploads.uploading),
        ("failed", uploads.failed),
    ];
    let some = all.iter().filter(|(_, amount)| amount.files > 0);
    let mut some: Vec<String> = some
        .map(|(what, amount)| format!("{} {what}", files(*amount)))
        .collect();
    if some.is_empty() {
        some.push("all is in S3".to_owned());
    }
    if let Some(age) = uploads.oldest_age_seconds {
        some.push(format!("the oldest for {}", span(age)));
    }
    let rate = status.requests.sent_bytes_per_second;
    if rate > 0 {
        some.push(format!("{} a second", size(rate)));
    }
    line(text, "uploads", &some.join(", "));
    for file in &uploads.files {
        let of_file = pending(file.bytes, file.age_seconds, file.error.as_deref());
        let shown = format!("{}  {of_file}", file.path);
        line(text, &format!("  {}", file.state), &shown);
    }
}

fn of_lost_found(text: &mut String, status: &Status) {
    let lost = &status.lost_found;
    if lost.files == 0 {
        return;
    }
    let count = counted(lost.files, "file");
    let what = format!("{count} could not be uploaded: 'mediafs spool list' shows what to do");
    line(text, "lost+found", &what);
    for file in &lost.last {
        let key = file.key.as_deref().unwrap_or("(key unknown)");
        let shown = format!("{}  {key}  {}: {}", file.id, size(file.bytes), file.reason);
        line(text, "", &shown);
    }
}

fn of_spool(status: &Status) -> String {
    let spool = &status.spool;
    let limit = spool.limit_bytes.map(|it| format!(" of {}", size(it)));
    let free = spool.free_bytes.map(|it| format!(", {} free", size(it)));
    format!(
        "{}{} in {}{}",
        size(spool.used_bytes),
        limit.unwrap_or_default(),
        spool.dir,
        free.unwrap_or_default()
    )
}

fn of_cache(text: &mut String, status: &Status) {
    let cache = &status.cache;
    let memory = format!(
        "{} of {} in memory; {} hits, {} misses",
        size(cache.used_bytes),
        size(cache.limit_bytes),
        cache.hits,
        cache.misses
    );
    line(text, "cache", &memory);
    if cache.neighbours_fetched > 0 {
        let (fetched, used) = (cache.neighbours_fetched, cache.neighbours_used);
        let small = format!("{fetched} small files fetched ahead, {used} of them read");
        line(text, "", &small);
    }
    let Some(disk) = &cache.disk else { return };
    let mut shown = match &disk.off {
        Some(why) => format!("off in {}: {why}", disk.dir),
        None => format!(
            "{} of {} in {}",
            size(disk.used_bytes),
            size(disk.limit_bytes),
            disk.dir
        ),
    };
    shown += &format!("; {} hits, {} misses", disk.hits, disk.misses);
    if disk.damaged + disk.dropped > 0 {
        shown += &format!(", {} damaged, {} not stored", disk.damaged, disk.dropped);
    }
    if let Some(why) = &disk.full {
        shown += &format!("; nothing more is stored: {why}");
    }
    line(text, "", &shown);
}

fn of_requests(text: &mut String, status: &Status) {
    let requests = &status.requests;
    let kinds = requests.by_kind.iter();
    let kinds: Vec<String> = kinds
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    let counts = format!("{}; {} failed", kinds.join(", "), requests.failed);
    line(text, "requests", &counts);
    let moved = format!(
        "{} sent, {} received",
        size(requests.sent_bytes),
        size(requests.received_bytes)
    );
    line(text, "traffic", &moved);
    let cost = status.cost.requests_usd_per_day;
    let cost = format!("about USD {cost:.2} a day for requests, at AWS list prices");
    line(text, "cost", &cost);
}
