//! Files that are synced again and again while their upload is stuck: the spool's
//! disk takes a small multiple of what is written, whatever is there already.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, SupervisedMount, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const APPENDS: usize = 300;
const APPEND_BYTES: usize = 64 * KIB;

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .set("--ttl", "1h")
        .args(["--durability", "disk", "--request-timeout", "300s"]);
    (plan, proxy)
}

/// Whatever would bring bytes of a file to S3.
fn stuck(proxy: &Proxy) -> Gate {
    proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("f").always(),
    )
}

/// What a process has written: `wchar`, in calls, to the kernel and to S3 too; and
/// `write_bytes`, in pages that go to a disk. Source: proc_pid_io(5).
fn written_by(pid: u32, counter: &str) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let mut lines = io.lines().filter_map(|line| line.split_once(": "));
    let (_, bytes) = lines.find(|(name, _)| *name == counter).unwrap();
    bytes.parse().unwrap()
}

#[track_caller]
fn stored(mount: &Mount, want: &[u8]) {
    wait_until(WITHIN, "all of it in S3", || {
        mount.object("f").is_some_and(|body| body == want)
    });
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), want, "read");
    assert!(mount.lost_and_found().is_empty());
}

/// A file whose first version is on its way to S3.
fn begun(path: &Path, gate: &Gate) -> (File, Vec<u8>) {
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap();
    let body = pattern(100, 1);
    file.write_all_at(&body, 0).unwrap();
    file.sync_all().unwrap();
    gate.wait_for(1);
    (file, body)
}

fn append(mut file: &File, body: &mut Vec<u8>, seed: usize) {
    let more = pattern(APPEND_BYTES, seed as u64);
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(&more).unwrap();
    file.sync_all().unwrap();
    body.extend(more);
}

#[test]
fn appends_that_are_synced_while_the_upload_is_stuck_cost_the_disk_what_they_are_long() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let gate = stuck(&proxy);
    let (file, mut body) = begun(&mount.path("f"), &gate);
    let counters = ["wchar", "write_bytes"];
    let before = counters.map(|counter| written_by(mount.pid(), counter));
    for seed in 0..APPENDS {
        append(&file, &mut body, seed);
    }
    let appended = (APPENDS * APPEND_BYTES) as u64;
    for (counter, before) in counters.into_iter().zip(before) {
        let written = written_by(mount.pid(), counter) - before;
        assert!(
            written <= 3 * appended,
            "{counter}: {written} bytes for {appended} appended"
        );
    }
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "read");
    let spool = mount.scratch().join("spool/stage");
    assert!(fs::read_dir(spool).unwrap().count() <= 2, "stages");
    drop(file);
    gate.open();
    stored(&mount, &body);
}

#[test]
fn rewritten_pages_and_cuts_that_are_synced_while_the_upload_is_stuck_cost_no_more() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let gate = stuck(&proxy);
    let (file, mut body) = begun(&mount.path("f"), &gate);
    append(&file, &mut body, 7);
    let base = pattern(4 * MIB, 2);
    file.write_all_at(&base, 0).unwrap();
    file.sync_all().unwrap();
    body = base;
    // Pages do not tell: a write to part of a large folio counts as all of it.
    let before = written_by(mount.pid(), "wchar");
    let mut random = fastrand::Rng::with_seed(3);
    let mut changed = 0;
    for round in 0..200 {
        let at = random.usize(0..body.len());
        let page = pattern(random.usize(1..16 * KIB), round);
        if round % 20 == 19 {
            let len = body.len() - random.usize(0..8 * KIB);
            file.set_len(len as u64).unwrap();
            body.truncate(len);
        }
        body.resize(body.len().max(at + page.len()), 0);
        body[at..at + page.len()].copy_from_slice(&page);
        file.write_all_at(&page, at as u64).unwrap();
        file.sync_all().unwrap();
        changed += page.len() as u64;
    }
    let written = written_by(mount.pid(), "wchar") - before;
    assert!(
        written <= 3 * changed,
        "{written} bytes for {changed} changed"
    );
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "read");
    drop(file);
    gate.open();
    stored(&mount, &body);
}

#[test]
fn a_kill_among_synced_appends_loses_none_of_them() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    let gate = stuck(&proxy);
    let (file, mut body) = begun(&mount.path("f"), &gate);
    for seed in 0..20 {
        append(&file, &mut body, seed);
    }
    mount.kill9();
    drop(file);
    mount.remount();
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "after a kill");
    let file = File::options().write(true).open(mount.path("f")).unwrap();
    for seed in 20..40 {
        append(&file, &mut body, seed);
    }
    drop(file);
    gate.open();
    stored(&mount, &body);
}

#[test]
fn a_takeover_among_synced_appends_loses_none_of_them() {
    let (plan, proxy) = behind_a_proxy();
    let mount = SupervisedMount::start(plan);
    let gate = stuck(&proxy);
    let (file, mut body) = begun(&mount.path("f"), &gate);
    for round in 0..4 {
        for seed in 0..10 {
            append(&file, &mut body, round * 10 + seed);
        }
        // Not synced, and not lost either.
        let more = pattern(1000, round as u64);
        file.write_all_at(&more, body.len() as u64).unwrap();
        body.extend(more);
        mount.kill_daemon();
        assert_same_bytes(
            &fs::read(mount.path("f")).unwrap(),
            &body,
            "after a takeover",
        );
    }
    drop(file);
    gate.open();
    stored(&mount, &body);
    mount.unmount();
}

#[test]
fn a_takeover_in_the_middle_of_a_sync_loses_nothing_and_the_sync_succeeds() {
    for point in ["absorb_journaled", "absorb_copied", "absorb_synced"] {
        let (plan, proxy) = behind_a_proxy();
        let mount =
            SupervisedMount::start(plan.env("FAILPOINTS", format!("{point}=7*off->return")));
        let gate = stuck(&proxy);
        let (file, mut body) = begun(&mount.path("f"), &gate);
        let first = mount.daemon();
        for seed in 0..24 {
            append(&file, &mut body, seed);
        }
        assert_ne!(mount.daemon(), first, "{point}: nobody died");
        assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, point);
        drop(file);
        gate.open();
        stored(&mount, &body);
        mount.unmount();
    }
}

#[test]
fn a_removal_and_a_rename_among_synced_appends_take_all_of_them() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    let gate = stuck(&proxy);
    for name in ["gone", "moved"] {
        let (file, mut body) = begun(&mount.path("f"), &gate);
        for seed in 0..5 {
            append(&file, &mut body, seed);
        }
        if name == "gone" {
            fs::remove_file(mount.path("f")).unwrap();
        } else {
            fs::rename(mount.path("f"), mount.path("g")).unwrap();
        }
        for seed in 5..10 {
            append(&file, &mut body, seed);
        }
        let mut seen = vec![0; body.len()];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_same_bytes(&seen, &body, name);
        drop(file);
        if name == "moved" {
            gate.open();
            wait_until(WITHIN, "g", || mount.object("g").as_deref() == Some(&body));
        }
    }
    proxy.wait_until_idle();
    mount.wait_for_keys("one name", |keys| keys == ["g"]);
    mount.signal(Signal::TERM);
    assert!(mount.wait_for_exit().success());
    assert!(mount.lost_and_found().is_empty());
}
