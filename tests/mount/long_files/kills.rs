//! The daemon dies while parts of a file are in S3 alone.

use std::fs;

use super::{SPOOL, WITHIN, behind_a_proxy, kept_with_what_is_missing, long_file, nothing_is_left};
use crate::support::data::assert_same_bytes;
use crate::support::proxy::{Fault, Side};
use crate::support::rule::Rule;
use crate::support::{
    DURABILITIES, Mount, SupervisedMount, Worker, pattern, sha256, sys, wait_until,
};

/// Writes what it is given of a pattern, in another process.
const PYTHON: &str = "def more(start, end):\n    at = start\n    while at < end: at += os.write(fd, body[at:min(at + 1048576, end)])\n";

fn python_writer(mount: &Mount, body: &[u8]) -> Worker {
    let source = mount.scratch().join("body");
    fs::write(&source, body).unwrap();
    let mut worker = Worker::at(&mount.root);
    worker.run(&format!("exec({PYTHON:?})")).unwrap();
    worker
        .run(&format!("body = open({source:?}, 'rb').read()"))
        .unwrap();
    worker
        .run("fd = os.open('f', os.O_RDWR | os.O_CREAT)")
        .unwrap();
    worker
}

#[test]
fn a_successor_goes_on_with_a_file_of_which_parts_have_left_the_spool() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability, "24MiB");
        let mount = SupervisedMount::start(plan);
        let body = pattern(20 * super::PART + 5, 1);
        let mut worker = python_writer(&mount, &body);
        let end = body.len();
        worker.run(&format!("more(0, {})", 2 * SPOOL)).unwrap();
        mount.kill_daemon();
        assert_eq!(
            worker.run("os.posix_fadvise(fd, 0, 0, 4); os.pread(fd, 10, 6000000)"),
            Err(libc::ENOSPC)
        );
        assert_eq!(
            worker.run("os.pwrite(fd, b'x', 6000000)"),
            Err(libc::ENOSPC)
        );
        worker
            .run(&format!("more({}, {})", 2 * SPOOL, 4 * SPOOL))
            .unwrap();
        mount.kill_daemon();
        worker.run(&format!("more({}, {end})", 4 * SPOOL)).unwrap();
        worker.run("os.close(fd)").unwrap();
        assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body));
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        assert!(proxy.seen("UploadPart") <= 21 + 2 * 6, "some again");
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

/// Of a new file what its maker set, of an edited one what it had, and what was set since.
#[test]
fn what_is_stored_with_a_file_of_which_parts_have_left_the_spool_outlives_its_daemon() {
    for is_edited in [false, true] {
        let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
        let mount = SupervisedMount::start(plan.args(["--attributes", "stored"]));
        let body = pattern(2 * SPOOL + 5, 1);
        if is_edited {
            let stored = [("note", "kept"), ("mode", "33152")];
            let (client, bucket) = (mount.client(), mount.bucket());
            client.put_with(bucket, "f", b"old", Some("image/webp"), &stored);
        }
        let mut worker = python_writer(&mount, &body);
        worker.run(&format!("more(0, {})", SPOOL + 1)).unwrap();
        worker.run("os.fchmod(fd, 0o640)").unwrap();
        mount.kill_daemon();
        worker.run("os.fchown(fd, 7, -1)").unwrap();
        worker
            .run(&format!("more({}, {})", SPOOL + 1, body.len()))
            .unwrap();
        worker.run("os.close(fd)").unwrap();
        assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body));
        let head = mount.client().head(mount.bucket(), "f").unwrap();
        let stored = |name: &str| head.metadata.iter().find(|(other, _)| *other == name);
        let value = |name: &str| stored(name).map(|(_, value)| value.as_str());
        assert_eq!(value("mode"), Some("33184"), "{is_edited}");
        assert_eq!(value("uid"), Some("7"), "{is_edited}");
        assert_eq!(value("note"), is_edited.then_some("kept"));
        if is_edited {
            assert_eq!(head.content_type.as_deref(), Some("image/webp"));
        }
    }
}

/// Each daemon takes one part out of the spool, and dies at the next one.
#[test]
fn a_file_is_written_while_each_daemon_dies_at_a_step_of_taking_a_part_out_of_the_spool() {
    let steps = ["offload_marked", "offload_journaled", "offload_punched"];
    for (durability, step) in DURABILITIES
        .iter()
        .flat_map(|it| steps.map(|step| (it, step)))
    {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let plan = plan.env("FAILPOINTS", format!("{step}=1*off->return"));
        let mount = SupervisedMount::start(plan);
        let first = mount.daemon();
        let body = pattern(7 * super::PART + 5, 1);
        let mut worker = python_writer(&mount, &body);
        worker.run(&format!("more(0, {})", body.len())).unwrap();
        worker.run("os.close(fd)").unwrap();
        assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body), "{step}");
        assert_ne!(mount.daemon(), first, "{step}: none has died");
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_kill_without_a_successor_keeps_what_is_here_says_what_is_missing_and_leaves_no_upload() {
    for durability in ["s3", "disk"] {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let mut mount = plan.start();
        let body = pattern(2 * SPOOL, 1);
        let file = long_file(&mount, "f", &body);
        mount.kill9();
        drop(file);
        mount.remount();
        kept_with_what_is_missing(&mount, &body);
        nothing_is_left(&mount);
        assert!(mount.keys().is_empty());
    }
}

#[test]
fn a_file_that_was_being_closed_at_a_kill_is_finished_by_the_next_mount() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy(durability, "24MiB");
        let mut mount = plan.start();
        let body = pattern(2 * SPOOL + 3, 1);
        let file = long_file(&mount, "f", &body);
        let rule = Rule::on("CompleteMultipartUpload", Fault::Reset).always();
        let gate = proxy.hold(Side::BeforeServer, rule);
        let closing = std::thread::spawn(move || sys::close(file));
        gate.wait_for(1);
        mount.kill9();
        assert!(closing.join().unwrap().is_err(), "it was not acknowledged");
        gate.open();
        proxy.heal();
        mount.remount();
        wait_until(WITHIN, "the object", || mount.object("f").is_some());
        assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}
