//! Mounts of a server that means harm, and what must hold of them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::hostile::{Answer, Hostile, Request, not_found, page};
use crate::support::{Mount, MountBuilder};

/// Longest that one call may take: some deadlines of requests, on a machine that is slow.
pub const ANSWERED_WITHIN: Duration = Duration::from_secs(60);
/// Twice what an idle daemon takes, 56 MiB in a debug build, and the memory of its cache.
pub const RSS_LIMIT_KIB: u64 = 176 << 10;
pub const DESCRIPTORS_LIMIT: usize = 64;

pub fn plan(server: &Hostile) -> MountBuilder {
    Mount::builder()
        .set("--endpoint-url", &server.endpoint)
        .args(["--request-timeout", "4s", "--memory-cache", "64MiB"])
}

/// A mount of what a script answers.
pub fn mounted(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Hostile, Mount) {
    let server = Hostile::new(script);
    let mount = plan(&server).start();
    (server, mount)
}

/// The same, with attributes that are stored with objects.
pub fn stored(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Hostile, Mount) {
    let server = Hostile::new(script);
    let mount = plan(&server).args(["--attributes", "stored"]).start();
    (server, mount)
}

/// The daemon serves, is small, has not panicked, and ends as asked.
#[track_caller]
pub fn is_well(mut mount: Mount) {
    assert!(fs::metadata(&mount.root).unwrap().is_dir());
    mount.check_bounds(RSS_LIMIT_KIB, DESCRIPTORS_LIMIT);
    let peak = peak_kib_of(mount.pid());
    assert!(peak <= RSS_LIMIT_KIB, "{peak} KiB of memory at its height");
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
    mount.unmount();
}

/// The most resident memory that a process ever had. Source: proc_pid_status(5).
pub fn peak_kib_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().strip_suffix(" kB");
    number.unwrap().parse().unwrap()
}

pub fn in_time<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = call();
    let took = start.elapsed();
    assert!(took < ANSWERED_WITHIN, "{what} took {took:?}");
    outcome
}

/// EIO, or no answer in time after attempts that were no answers.
pub fn is_failure(error: &std::io::Error) -> bool {
    [Some(libc::EIO), Some(libc::ETIMEDOUT)].contains(&error.raw_os_error())
}

pub fn names(dir: &Path) -> std::io::Result<BTreeSet<String>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap()))
        .collect()
}

pub fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Answers the listing of the root with this text; nothing else is there.
pub fn root_lists(inside: String) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| match (request.is_listing(), request.prefix()) {
        (true, "") => page(&inside),
        (true, _) => page(""),
        (false, _) => not_found(),
    }
}
