//! The helper process that tells the kernel what to drop is killed, or stopped.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::blocked::{anything_stuck, block};
use crate::support::{Mount, MountBuilder, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn plan(plan: MountBuilder) -> MountBuilder {
    plan.set("--ttl", "500ms")
        .args(["--watchdog", "4s"])
        .env("_MEDIAFS_NOTIFY_IN_CONTAINER", "1")
}

fn notifier(mount: &SupervisedMount) -> Option<Pid> {
    mount.processes("notifier").first().copied()
}

/// What another client does to a file is seen, and so is what is written here.
#[track_caller]
fn all_goes_on(mount: &SupervisedMount, round: &str) {
    mount.put_object("theirs", round.as_bytes());
    mount.wait_for("theirs", "what another client put", |path| {
        fs::read(path).is_ok_and(|bytes| bytes == round.as_bytes())
    });
    fs::write(mount.path("ours"), round).unwrap();
    assert_eq!(mount.object("ours").unwrap(), round.as_bytes());
}

#[test]
fn a_notifier_that_is_killed_is_started_again_and_the_mount_goes_on() {
    let mount = SupervisedMount::start(plan(Mount::builder()));
    let daemon = mount.daemon();
    for round in ["first", "second"] {
        let killed = notifier(&mount).unwrap();
        kill_process(killed, Signal::KILL).unwrap();
        all_goes_on(&mount, round);
        wait_until(WITHIN, "another notifier", || {
            notifier(&mount).is_some_and(|pid| pid != killed)
        });
        all_goes_on(&mount, round);
        assert_eq!(mount.daemon(), daemon);
    }
    mount.kill_daemon();
    all_goes_on(&mount, "after a takeover");
    mount.unmount();
}

#[test]
fn one_that_is_killed_while_it_waits_for_a_directory_keeps_nobody_waiting() {
    let (behind, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(plan(behind));
    let (mut calls, gate) = block(&mount, &proxy);
    kill_process(notifier(&mount).unwrap(), Signal::KILL).unwrap();
    all_goes_on(&mount, "the notifier cannot end");
    mount.kill_daemon();
    gate.open();
    calls.released();
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"of another client");
    all_goes_on(&mount, "after a takeover");
    assert!(!anything_stuck(&mount.root));
    drop(calls);
    mount.unmount();
}

#[test]
fn one_that_is_stopped_is_replaced_with_its_daemon() {
    let mount = SupervisedMount::start(plan(Mount::builder()));
    let (daemon, stopped) = (mount.daemon(), notifier(&mount).unwrap());
    kill_process(stopped, Signal::STOP).unwrap();
    mount.wait_for_successor(daemon);
    all_goes_on(&mount, "by the successor");
    kill_process(stopped, Signal::CONT).ok();
    mount.unmount();
}
