//! The power goes at any time: with `--durability=disk` every file whose close(2)
//! or fsync(2) returned is there, exactly, when it is back.
//!
//! The spool lies on a disk of the test's own (`power/disk.rs`), which keeps what
//! was synced and forgets the rest, all of it or each change by a coin. The power
//! goes for the daemon at the same moment: what it had asked of S3 has happened or not.

mod disk;
mod overlay;
mod rename;
mod served;

use std::collections::VecDeque;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::mount::{Mount, detach};
use crate::support::programs::happens_within;
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Server, pattern, wait_until};
use crate::workload::{Tree, Workload, read_tree};
use disk::{Disk, Survives};
use rustix::process::Pid;

const CUTS: u64 = 12;
/// A start of the daemon is done with its journal after some fewer.
const START_CUTS: u64 = 8;
const CASES_AT_ONCE: usize = 4;
const POWER_GOES_WITHIN: Duration = Duration::from_secs(60);
/// Until what is closed is in S3, about.
const BACKGROUND: Duration = Duration::from_secs(5);

/// A workload until the power goes.
fn run(cut: Option<u64>, survives: Survives) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::mount(folder.path());
    let mut mount = Mount::on(Server::shared())
        .args(["--durability", "disk", "--part-size", "5MiB"])
        .args(["--negative-ttl", "1h"])
        .set("--ttl", "1h")
        .set("--spool", folder.path().join("spool"))
        .start();
    let began = disk.operations();
    if let Some(cut) = cut {
        disk.cut_at(began + cut, Pid::from_raw(mount.pid() as i32));
    }
    let mut work = Workload::at(&mount.root);
    let outcome = work.run().and_then(|()| work.finish());
    if cut.is_none() {
        outcome.unwrap();
        return disk.operations() - began;
    }
    lose_power(&mut mount, disk, survives, &work, outcome);
    let seen = read_tree(&mount.root).unwrap();
    work.check(&seen).unwrap();
    mount.unmount();
    check_what_is_left(&mount, &seen);
    0
}

/// Waits until the power is gone, and mounts what the disk has kept then.
fn lose_power<E>(
    mount: &mut Mount,
    disk: Disk,
    survives: Survives,
    work: &Workload,
    outcome: Result<(), E>,
) {
    // What the daemon does in the background reaches the operation too. There are
    // fewer where uploads are slow, since a later version overtakes the one before.
    if outcome.is_ok() && !happens_within(BACKGROUND, || disk.is_off()) {
        mount.kill9();
        disk.cut();
    } else {
        wait_until(POWER_GOES_WITHIN, "the power to go", || disk.is_off());
        mount.wait_for_exit();
    }
    detach(&mount.root);
    work.check_objects(&objects(mount)).unwrap();
    disk.write_image(mount.scratch(), survives);
    drop(disk);
    mount.change_arg("--spool", mount.scratch().join("spool"));
    mount.remount();
}

fn check_what_is_left(mount: &Mount, seen: &Tree) {
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    assert_eq!(stages.count(), 0, "stages after a drain");
    for sidecar in mount.sidecars() {
        assert!(sidecar.contains("before the file was closed"), "{sidecar}");
    }
    assert!(objects(mount) == *seen, "the bucket has something else");
}

/// Every file that another client sees.
fn objects(mount: &Mount) -> Tree {
    let keys = mount.keys().into_iter().filter(|key| !key.ends_with('/'));
    let found = keys.filter_map(|key| mount.object(&key).map(|body| (key, body)));
    found.collect()
}

#[test]
fn what_close_or_fsync_acknowledged_outlives_the_loss_of_power_at_any_time() {
    let total = run(None, Survives::Nothing);
    let cuts = (0..CUTS).map(|number| number * total / CUTS);
    for_each(cuts, |cut, survives| {
        run(Some(cut), survives);
    });
    println!("power loss: {} cuts in {total} operations", 2 * CUTS);
}

/// Files that were closed while S3 took none; then the power goes while the next
/// daemon starts.
fn run_start(cut: u64, survives: Survives) {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::mount(folder.path());
    let proxy = Proxy::before(Server::shared());
    let mut mount = Mount::on(Server::shared())
        .args(["--durability", "disk", "--negative-ttl", "1h"])
        .set("--endpoint-url", &proxy.endpoint)
        .set("--ttl", "1h")
        .set("--spool", folder.path().join("spool"))
        .start();
    proxy.fail("PutObject", Fault::Reset, usize::MAX);
    let mut written = Tree::new();
    for number in 0..4 {
        let (name, body) = (number.to_string(), pattern(2000 + number, number as u64));
        fs::write(mount.path(&name), &body).unwrap();
        written.insert(name, body);
    }
    mount.kill9();
    proxy.heal();
    disk.cut_at(disk.operations() + cut, None);
    if mount.try_start() {
        mount.kill9();
    } else {
        mount.wait_for_exit();
    }
    disk.cut();
    disk.write_image(mount.scratch(), survives);
    drop(disk);
    mount.change_arg("--spool", mount.scratch().join("spool"));
    mount.remount();
    let seen = read_tree(&mount.root).unwrap();
    assert!(seen == written, "{:?}", seen.keys());
    mount.unmount();
    check_what_is_left(&mount, &seen);
}

#[test]
fn what_was_closed_outlives_the_loss_of_power_while_a_successor_starts() {
    for_each(0..START_CUTS, run_start);
}

/// Every case, some at once; fails with all that failed.
fn for_each(cuts: impl Iterator<Item = u64>, case: impl Fn(u64, Survives) + Sync) {
    let cases = cuts.flat_map(|cut| {
        let coin = Survives::Some { seed: cut };
        [(cut, Survives::Nothing), (cut, coin)]
    });
    let queue: Mutex<VecDeque<_>> = Mutex::new(cases.collect());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..CASES_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some((cut, survives)) = next else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(cut, survives))) {
                        let text = panic.downcast_ref::<String>().cloned();
                        let why = text.unwrap_or_default();
                        failed
                            .lock()
                            .unwrap()
                            .push(format!("{cut} {survives:?}: {why}"));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
