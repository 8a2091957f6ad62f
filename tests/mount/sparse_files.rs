//! Files that are mostly holes: zeros are sent once and copied inside S3, and an
//! upload of many can be stopped.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::sys::errno;
use crate::support::{DURABILITIES, Mount, MountBuilder, Worker, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// A program that is killed, and a removal, are done within: less than a request has.
const AT_ONCE: Duration = Duration::from_secs(25);
const TIB: u64 = 1 << 40;
const LEN: usize = 120 * MIB;

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .set("--ttl", "1h")
        .args(["--part-size", "5MiB", "--copy-part-size", "16MiB"])
        .args(["--request-timeout", "100s"])
        .durability(durability);
    (plan, proxy)
}

/// Bytes in the bodies of requests.
fn sent(proxy: &Proxy) -> usize {
    let lengths = ["PutObject", "UploadPart"].map(|op| proxy.lengths(op));
    lengths.concat().iter().sum()
}

/// A file with two islands in the middle and a short one at its end, and its bytes.
fn islands(file: &File) -> Vec<u8> {
    let mut body = vec![0; LEN];
    file.set_len(LEN as u64).unwrap();
    for (at, len) in [(33 * MIB + 5, 3 * MIB), (70 * MIB, 7 * KIB), (LEN - 9, 9)] {
        let data = pattern(len, at as u64);
        file.write_all_at(&data, at as u64).unwrap();
        body[at..at + len].copy_from_slice(&data);
    }
    body
}

/// The object is there, and nothing else.
#[track_caller]
fn only_the_file(mount: &Mount, want: &[u8]) {
    wait_until(WITHIN, "the object", || {
        mount.keys() == ["f"]
            && mount
                .object("f")
                .is_some_and(|body| body.len() == want.len())
    });
    assert_same_bytes(&mount.object("f").unwrap(), want, "the object");
    nothing_unfinished(mount);
}

#[track_caller]
fn nothing_unfinished(mount: &Mount) {
    wait_until(WITHIN, "no unfinished upload", || {
        mount.client().unfinished_uploads(mount.bucket()).is_empty()
    });
}

#[test]
fn holes_are_sent_once_and_copied() {
    for durability in DURABILITIES {
        for attributes in ["fixed", "stored"] {
            let (plan, proxy) = behind_a_proxy(durability);
            let mount = plan.args(["--attributes", attributes]).start();
            let before = sent(&proxy);
            let file = File::create(mount.path("f")).unwrap();
            let body = islands(&file);
            drop(file);
            only_the_file(&mount, &body);
            let sent = sent(&proxy) - before;
            assert!(sent <= 30 * MIB, "{sent} bytes sent");
            assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "read");
        }
    }
}

#[test]
fn a_hole_that_an_edit_makes_in_an_object_is_copied_too() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let mut body = pattern(11 * MIB, 1);
    fs::write(mount.path("f"), &body).unwrap();
    let before = sent(&proxy);
    let file = File::options().write(true).open(mount.path("f")).unwrap();
    file.set_len(LEN as u64).unwrap();
    drop(file);
    body.resize(LEN, 0);
    only_the_file(&mount, &body);
    let sent = sent(&proxy) - before;
    assert!(sent <= 20 * MIB, "{sent} bytes sent");
}

#[test]
fn a_store_that_does_not_copy_parts_is_sent_the_zeros() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let refused = Fault::Answer(501, "NotImplemented");
    proxy.rule(Rule::on("UploadPartCopy", refused).always());
    let file = File::create(mount.path("f")).unwrap();
    let body = islands(&file);
    drop(file);
    only_the_file(&mount, &body);
}

#[test]
fn a_kill_of_the_daemon_among_copies_leaves_no_scratch_object_and_no_byte_is_lost() {
    for copies in [2, 6] {
        let (plan, proxy) = behind_a_proxy("disk");
        let mut mount = plan.start();
        let rule = Rule::on("UploadPartCopy", Fault::Pass);
        let gate = proxy.hold(Side::BeforeServer, rule.after(copies).always());
        let file = File::create(mount.path("f")).unwrap();
        let body = islands(&file);
        drop(file);
        gate.wait_for(1);
        mount.kill9();
        gate.open();
        proxy.wait_until_idle();
        mount.remount();
        only_the_file(&mount, &body);
    }
}

