//! `mediafs status`.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::mounts::{Asked, SAYS_WITHIN, SocketArg, Wait, no_mount};
use super::shown::{counted, files, line, plain, size, span, state, time, unless_gone, warning};
use super::status_overlay::of_overlay;
use crate::session::control::answers::{Amount, MountStatus, Status, Uploads};

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its top. Source: console_codes(4).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
const HEAD: [&str; 6] = ["NAME", "STATE", "MOUNTPOINT", "BUCKET", "NOT IN S3", "UP"];

const EXAMPLES: &str = "Examples:
  mediafs status              # every mount, a line each
  mediafs status /srv/media   # all that is known of one
  curl --unix-socket /run/mediafs/media.sock http://localhost/status";

/// Show the state of a mount: S3, what waits for it, what failed, spool, cache, requests
///
/// Without arguments every mount of this user is listed; root sees those of all
/// users. See 'mediafs help status'.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusCommand {
    /// Name or mountpoint of one mount
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// Print JSON: an object of one mount, an array of all
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl StatusCommand {
    pub fn run(self) -> anyhow::Result<()> {
        loop {
            let text = match &self.mount {
                Some(mount) => self.one(mount)?,
                None => self.all()?,
            };
            let clear = if self.watch && !self.json && stdout().is_terminal() {
                CLEAR
            } else {
                ""
            };
            let mut out = anstream::stdout();
            let printed = write!(out, "{clear}{text}").and_then(|()| out.flush());
            if !self.watch || printed.is_err() {
                return Ok(unless_gone(printed)?);
            }
            std::thread::sleep(WATCH_EVERY);
        }
    }

    fn one(&self, mount: &str) -> anyhow::Result<String> {
        let found = self.at.named(mount, Wait::No)?;
        let status: Status = found.ask(Method::GET, "/status", &(), SAYS_WITHIN)?;
        if self.json {
            return Ok(self.as_json(&serde_json::to_value(status)?));
        }
        Ok(whole(&status))
    }

    fn all(&self) -> anyhow::Result<String> {
        let mut asked = self.at.ask_all::<Status>("/status");
        // One that was named is there, or is missed.
        if let (Some(socket), [Asked { answer: Err(_), .. }]) = (&self.at.socket, &asked[..])
            && let Some(Err(error)) = asked.pop().map(|it| it.answer)
        {
            anyhow::bail!("{}: {error}", socket.display());
        }
        if self.json {
            let entries = asked.into_iter().map(|it| {
                let answer = it.answer.map_err(|error| error.to_string());
                MountStatus::new(Some(it.socket), answer)
            });
            let entries: Vec<MountStatus> = entries.collect();
            return Ok(self.as_json(&serde_json::to_value(entries)?));
        }
        Ok(table(&asked))
    }

    /// Watched, each is a line.
    fn as_json(&self, value: &serde_json::Value) -> String {
        if self.watch {
            format!("{value}\n")
        } else {
            format!("{value:#}\n")
        }
    }
}

fn table(asked: &[Asked<Status>]) -> String {
    if asked.is_empty() {
        return format!("{}\n", no_mount(&[]));
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut dead = String::new();
    for Asked { socket, answer } in asked {
        match answer {
            Ok(status) => rows.push([
                plain(&status.health.name),
                status.health.state.as_str().to_owned(),
                plain(&status.health.mountpoint),
                plain(&format!("{}/{}", status.bucket, status.prefix)),
                not_in_s3(&status.uploads),
                span(status.uptime_seconds),
            ]),
            Err(error) => {
                let line = format!("{}: {error}", socket.display());
                dead.push_str(&format!("{}\n", warning(&plain(&line))));
            }
        }
    }
    if rows.len() == 1 {
        return dead;
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(&format!("{}\n", cells.join("  ").trim_end()));
    }
    text + &dead
}

fn not_in_s3(uploads: &Uploads) -> String {
    let all = Amount::from(uploads);
    match all.files {
        0 => "nothing".to_owned(),
        count => format!("{}, {}", counted(count, "file"), size(all.bytes)),
    }
}

/// All that is known of one mount, a line each.
fn whole(status: &Status) -> String {
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
        (waiting, true) => format!("{waiting} wait, and S3 does not take them"),
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
        let age = file.age_seconds.map_or_else(String::new, span);
        let error = file.error.as_deref().unwrap_or_default();
        let shown = format!("{}  {} {age} {error}", file.path, size(file.bytes));
        line(text, &format!("  {}", file.state), shown.trim_end());
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
