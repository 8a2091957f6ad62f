//! The helper process that tells the kernel what to drop is killed, or stopped.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::blocked::{anything_stuck, block};
use crate::support::{Mount, MountBuilder, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Soon enough for a test; a machine that stands still for as long costs a daemon.
const WATCHED: [&str; 2] = ["--watchdog", "4s"];

fn plan(plan: MountBuilder) -> MountBuilder {
    plan.set("--ttl", "500ms")
        .env("_MEDIAFS_NOTIFY_IN_CONTAINER", "1")
}

/// Waits for one that is not this.
#[track_caller]
fn notifier_but(mount: &SupervisedMount, not: Option<Pid>) -> Pid {
    let mut found = None;
    wait_until(WITHIN, "a notifier", || {
        let mut all = mount.processes("notifier").into_iter();
        found = all.find(|pid| Some(*pid) != not);
        found.is_some()
    });
    found.unwrap()
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
    let mut killed = None;
    for round in ["first", "second"] {
        let notifier = notifier_but(&mount, killed);
        kill_process(notifier, Signal::KILL).unwrap();
        all_goes_on(&mount, round);
        notifier_but(&mount, Some(notifier));
        killed = Some(notifier);
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
    let mount = SupervisedMount::start(plan(behind).args(WATCHED));
    let (mut calls, gate) = block(&mount, &proxy);
    kill_process(notifier_but(&mount, None), Signal::KILL).unwrap();
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
    let mount = SupervisedMount::start(plan(Mount::builder()).args(WATCHED));
    let (daemon, stopped) = (mount.daemon(), notifier_but(&mount, None));
    kill_process(stopped, Signal::STOP).unwrap();
    mount.wait_for_successor(daemon);
    all_goes_on(&mount, "by the successor");
    kill_process(stopped, Signal::CONT).ok();
    mount.unmount();
}
