//! A takeover with many names that the kernel knows: how long it takes, what it costs.
//!
//! `MEDIAFS_TEST_NAMES=N`, as `scripts/bench takeover` sets it, makes it N names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::{Signal, kill_process};

use crate::support::hostile::{
    Answer, Hostile, Request, answer, directory, goes_on, not_found, object, page,
};
use crate::support::processes::rss_kib_of;
use crate::support::{Mount, SupervisedMount, wait_until};

/// Names of each directory.
const EACH: usize = 10_000;
const PAGE: usize = 1000;
const SHORT: usize = 20_000;
/// Longest pause that a program sees; a debug build on a busy machine takes longer.
const WITHIN: Duration = Duration::from_secs(20);
/// What a name costs in memory at most, beside what a mount takes anyway.
const NAME_LIMIT_BYTES: u64 = 419;
const MOUNT_LIMIT_KIB: u64 = 96 << 10;

/// A bucket of directories, each with `EACH` objects.
fn bucket(request: &Request, names: usize) -> Answer {
    if !request.is_listing() {
        let Some(number) = number_in(&request.key) else {
            return not_found();
        };
        let etag = format!("ETag: {}", etag(number));
        let when = "Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT";
        return answer("200 OK", &[&etag, when], b"bytes");
    }
    let prefix = request.prefix().to_owned();
    if prefix.is_empty() {
        let all = (0..names / EACH).map(|number| directory(&format!("d{number:03}/")));
        return page(&all.collect::<String>());
    }
    let entry = |number: usize| object(&format!("{prefix}{}", name(number)), "5", &etag(number));
    if prefix.len() > "d000/".len() {
        let found = number_in(&prefix).map(|number| object(&prefix, "5", &etag(number)));
        return page(&found.unwrap_or_default());
    }
    let from: usize = request.token().map_or(0, |token| token.parse().unwrap());
    let mut inside: String = (from..from + PAGE).map(entry).collect();
    if from + PAGE < EACH {
        inside.push_str(&goes_on(&(from + PAGE).to_string()));
    }
    page(&inside)
}

fn name(number: usize) -> String {
    format!("file-{number:07}.png")
}

fn number_in(key: &str) -> Option<usize> {
    let (_, name) = key.split_once("/file-")?;
    name.strip_suffix(".png")?.parse().ok()
}

fn etag(number: usize) -> String {
    format!("\"{:032x}\"", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn names() -> usize {
    std::env::var("MEDIAFS_TEST_NAMES").map_or(SHORT, |number| number.parse().expect("a number"))
}

/// Has the kernel look every name up; returns how many there are.
fn walk(mount: &SupervisedMount) -> usize {
    let mut seen = 0;
    for dir in fs::read_dir(&mount.root).unwrap() {
        for entry in fs::read_dir(dir.unwrap().path()).unwrap() {
            assert_eq!(entry.unwrap().metadata().unwrap().len(), 5);
            seen += 1;
        }
    }
    seen
}

#[test]
fn many_names_are_taken_over_in_a_moment_and_in_bounded_memory() {
    let names = names();
    let server = Hostile::new(move |request| bucket(request, names));
    let plan = Mount::builder().set("--endpoint-url", &server.endpoint);
    let mount = SupervisedMount::start(plan.set("--ttl", "1h"));
    wait_until(Duration::from_secs(20), "a listing", || {
        fs::read_dir(&mount.root).unwrap().count() > 0
    });
    let before = Instant::now();
    assert_eq!(walk(&mount), names);
    let walked = before.elapsed();
    let sample = mount.path("d001/file-0000777.png");
    let ino = fs::metadata(&sample).unwrap().ino();
    let rss = |pid: rustix::process::Pid| rss_kib_of(pid.as_raw_nonzero().get() as u32);
    let old = mount.daemon();
    let told_bytes = fs::metadata(mount.scratch().join("spool/session"))
        .unwrap()
        .len();
    let first_kib = rss(old);
    kill_process(old, Signal::KILL).unwrap();
    let killed = Instant::now();
    let mask = StatxFlags::BASIC_STATS;
    statx(CWD, &mount.root, AtFlags::STATX_FORCE_SYNC, mask).unwrap();
    let pause = killed.elapsed();
    mount.wait_for_successor(old);
    let found = statx(CWD, &sample, AtFlags::STATX_FORCE_SYNC, mask).unwrap();
    assert_eq!((found.stx_ino, found.stx_size), (ino, 5));
    let second_kib = rss(mount.daemon());
    println!(
        "takeover: {names} names, walked in {walked:?}; session file {told_bytes} bytes; pause {pause:?}; \
         memory {first_kib} KiB before, {second_kib} KiB after"
    );
    assert!(pause < WITHIN, "{pause:?}");
    // The first also remembers what it listed.
    let limit = names as u64 * NAME_LIMIT_BYTES / 1024 + MOUNT_LIMIT_KIB;
    assert!(
        second_kib < limit && first_kib < limit * 2,
        "{first_kib} and {second_kib} KiB, limit {limit}"
    );
    mount.unmount();
}
