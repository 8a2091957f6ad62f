//! What is wrong with a mount, in plain words, and what to type.

use super::text::{files, percent, size, span, time_of};
use crate::session::control::answers::{HealthState, Status};

/// A spool this full is told.
const SPOOL_FULL_PER_CENT: u64 = 90;
/// Bytes that wait for so long while S3 serves are told.
const OLD_SECONDS: u64 = 3600;
/// Of the descriptors that the process may have.
const DESCRIPTORS_PER_CENT: u64 = 80;

#[derive(Debug, PartialEq, Eq)]
pub struct Advice {
    pub what: String,
    /// A command, and nothing else.
    pub to_type: String,
}

/// The worst first.
pub fn of(status: &Status) -> Vec<Advice> {
    let mut found = Vec::new();
    let mut say = |what: String, to_type: String| found.push(Advice { what, to_type });
    let mountpoint = quoted(&status.health.mountpoint);
    let lost = status.lost_found.files;
    if status.health.state == HealthState::Stuck {
        let why = status.health.reasons.join("; ");
        let what = format!("The mount does not answer: {why}. Programs wait.");
        say(what, "mediafs help troubleshooting".to_owned());
    }
    if !status.s3.serves {
        let (what, to_type) = of_outage(status, &mountpoint);
        say(what, to_type);
    }
    if lost > 0 {
        let what = format!(
            "{} could not be uploaded. The bytes are in lost+found of the spool.",
            files(lost)
        );
        let spool = quoted(&status.spool.dir);
        say(what, format!("mediafs spool list --spool {spool}"));
    }
    if status.deletes.failing {
        let what = "Deletes fail: what was removed here is still in the bucket.";
        say(what.to_owned(), format!("mediafs doctor {}", place(status)));
    }
    if let Some(what) = full_spool(status) {
        say(what, "mediafs help spool".to_owned());
    }
    let age = status.uploads.oldest_age_seconds.unwrap_or(0);
    if status.s3.serves && age >= OLD_SECONDS {
        let what = format!("Some bytes have not been in S3 for {}.", span(age));
        say(what, format!("mediafs flush {mountpoint}"));
    }
    let disk = status.cache.disk.as_ref();
    if let Some(why) = disk.and_then(|disk| disk.off.as_ref()) {
        let what = format!("The cache on disk is off: {why}. Reads go to S3.");
        say(what, "mediafs help troubleshooting".to_owned());
    }
    let descriptors = &status.descriptors;
    if percent(descriptors.open as u64, descriptors.limit) >= Some(DESCRIPTORS_PER_CENT) {
        let what = format!(
            "{} of {} descriptors are open.",
            descriptors.open, descriptors.limit
        );
        say(what, "mediafs help limits".to_owned());
    }
    if status.hidden_keys > 0 {
        let what = format!(
            "At least {} keys of the bucket cannot be shown as files.",
            status.hidden_keys
        );
        say(what, "mediafs doctor --all".to_owned());
    }
    found
}

fn of_outage(status: &Status, mountpoint: &str) -> (String, String) {
    let since = status.s3.since_unix_seconds.map(time_of);
    let since = since.unwrap_or_else(|| "now".to_owned());
    match status.s3.cause.as_deref() {
        Some("credentials") => (
            format!("S3 refuses the credentials since {since}. Renew them, then have them read."),
            format!("mediafs reload {mountpoint}"),
        ),
        Some("clock") => (
            format!("S3 refuses the time of this machine's clock since {since}."),
            "timedatectl set-ntp true".to_owned(),
        ),
        _ => (
            format!(
                "S3 does not answer since {since}. What is cached stays readable, what is written waits here."
            ),
            format!("mediafs doctor {}", place(status)),
        ),
    }
}

/// None where it has room.
fn full_spool(status: &Status) -> Option<String> {
    let spool = &status.spool;
    let limit = spool.limit_bytes.map(|limit| (spool.used_bytes, limit));
    let disk = spool
        .free_bytes
        .map(|free| (spool.used_bytes, spool.used_bytes.saturating_add(free)));
    let full = [limit, disk].into_iter().flatten();
    let mut full = full.filter(|(used, of)| percent(*used, *of) >= Some(SPOOL_FULL_PER_CENT));
    let (used, of) = full.next()?;
    Some(format!(
        "The spool is nearly full: {} of {}. Writes will fail with ENOSPC until uploads end.",
        size(used),
        size(of)
    ))
}

/// The arguments of a command that takes a bucket; a service has them in its file.
fn place(status: &Status) -> String {
    if status.unit.is_some() {
        return quoted(&status.health.name);
    }
    let bucket = format!("{}/{}", status.bucket, status.prefix);
    quoted(bucket.trim_end_matches('/'))
}

/// As a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
