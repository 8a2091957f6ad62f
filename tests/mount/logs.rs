//! What the lines of the log say, how many there are, and how that changes under a mount.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::control::{done, failed, listening};
use crate::support::programs::said;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, MountBuilder, SupervisedMount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// So long one failure is counted in place of being written each time.
const WHILE: Duration = Duration::from_secs(10);

/// A mount on which reads of `denied` are refused.
fn plan() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    plan.client.put(&plan.bucket, "denied", b"bytes");
    let denied = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("GetObject", denied).key("denied").always());
    (plan, proxy)
}

#[track_caller]
fn read_denied(mount: &Mount) {
    let read = fs::read(mount.path("denied"));
    assert_eq!(sys::errno(read), libc::EACCES);
}

/// The lines of a log in JSON with this message.
fn objects(mount: &Mount, message: &str) -> Vec<Value> {
    let log = mount.log();
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines = lines.map(|line| line.unwrap_or_else(|_| panic!("no JSON: {log}")));
    lines.filter(|line| line["message"] == message).collect()
}

#[test]
fn a_failure_is_a_line_of_json_with_the_call_the_request_and_what_to_do() {
    let (plan, _proxy) = plan();
    let mount = plan.args(["--log-format", "json"]).start();
    read_denied(&mount);
    wait_until(WITHIN, "its line", || !objects(&mount, "failed").is_empty());
    // The kernel asks twice, ahead and for the page that is missing.
    let lines = objects(&mount, "failed");
    assert!(lines.len() <= 2, "{lines:?}");
    let line = &lines[0];
    assert_eq!(line["level"], "error");
    assert_eq!(line["operation"], "read");
    assert!(line["ino"].is_u64(), "{line}");
    assert_eq!(line["s3.op"], "GetObject");
    assert_eq!(line["s3.key"], "denied");
    assert_eq!(line["s3.code"], "AccessDenied");
    assert!(line["error"].as_str().unwrap().contains("AccessDenied"));
    assert!(line["advice"].as_str().unwrap().contains("mediafs doctor"));
}

#[test]
fn a_failure_that_repeats_is_ten_lines_and_a_count() {
    let (plan, _proxy) = plan();
    let mut mount = plan.args(["--log-format", "json"]).start();
    let began = Instant::now();
    for _ in 0..60 {
        read_denied(&mount);
    }
    mount.unmount();
    let whiles = began.elapsed().div_duration_f32(WHILE).ceil() as usize;
    let lines = objects(&mount, "failed");
    let counted = lines.iter().filter_map(|line| line["repeated"].as_u64());
    let written = lines.iter().filter(|line| line["repeated"].is_null());
    // The sixty may begin in the middle of one while and end in the next.
    let most = (whiles + 1) * 11 + 3;
    assert!(lines.len() <= most, "{} lines", lines.len());
    // Of a read the kernel makes one call or two.
    let all = counted.sum::<u64>() + written.count() as u64;
    assert!((60..=120).contains(&all), "{all}");
}

#[test]
fn a_key_forges_no_line_and_moves_no_cursor() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let key = "a\n2026-01-01T00:00:00.000000Z ERROR forged\u{1b}[2J";
    plan.client.put(&plan.bucket, key, b"bytes");
    let mount = plan.start();
    proxy.rule(Rule::on("GetObject", Fault::Answer(403, "AccessDenied")).always());
    let read = fs::read(mount.path(key));
    assert_eq!(sys::errno(read), libc::EACCES);
    wait_until(WITHIN, "its line", || mount.log().contains("failed"));
    let log = mount.log();
    let line = log.lines().find(|line| line.contains("failed")).unwrap();
    assert!(
        line.contains("a\\n2026") && line.contains("\\u{1b}[2J"),
        "{log}"
    );
    assert!(!log.contains('\u{1b}'), "{log}");
}

/// Reads a file anew, so that S3 is asked.
fn ask_s3(mount: &Mount, name: &str) {
    mount.put_object(name, b"bytes");
    assert_eq!(fs::read(mount.path(name)).unwrap(), b"bytes");
}

#[test]
fn what_is_logged_changes_under_the_mount_and_a_takeover_keeps_it() {
    let plan = Mount::builder().args(["--negative-ttl", "0"]);
    let mount = SupervisedMount::start(plan);
    listening(&mount);
    let name = mount.root.to_str().unwrap().to_owned();
    let level = |filter: &[&str]| done(&mount, &[&["log-level", &name], filter].concat());
    assert_eq!(level(&[]).trim(), "info");
    ask_s3(&mount, "first");
    assert_eq!(
        level(&["mediafs::requests=debug"]).trim(),
        "mediafs::requests=debug"
    );
    ask_s3(&mount, "second");
    wait_until(WITHIN, "its request", || {
        mount.log().contains("key=\"second\"")
    });
    let log = mount.log();
    assert!(!log.contains("key=\"first\""), "{log}");
    let request = log
        .lines()
        .find(|line| line.contains("op=GetObject") && line.contains("key=\"second\""));
    assert!(request.unwrap().contains("operation=\"read\""), "{log}");

    mount.kill_daemon();
    ask_s3(&mount, "third");
    wait_until(WITHIN, "its request", || {
        mount.log().contains("key=\"third\"")
    });
    assert_eq!(level(&[]).trim(), "mediafs::requests=debug");

    done(&mount, &["reload", &name]);
    assert_eq!(level(&[]).trim(), "info");
    ask_s3(&mount, "fourth");
    let told = failed(&mount, &["log-level", &name, "mediafs=loud"]);
    assert!(told.contains("not a filter"), "{told}");
    assert_eq!(level(&[]).trim(), "info");
    mount.unmount();
    assert!(!mount.log().contains("key=\"fourth\""));
}

#[test]
fn a_log_in_a_file_is_none_in_the_journal() {
    let plan = Mount::builder().args(["--log-format", "journald", "--log-file", "/tmp/l"]);
    let output = plan.run();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("log-format"), "{}", said(&output));
}
