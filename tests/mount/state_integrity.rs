//! What a daemon leaves for its successor and the disk changes: never zeros, never
//! old bytes, and the bytes are kept.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::processes::stop;
use crate::support::{Mount, SupervisedMount, Worker, python, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Of a frame: length, kind, number and a checksum. Source: src/record_log/frame.rs.
const HEAD_BYTES: usize = 17;
const CHECK_BYTES: usize = 4;
/// What stands between the header line and the first frame.
const END_BYTES: usize = 12;
/// Kinds of records. Source: src/handover/encode.rs.
const SESSION: u8 = 1;
const WROTE: u8 = 12;

/// Kills the daemon, and has its successor find what `change` makes of the spool.
fn change_between(mount: &SupervisedMount, change: impl FnOnce()) {
    let (supervisor, old) = (mount.supervisor(), mount.daemon());
    stop(supervisor);
    kill_process(old, Signal::KILL).unwrap();
    wait_until(WITHIN, "the death of the daemon", || {
        !mount.processes("mount").contains(&old)
    });
    change();
    kill_process(supervisor, Signal::CONT).unwrap();
    mount.wait_for_successor(old);
}

/// Where the records of a session file begin and end; zeros follow.
fn records(bytes: &[u8]) -> std::ops::Range<usize> {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let end = u64::from_le_bytes(bytes[line + 1..line + 9].try_into().unwrap());
    line + 1 + END_BYTES..end as usize
}

/// Flips a bit in the payload of the last record of a kind.
fn flip_in_session(mount: &SupervisedMount, kind: u8) {
    let path = mount.scratch().join("spool/session");
    let mut bytes = fs::read(&path).unwrap();
    let std::ops::Range { start: mut at, end } = records(&bytes);
    let mut found = None;
    while at < end {
        let len = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        if bytes[at + 4] == kind {
            found = Some(at + HEAD_BYTES);
        }
        at += HEAD_BYTES + len as usize + CHECK_BYTES;
    }
    bytes[found.unwrap()] ^= 1;
    fs::write(&path, bytes).unwrap();
}

fn only_stage(mount: &SupervisedMount) -> PathBuf {
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    let mut stages: Vec<_> = stages.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(stages.len(), 1, "{stages:?}");
    stages.remove(0)
}

/// The file answers with an error and its bytes are kept, with a reason.
fn is_kept_and_not_uploaded(
    mount: &SupervisedMount,
    worker: &mut Worker,
    bytes: &[u8],
    reason: &str,
) {
    let write = worker.run("os.write(fd, b'more')");
    let close = worker.run("os.close(fd)");
    assert_eq!(close, Err(libc::EIO), "write was {write:?}");
    assert!(mount.object("f").is_none(), "nothing of it is in S3");
    wait_until(WITHIN, "the bytes in lost+found", || {
        let kept = mount.lost_and_found();
        kept.len() == 1 && kept[0].starts_with(bytes)
    });
    let sidecar = &mount.sidecars()[0];
    assert!(
        sidecar.contains(reason) && sidecar.contains("\"f\""),
        "{sidecar}"
    );
}

/// The session is over, the bytes are kept, and there is a mount.
fn ends_anew(mount: &SupervisedMount, worker: &mut Worker) {
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found() == [b"half"]
    });
    assert_eq!(worker.run("os.write(fd, b'x')"), Err(libc::ENOTCONN));
    wait_until(WITHIN, "the mount anew", || {
        fs::write(mount.path("new"), b"new").is_ok() && mount.object("new").is_some()
    });
}

#[test]
fn a_flipped_record_of_a_write_costs_its_file_and_no_other() {
    let mount = SupervisedMount::start(Mount::builder());
    let mut other = Worker::at(&mount.root);
    other.write_new("g", "before ");
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "first ");
    worker.run("os.write(fd, b'second ')").unwrap();
    change_between(&mount, || flip_in_session(&mount, WROTE));
    worker.run("r = os.open('f', os.O_RDONLY)").unwrap();
    assert_eq!(worker.run("os.pread(r, 6, 0)"), Err(libc::EIO));
    worker.run("os.close(r)").unwrap();
    let reason = "the disk has changed";
    is_kept_and_not_uploaded(&mount, &mut worker, b"first second ", reason);
    other
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object("g").unwrap(), b"before and after");
    drop((worker, other));
    mount.unmount();
}

