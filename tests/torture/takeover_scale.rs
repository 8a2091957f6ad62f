//! A takeover with many names that the kernel knows: how long it takes, what it costs.
//!
//! `MEDIAFS_TEST_NAMES=N`, as `scripts/bench takeover` sets it, makes it N names: once in
//! directories of 1,000, and once in a single one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::hostile::{
    Answer, Hostile, Request, answer, directory, goes_on, not_found, object, page,
};
use crate::support::processes::{has_ended, rss_kib_of};
use crate::support::{Mount, SupervisedMount, wait_until};

const PAGE: usize = 1000;
/// Several pages and one, so that both ways to list a directory are there.
const SHORT: &[usize] = &[4000, 1000];
/// Longest pause that a program sees; a debug build on a busy machine takes longer.
const WITHIN: Duration = Duration::from_secs(20);
/// What a name costs in memory at most, beside what a mount takes anyway.
const NAME_LIMIT_BYTES: u64 = 320;
const MOUNT_LIMIT_KIB: u64 = 96 << 10;

/// A bucket of directories, each with so many objects.
#[derive(Debug, Clone)]
struct Bucket(Vec<usize>);

impl Bucket {
    fn answer(&self, request: &Request) -> Answer {
        if !request.is_listing() {
            let Some(number) = number_in(&request.key) else {
                return not_found();
            };
            let etag = format!("ETag: {}", etag(number));
            let when = "Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT";
            return answer("200 OK", &[&etag, when], b"bytes");
        }
        let prefix = request.prefix();
        if prefix.is_empty() {
            let all = (0..self.0.len()).map(|number| directory(&format!("d{number:04}/")));
            return page(&all.collect::<String>());
        }
        if prefix.len() > "d0000/".len() {
            let found = number_in(prefix).map(|number| object(prefix, "5", &etag(number)));
            return page(&found.unwrap_or_default());
        }
        let each = self.0[prefix[1..5].parse::<usize>().unwrap()];
        let from: usize = request.token().map_or(0, |token| token.parse().unwrap());
        let entry = |number| object(&format!("{prefix}{}", name(number)), "5", &etag(number));
        let mut inside: String = (from..each.min(from + PAGE)).map(entry).collect();
        if from + PAGE < each {
            inside.push_str(&goes_on(&(from + PAGE).to_string()));
        }
        page(&inside)
    }

    fn names(&self) -> usize {
        self.0.iter().sum()
    }
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

/// As a program asks that wants to know what is there now.
fn asked(path: &std::path::Path) -> Statx {
    statx(
        CWD,
        path,
        AtFlags::STATX_FORCE_SYNC,
        StatxFlags::BASIC_STATS,
    )
    .unwrap()
}

/// Has the kernel know every name, and the daemon list them; returns how many there are.
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

fn rss_kib(pid: Pid) -> u64 {
    rss_kib_of(pid.as_raw_nonzero().get() as u32)
}

/// Ends the daemon, and returns how long a program waits for its successor.
fn take_over(mount: &SupervisedMount, signal: Signal) -> Duration {
    let old = mount.daemon();
    let first_kib = rss_kib(old);
    let sample = mount.path("d0000/file-0000777.png");
    let ino = fs::metadata(&sample).unwrap().ino();
    kill_process(old, signal).unwrap();
    let ended = Instant::now();
    wait_until(WITHIN, "the end of the daemon", || has_ended(old));
    asked(&mount.root);
    let pause = ended.elapsed();
    mount.wait_for_successor(old);
    let found = asked(&sample);
    assert_eq!((found.stx_ino, found.stx_size), (ino, 5));
    let second_kib = rss_kib(mount.daemon());
    println!(
        "takeover: {signal:?}: pause {pause:?}; memory {first_kib} KiB before, {second_kib} KiB after"
    );
    pause
}

fn taken_over(bucket: &Bucket, signals: [Signal; 2]) {
    let names = bucket.names();
    let serving = bucket.clone();
    let server = Hostile::new(move |request| serving.answer(request));
    let plan = Mount::builder().set("--endpoint-url", &server.endpoint);
    let mount = SupervisedMount::start(plan.set("--ttl", "1h"));
    wait_until(WITHIN, "a listing", || {
        fs::read_dir(&mount.root).unwrap().count() > 0
    });
    let limit = names as u64 * NAME_LIMIT_BYTES / 1024 + MOUNT_LIMIT_KIB;
    let mut kib = Vec::new();
    for signal in [None, Some(signals[0]), Some(signals[1])] {
        if let Some(signal) = signal {
            let pause = take_over(&mount, signal);
            assert!(pause < WITHIN, "{pause:?}");
        }
        kib.push(rss_kib(mount.daemon()));
        let before = Instant::now();
        assert_eq!(walk(&mount), names);
        kib.push(rss_kib(mount.daemon()));
        let saved = fs::metadata(mount.scratch().join("spool/session")).unwrap();
        println!(
            "takeover: {names} names in {} directories, walked in {:?}; session file {} bytes; memory {kib:?} KiB",
            bucket.0.len(),
            before.elapsed(),
            saved.len()
        );
    }
    assert!(
        kib.iter().all(|it| *it < limit),
        "{kib:?} KiB, limit {limit}"
    );
    mount.unmount();
}

#[test]
fn many_names_are_taken_over_in_a_moment_and_in_bounded_memory() {
    let Some(names) = std::env::var("MEDIAFS_TEST_NAMES").ok() else {
        return taken_over(&Bucket(SHORT.to_vec()), [Signal::KILL, Signal::USR2]);
    };
    let names: usize = names.parse().expect("a number");
    let shapes = [Bucket(vec![PAGE; names / PAGE]), Bucket(vec![names])];
    let (first, second) = (Signal::KILL, Signal::USR2);
    for (bucket, signals) in shapes.iter().zip([[first, second], [second, first]]) {
        taken_over(bucket, signals);
    }
}
