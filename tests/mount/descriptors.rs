//! Descriptors of the daemon: few, however many files wait for S3, and some left for
//! everything else where programs open more than there are.

use std::fs;
use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::rule::Rule;
use crate::support::{Amount, Mount, MountBuilder, SupervisedMount, Worker, wait_until};
use crate::support::{proxy::Fault, sys};

const WITHIN: Duration = Duration::from_secs(120);
/// What the daemon has open beside stages, and then some.
const OTHERS: usize = 150;

fn body(number: usize) -> Vec<u8> {
    format!("body {number} ")
        .repeat(1 + number % 40)
        .into_bytes()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn silent_for_puts(limit: u64) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    proxy.rule(Rule::on("PutObject", Fault::Answer(503, "SlowDown")).always());
    let plan = plan
        .set("--ttl", "1h")
        .args(["--durability", "disk", "--request-timeout", "10s"])
        .args(["--negative-ttl", "1h"])
        .open_files(limit);
    (plan, proxy)
}

/// Writes and closes so many files of a bucket that is known to be empty.
fn write_all(mount: &Mount, files: usize) {
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    for number in 0..files {
        fs::write(mount.path(format!("w-{number}")), body(number)).unwrap();
    }
}

fn all_arrive(mount: &Mount, files: usize) {
    wait_until(WITHIN, "every file in the bucket", || {
        mount.client().list(mount.bucket(), "w-").len() == files
    });
    for number in 0..files {
        let found = mount.object(&format!("w-{number}"));
        assert!(found.unwrap() == body(number), "w-{number}");
    }
    wait_until(WITHIN, "an empty spool", || {
        let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
        stages.count() == 0
    });
    assert!(mount.lost_and_found().is_empty());
}

fn wait_and_start_again(files: usize, limit: u64) {
    let (plan, proxy) = silent_for_puts(limit);
    let mut mount = plan.start();
    write_all(&mount, files);
    assert!(descriptors(mount.pid()) < OTHERS);
    mount.kill9();
    mount.remount();
    for number in [0, files / 2, files - 1] {
        let read = fs::read(mount.path(format!("w-{number}"))).unwrap();
        assert_eq!(read, body(number));
    }
    assert!(descriptors(mount.pid()) < OTHERS);
    proxy.heal();
    all_arrive(&mount, files);
}

#[test]
fn more_files_wait_for_s3_than_descriptors_are_allowed_and_a_new_start_brings_all_there() {
    let (files, limit) = Amount::of((900, 300), (5_000, 1_024));
    wait_and_start_again(files, limit);
}

#[test]
fn a_successor_takes_over_more_waiting_files_than_descriptors_are_allowed() {
    const FILES: usize = 500;
    let (plan, proxy) = silent_for_puts(300);
    let mount = SupervisedMount::start(plan);
    write_all(&mount, FILES);
    mount.kill_daemon();
    for number in [0, FILES / 2, FILES - 1] {
        let read = fs::read(mount.path(format!("w-{number}"))).unwrap();
        assert_eq!(read, body(number));
    }
    let daemon = mount.daemon().as_raw_nonzero().get();
    assert!(descriptors(daemon as u32) < OTHERS);
    proxy.heal();
    all_arrive(&mount, FILES);
}

/// A reader that opened the file while it waited goes on once it is uploaded.
#[test]
fn a_reader_of_a_file_that_waited_for_s3_reads_on_after_its_upload() {
    let (plan, proxy) = silent_for_puts(300);
    let mount = plan.start();
    write_all(&mount, 3);
    let file = sys::open(mount.path("w-2"), libc::O_RDONLY).unwrap();
    proxy.heal();
    all_arrive(&mount, 3);
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut &file, &mut seen).unwrap();
    assert_eq!(seen.into_bytes(), body(2));
}

/// Opens new files until that fails, and returns how many and why.
fn open_until_refused(worker: &mut Worker, bound: usize) -> (usize, i32) {
    worker.run("fds = []").unwrap();
    for number in 0..bound {
        let open =
            format!("fds.append(os.open('f{number}', os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644))");
        if let Err(errno) = worker.run(&open) {
            return (number, errno);
        }
        worker.run("os.write(fds[-1], b'bytes of it')").unwrap();
    }
    (bound, 0)
}

#[test]
fn an_open_beyond_the_limit_is_enfile_and_everything_else_goes_on() {
    for durability in ["s3", "disk"] {
        let plan = Mount::builder().args(["--durability", durability]);
        let mount = plan.open_files(160).start();
        fs::write(mount.path("closed"), b"before").unwrap();
        mount.put_object("theirs", b"from another client");
        let mut worker = Worker::at(&mount.root);
        let (opened, errno) = open_until_refused(&mut worker, 200);
        assert_eq!(errno, libc::ENFILE, "after {opened}");
        assert!(opened >= 40, "{opened}");
        assert!(
            !mount.path(format!("f{opened}")).exists(),
            "nothing is left of a file that could not be opened"
        );
        // What needs a descriptor for a moment, or a connection to S3, still works.
        mount.wait_for("theirs", "another client's object", |path| {
            fs::read(path).is_ok_and(|read| read == b"from another client")
        });
        worker.run("os.fsync(fds[0])").unwrap();
        assert_eq!(fs::read(mount.path("f0")).unwrap(), b"bytes of it");
        // The fsync has given one back.
        drop(sys::open(mount.path("closed"), libc::O_WRONLY | libc::O_TRUNC).unwrap());
        worker
            .run("[(os.pwrite(fd, b'BYTES', 0), os.close(fd)) for fd in fds]")
            .unwrap();
        for number in 0..opened {
            wait_until(WITHIN, "every closed file in the bucket", || {
                mount.object(&format!("f{number}")).as_deref() == Some(b"BYTES of it")
            });
        }
        fs::write(mount.path("later"), b"room again").unwrap();
        assert_eq!(fs::read(mount.path("later")).unwrap(), b"room again");
    }
}