/// A process that has made a file of many holes, and the gate that its copies wait at.
fn giant(mount: &Mount, proxy: &Proxy) -> (Worker, Gate) {
    let rule = Rule::on("UploadPartCopy", Fault::Pass).key("f").always();
    let gate = proxy.hold(Side::BeforeServer, rule);
    let mut worker = Worker::at(&mount.root);
    worker
        .run("fd = os.open('f', os.O_WRONLY | os.O_CREAT)")
        .unwrap();
    worker.run("os.truncate(fd, 1 << 37)").unwrap();
    worker.run("os.pwrite(fd, b'precious', 1 << 30)").unwrap();
    (worker, gate)
}

/// As if nothing had been uploaded.
#[track_caller]
fn nothing_comes_of_it(mount: &Mount, proxy: &Proxy) {
    proxy.wait_until_idle();
    mount.wait_for_keys("nothing", <[String]>::is_empty);
    nothing_unfinished(mount);
    assert!(sent(proxy) < 64 * MIB, "{} bytes sent", sent(proxy));
}

/// Removes the file while its last close waits at the gate.
#[track_caller]
fn rm_ends_the_close(mut mount: Mount, proxy: &Proxy, mut worker: Worker, gate: &Gate) {
    worker.begin("os.close(fd)");
    gate.wait_for(1);
    let began = Instant::now();
    fs::remove_file(mount.path("f")).unwrap();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    worker.answer("os.close(fd)").unwrap();
    drop(worker);
    gate.open();
    nothing_comes_of_it(&mount, proxy);
    mount.unmount();
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn rm_stops_the_upload_of_many_holes() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let (worker, gate) = giant(&mount, &proxy);
        rm_ends_the_close(mount, &proxy, worker, &gate);
    }
}

#[test]
fn the_end_of_a_killed_writer_stops_the_upload_of_many_holes() {
    for durability in DURABILITIES {
        for in_close in [true, false] {
            // A close that has returned is not taken back.
            if in_close && durability == "disk" {
                continue;
            }
            let (plan, proxy) = behind_a_proxy(durability);
            let mut mount = plan.start();
            let (mut worker, gate) = giant(&mount, &proxy);
            if in_close {
                worker.begin("os.close(fd)");
                gate.wait_for(1);
            }
            worker.end_by(Signal::KILL, AT_ONCE);
            wait_until(WITHIN, "the bytes in lost+found", || {
                mount.sidecars().len() == 1
            });
            let sidecar = &mount.sidecars()[0];
            assert!(sidecar.contains("killed"), "{sidecar}");
            gate.open();
            nothing_comes_of_it(&mount, &proxy);
            assert!(!mount.path("f").exists());
            mount.unmount();
        }
    }
}

#[test]
fn a_killed_process_that_shares_the_descriptor_does_not_stop_the_upload() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let (mut worker, gate) = giant(&mount, &proxy);
        let dies = "(os.write(fd, b'child'), os.kill(os.getpid(), 9))";
        worker
            .run(&format!(
                "child = os.fork() or {dies}; os.waitpid(child, 0)"
            ))
            .unwrap();
        worker.run("os.pwrite(fd, b'more', 2 << 30)").unwrap();
        rm_ends_the_close(mount, &proxy, worker, &gate);
    }
}

#[test]
fn what_is_synced_over_a_hole_that_waits_needs_no_room_for_it() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mut mount = plan.args(["--spool-size", "64MiB"]).start();
    let rule = Rule::on("*", Fault::Pass).key("f").always();
    let gate = proxy.hold(Side::BeforeServer, rule);
    let file = File::create(mount.path("f")).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    file.sync_all().unwrap();
    gate.wait_for(1);
    for round in 1..4_u64 {
        file.set_len(round * TIB).unwrap();
        file.sync_all().unwrap();
        file.write_all_at(b"more", round << 20).unwrap();
        file.sync_all().unwrap();
    }
    file.set_len(4 << 20).unwrap();
    drop(file);
    let mut want = vec![0; 4 << 20];
    want[..5].copy_from_slice(b"first");
    for round in 1..4 {
        want[round << 20..(round << 20) + 4].copy_from_slice(b"more");
    }
    gate.open();
    only_the_file(&mount, &want);
    mount.unmount();
}

#[test]
fn a_file_longer_than_an_object_can_be_is_too_large() {
    let (plan, _proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let file = File::create(mount.path("f")).unwrap();
    let limit = 10_000 * (5_u64 << 30);
    file.set_len(limit).unwrap();
    assert_eq!(errno(file.set_len(limit + 1)), libc::EFBIG);
    assert_eq!(errno(file.write_at(b"x", limit)), libc::EFBIG);
    // Longer than a file of the spool's file system may be.
    if let Err(error) = file.write_at(b"x", 17 * TIB) {
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    }
    file.write_all_at(b"goes on", 0).unwrap();
    fs::remove_file(mount.path("f")).unwrap();
}
