//! Limits of the process: what is set too high is capped, and what it may have is used.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Mount, pattern};

#[test]
fn settings_that_are_far_too_high_are_capped_with_a_word_and_the_mount_works() {
    let mut mount = Mount::builder()
        .args(["--fuse-threads", "5000"])
        .args(["--drain-timeout", "18446744073709551615"])
        .args(["--watchdog", "18446744073709551615"])
        .start();
    let threads = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    assert!(threads.count() < 500);
    fs::write(mount.path("f"), pattern(1000, 1)).unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), pattern(1000, 1));
    let log = mount.log();
    assert!(
        log.contains("fuse-threads = 5000 is above the limit: 64 is used"),
        "{log}"
    );
    assert!(log.contains("drain-timeout is above the limit"), "{log}");
    mount.unmount();
}

#[test]
fn the_daemon_may_have_as_many_files_open_as_its_hard_limit_allows() {
    let own = getrlimit(Resource::Nofile);
    let hard = own
        .maximum
        .expect("Linux has no infinite limit of open files");
    // What the daemon begins with; every other test has enough too.
    let lower = Rlimit {
        current: Some(hard - 1),
        maximum: Some(hard),
    };
    setrlimit(Resource::Nofile, lower).unwrap();
    let mount = Mount::fresh();
    let limits = fs::read_to_string(format!("/proc/{}/limits", mount.pid())).unwrap();
    let mut lines = limits.lines();
    let line = lines.find(|line| line.starts_with("Max open files"));
    let fields: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(fields[3], hard.to_string(), "{line:?}");
}
