//! Requests of a daemon that is gone, which the server carries out after its successor
//! has done the opposite.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FileType;

use super::{End, Running, files, held, plan, wait_for_files};
use crate::support::late::{in_rounds, lands_in_time};
use crate::support::programs::happens_within;
use crate::support::proxy::{Fault, Gate, Proxy};
use crate::support::{DURABILITIES, Mount, SupervisedMount, WAITS_FOR_LATE};

/// What waits for what may land late has begun to within this time, if it waits.
const WAITS_WITHIN: Duration = Duration::from_secs(1);

/// Two changes, each the opposite of the other. What the first one sent comes late.
#[derive(Debug, Clone, Copy)]
struct Opposites {
    name: &'static str,
    /// What is held of the first.
    key: &'static str,
    prepare: fn(&Path),
    first: fn(&Path),
    second: fn(&Path),
    leaves: &'static [&'static str],
}

const fn nothing(_: &Path) {}

/// Has the held requests carried out while the opposite change is under way, or done:
/// whether early enough. Their connections ended after `began`.
fn undo_while_they_land(
    cases: &[Opposites],
    mount: &Mount,
    gates: &[Gate],
    began: Instant,
) -> bool {
    let waits = || mount.log().matches(WAITS_FOR_LATE).count();
    let before = waits();
    thread::scope(|scope| {
        for case in cases {
            let path = mount.path(case.name);
            scope.spawn(move || (case.second)(&path));
        }
        happens_within(WAITS_WITHIN, || waits() > before);
        lands_in_time(gates, began)
    })
}

const GIVEN_UP: [Opposites; 3] = [
    Opposites {
        name: "rm",
        key: "f",
        prepare: nothing,
        first: |dir| fs::write(dir.join("f"), "new").unwrap(),
        second: |dir| fs::remove_file(dir.join("f")).unwrap(),
        leaves: &["keep"],
    },
    Opposites {
        name: "mv",
        key: "f",
        prepare: nothing,
        first: |dir| fs::write(dir.join("f"), "new").unwrap(),
        second: |dir| fs::rename(dir.join("f"), dir.join("g")).unwrap(),
        leaves: &["g", "keep"],
    },
    Opposites {
        name: "mvdir",
        key: "d/f",
        prepare: |dir| fs::create_dir(dir.join("d")).unwrap(),
        first: |dir| fs::write(dir.join("d/f"), "new").unwrap(),
        second: |dir| fs::rename(dir.join("d"), dir.join("e")).unwrap(),
        leaves: &["e/f", "keep"],
    },
];

fn given_up_requests_undo_nothing(durability: &str, attributes: &str, end: End) {
    in_rounds("given up", || {
        let (plan, proxy) = plan(durability, attributes);
        let mut mount = Running::start(plan, end);
        for case in &GIVEN_UP {
            prepare(case, &mount, case.name);
        }
        let key = |case: &Opposites| format!("{}/{}", case.name, case.key);
        // No answer: its retry succeeds.
        let hang_up = |case| held(&proxy, "PutObject", &key(case), Fault::HangUp);
        let gates: Vec<Gate> = GIVEN_UP.iter().map(hang_up).collect();
        let began = Instant::now();
        thread::scope(|scope| {
            for case in &GIVEN_UP {
                let path = mount.path(case.name);
                scope.spawn(move || (case.first)(&path));
            }
        });
        for case in &GIVEN_UP {
            mount.wait_until_uploaded(&key(case), b"new");
        }
        mount.succeed(end);
        if !undo_while_they_land(&GIVEN_UP, &mount, &gates, began) {
            return false;
        }
        check(&GIVEN_UP, &mount, &proxy, durability);
        let log = mount.log();
        assert!(log.contains(WAITS_FOR_LATE), "{log}");
        true
    });
}

fn prepare(case: &Opposites, mount: &Mount, dir: &str) {
    fs::create_dir(mount.path(dir)).unwrap();
    (case.prepare)(&mount.path(dir));
    fs::write(mount.path(dir).join("keep"), "keep").unwrap();
    mount.wait_until_uploaded(&format!("{dir}/keep"), b"keep");
}

fn check(cases: &[Opposites], mount: &Mount, proxy: &Proxy, what: &str) {
    proxy.wait_until_idle();
    let want = |case: &Opposites| {
        let names = case.leaves.iter();
        names
            .map(|name| format!("{}/{name}", case.name))
            .collect::<Vec<_>>()
    };
    let below = |case: &Opposites| format!("{}/", case.name);
    for case in cases {
        let what = format!("{} {what}", case.name);
        wait_for_files(&what, mount, &below(case), &want(case), || ());
    }
    // It stays so.
    fs::write(mount.path("last"), "last").unwrap();
    mount.wait_until_uploaded("last", b"last");
    for case in cases {
        let what = format!("{} {what}", case.name);
        assert_eq!(files(mount, &below(case)), want(case), "{what}");
    }
}

#[test]
fn a_request_that_was_given_up_before_a_takeover_undoes_nothing_after_it() {
    given_up_requests_undo_nothing("s3", "fixed", End::Takeover);
    given_up_requests_undo_nothing("disk", "stored", End::Takeover);
}