#[test]
fn a_flipped_record_that_may_concern_any_file_ends_the_session_with_a_clear_word() {
    let mount = SupervisedMount::start(Mount::builder());
    let mut worker = Worker::at(&mount.scratch().join("mnt"));
    worker.write_new("f", "half");
    change_between(&mount, || flip_in_session(&mount, SESSION));
    ends_anew(&mount, &mut worker);
    assert!(mount.log().contains("is damaged"), "{}", mount.log());
    assert!(mount.sidecars()[0].contains("is damaged"));
    assert!(mount.object("f").is_none());
    drop(worker);
    mount.unmount();
}

#[test]
fn bytes_that_the_disk_changed_in_an_open_stage_are_not_taken_for_what_was_written() {
    for shape in [
        "os.write(fd, b'x' * 300000)",
        // Parts of blocks are written over, cut off and made holes.
        "os.write(fd, b'x' * 300000); os.pwrite(fd, b'y' * 1000, 5000); os.ftruncate(fd, 250000)",
    ] {
        let mount = SupervisedMount::start(Mount::builder());
        let mut worker = Worker::at(&mount.root);
        worker.write_new("f", "begun ");
        worker.run(shape).unwrap();
        // Unchanged, it is resumed.
        mount.kill_daemon();
        worker.run("os.pwrite(fd, b'z', 7000)").unwrap();
        change_between(&mount, || {
            let stage = only_stage(&mount);
            let mut bytes = fs::read(&stage).unwrap();
            bytes[200_000] ^= 4;
            fs::write(&stage, bytes).unwrap();
        });
        let reason = "checksum";
        is_kept_and_not_uploaded(&mount, &mut worker, b"begun x", reason);
        drop(worker);
        mount.unmount();
    }
}

#[test]
fn a_session_file_that_was_cut_is_refused() {
    let mount = SupervisedMount::start(Mount::builder());
    let mut worker = Worker::at(&mount.scratch().join("mnt"));
    worker.write_new("f", "half");
    change_between(&mount, || {
        let path = mount.scratch().join("spool/session");
        let end = records(&fs::read(&path).unwrap()).end;
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_len(end as u64 - 1).unwrap();
    });
    ends_anew(&mount, &mut worker);
    drop(worker);
    mount.unmount();
}

/// Writes over a file at random and compares what it reads, until its input ends;
/// then tells what it wrote.
const OVERWRITER: &str = r"
import os, random, select, sys
random.seed(7)
fd = os.open('f', os.O_RDWR | os.O_CREAT)
want = bytearray()
while not select.select([sys.stdin], [], [], 0)[0]:
    at = random.randrange(400000)
    if random.random() < 0.05:
        os.ftruncate(fd, at)
        want = want[:at].ljust(at, b'\0')
    else:
        data = bytes([random.randrange(1, 256)]) * random.randrange(1, 70000)
        assert os.pwrite(fd, data, at) == len(data)
        want = want.ljust(at + len(data), b'\0')
        want[at:at + len(data)] = data
    at = random.randrange(400000)
    assert os.pread(fd, 50000, at) == want[at:at + 50000]
os.close(fd)
sys.stdout.buffer.write(want)
";

#[test]
fn kills_amid_overwrites_leave_every_byte_as_it_was_answered() {
    const KILLS: usize = 12;
    let mount = SupervisedMount::start(Mount::builder());
    let mut worker = Command::new(python())
        .args(["-c", OVERWRITER])
        .current_dir(&mount.root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut random = fastrand::Rng::with_seed(21);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.u64(20..150)));
        mount.kill_daemon();
    }
    drop(worker.stdin.take());
    let output = worker.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", mount.log());
    assert!(mount.object("f").unwrap() == output.stdout);
    assert!(mount.lost_and_found().is_empty(), "{:?}", mount.sidecars());
    mount.unmount();
}
