//! A stop that reaches a successor at any time of its start is not lost.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::mount::is_mounted;
use crate::support::processes::daemons_of;
use crate::support::{Mount, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// After the successor's process was there. The first reaches it before it runs its program.
/// Not SIGINT: what runs in the background of a shell is started with it ignored, until the
/// daemon listens.
const STOPS_MS: [u64; 4] = [0, 5, 20, 80];

#[test]
fn a_stop_that_reaches_a_successor_at_any_time_of_its_start_ends_the_mount() {
    for after_ms in STOPS_MS {
        let mount = SupervisedMount::start(Mount::builder());
        fs::write(mount.path("f"), b"kept").unwrap();
        let before = children(mount.supervisor());
        kill_process(mount.daemon(), Signal::KILL).unwrap();
        let mut successor = None;
        wait_until(WITHIN, "a successor", || {
            successor = children(mount.supervisor())
                .difference(&before)
                .next()
                .copied();
            successor.is_some()
        });
        // Not luck: whatever it does then, it is to end.
        std::thread::sleep(Duration::from_millis(after_ms));
        let successor = Pid::from_raw(successor.unwrap()).unwrap();
        kill_process(successor, Signal::TERM).unwrap();
        wait_until(WITHIN, "the end of the mount", || {
            daemons_of(&mount.root).is_empty() && !is_mounted(&mount.root)
        });
        let stored = mount.client().get(mount.bucket(), "f");
        assert_eq!(stored.unwrap(), b"kept", "{after_ms} ms");
    }
}

#[test]
fn a_stop_that_reaches_a_successor_that_fails_ends_the_mount_by_its_successor() {
    let mount = SupervisedMount::start(Mount::builder());
    fs::write(mount.path("f"), b"kept").unwrap();
    let before = children(mount.supervisor());
    // No successor comes before the spool is held by somebody else.
    kill_process(mount.supervisor(), Signal::STOP).unwrap();
    kill_process(mount.daemon(), Signal::KILL).unwrap();
    let spool = mount.scratch().join("spool");
    let lock = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(spool.join("lock"))
        .unwrap();
    wait_until(WITHIN, "the spool's lock", || {
        flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    });
    lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
        .unwrap();
    // Who is not mounted is waited for.
    let (note, aside) = (spool.join("mount.json"), spool.join("aside"));
    fs::rename(&note, &aside).unwrap();
    kill_process(mount.supervisor(), Signal::CONT).unwrap();
    wait_until(WITHIN, "a successor that waits", || {
        mount.log().contains("still uploads what")
    });
    let after = children(mount.supervisor());
    let successor = after.difference(&before).next().copied().unwrap();
    let successor = Pid::from_raw(successor).unwrap();
    kill_process(successor, Signal::TERM).unwrap();
    // Who is mounted is not: the successor fails.
    fs::rename(&aside, &note).unwrap();
    wait_until(WITHIN, "the end of the successor", || {
        !children(mount.supervisor()).contains(&successor.as_raw_nonzero().get())
    });
    drop(lock);
    wait_until(WITHIN, "the end of the mount", || {
        daemons_of(&mount.root).is_empty() && !is_mounted(&mount.root)
    });
    let stored = mount.client().get(mount.bucket(), "f");
    assert_eq!(stored.unwrap(), b"kept");
}

fn children(of: Pid) -> BTreeSet<i32> {
    let of = of.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    let pids = children.split_whitespace();
    pids.map(|pid| pid.parse().unwrap()).collect()
}