#[test]
fn a_request_that_was_given_up_before_a_kill_undoes_nothing_of_the_next_mount() {
    given_up_requests_undo_nothing("s3", "stored", End::KillAndMount);
    given_up_requests_undo_nothing("disk", "fixed", End::UmountAndMount);
}

const MKDIR: Opposites = Opposites {
    name: "mkdir",
    key: "d/",
    prepare: nothing,
    first: |dir| fs::create_dir(dir.join("d")).unwrap(),
    second: |dir| fs::remove_dir(dir.join("d")).unwrap(),
    leaves: &["keep"],
};

const MOVED_DIRECTORY: Opposites = Opposites {
    name: "mvdir",
    key: "e/f",
    prepare: |dir| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "same").unwrap();
    },
    first: |dir| fs::rename(dir.join("d"), dir.join("e")).unwrap(),
    second: |dir| fs::rename(dir.join("e"), dir.join("d")).unwrap(),
    leaves: &["d/f", "keep"],
};

/// With `--attributes=stored`.
const SENT_AGAIN: [Opposites; 4] = [
    Opposites {
        name: "symlink",
        key: "l",
        prepare: nothing,
        first: |dir| symlink("t", dir.join("l")).unwrap(),
        second: |dir| fs::remove_file(dir.join("l")).unwrap(),
        leaves: &["keep"],
    },
    Opposites {
        name: "symlink-mv",
        key: "l",
        prepare: nothing,
        first: |dir| symlink("t", dir.join("l")).unwrap(),
        second: |dir| fs::rename(dir.join("l"), dir.join("l2")).unwrap(),
        leaves: &["keep", "l2"],
    },
    Opposites {
        name: "fifo",
        key: "l",
        prepare: nothing,
        first: |dir| mknod(&dir.join("l"), FileType::Fifo),
        second: |dir| fs::remove_file(dir.join("l")).unwrap(),
        leaves: &["keep"],
    },
    Opposites {
        name: "mknod",
        key: "l",
        prepare: nothing,
        first: |dir| mknod(&dir.join("l"), FileType::RegularFile),
        second: |dir| fs::remove_file(dir.join("l")).unwrap(),
        leaves: &["keep"],
    },
];

fn mknod(path: &Path, kind: FileType) {
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

/// The kernel sends to the successor again what the predecessor had begun.
fn what_is_sent_again_undoes_nothing(durability: &str, attributes: &str, cases: &[Opposites]) {
    in_rounds("sent again", || {
        let (plan, proxy) = plan(durability, attributes);
        let mount = SupervisedMount::start(plan);
        for case in cases {
            prepare(case, &mount, case.name);
        }
        if cases.iter().any(|case| case.name == MOVED_DIRECTORY.name) {
            mount.wait_until_uploaded("mvdir/d/f", b"same");
        }
        let op = |case: &Opposites| match case.name {
            "mvdir" => "CopyObject",
            _ => "PutObject",
        };
        let gates: Vec<Gate> = cases
            .iter()
            .map(|case| {
                let key = format!("{}/{}", case.name, case.key);
                held(&proxy, op(case), &key, Fault::Pass)
            })
            .collect();
        let firsts: Vec<_> = cases
            .iter()
            .map(|case| {
                let (first, path) = (case.first, mount.path(case.name));
                thread::spawn(move || first(&path))
            })
            .collect();
        gates.iter().for_each(|gate| gate.wait_for(1));
        let began = Instant::now();
        mount.kill_daemon();
        firsts.into_iter().for_each(|first| first.join().unwrap());
        if !undo_while_they_land(cases, &mount, &gates, began) {
            return false;
        }
        check(cases, &mount, &proxy, durability);
        true
    });
}

#[test]
fn what_the_kernel_sends_again_after_a_takeover_is_undone_for_good() {
    for durability in DURABILITIES {
        what_is_sent_again_undoes_nothing(durability, "stored", &SENT_AGAIN);
        what_is_sent_again_undoes_nothing(durability, "fixed", &[MKDIR]);
    }
}

#[test]
fn a_directory_rename_that_the_successor_finishes_is_undone_for_good() {
    for (durability, attributes) in [("s3", "stored"), ("disk", "fixed")] {
        what_is_sent_again_undoes_nothing(durability, attributes, &[MOVED_DIRECTORY]);
    }
}

/// With nothing unanswered, nothing waits.
#[test]
fn removals_after_a_takeover_do_not_wait_for_what_was_answered() {
    let (plan, _proxy) = plan("s3", "stored");
    let mount = SupervisedMount::start(plan);
    fs::write(mount.path("f"), "f").unwrap();
    symlink("t", mount.path("l")).unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    mount.kill_daemon();
    fs::remove_file(mount.path("f")).unwrap();
    fs::remove_file(mount.path("l")).unwrap();
    fs::remove_dir(mount.path("d")).unwrap();
    let log = mount.log();
    assert!(!log.contains(WAITS_FOR_LATE), "{log}");
}
