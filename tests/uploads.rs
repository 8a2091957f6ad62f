//! Long files on their way to S3: in parts, over kills, side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use support::data::MIB;
use support::proxy::{Fault, Proxy};
use support::{Mount, MountBuilder, Server, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(30);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &proxy.endpoint);
    (plan.args(["--part-size", "5MiB"]), proxy)
}

fn uploaded(mount: &Mount, path: &str, want: &[u8]) {
    wait_until(WITHIN, path, || {
        mount.client().try_get(mount.bucket(), path) == Ok(Some(want.to_vec()))
    });
}

#[track_caller]
fn no_upload_is_left(mount: &Mount) {
    wait_until(WITHIN, "no unfinished upload", || {
        let left = mount.client().unfinished_uploads(mount.bucket());
        left.is_empty()
    });
}

/// A file of 7 parts whose close is cut off by a kill when `arrived` of them have.
fn killed_after(plan: MountBuilder, proxy: &Proxy, arrived: usize) -> (Mount, Vec<u8>) {
    let mut mount = plan.start();
    let body = pattern(33 * MIB + 5, 4);
    proxy.fail_after("UploadPart", arrived, Fault::Stall, ALWAYS);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&body).unwrap();
    let closing = std::thread::spawn(move || sys::close(file));
    let sealed = || {
        let journal = std::fs::read_to_string(mount.scratch().join("spool/journal"));
        journal.unwrap().contains("\"sending\"")
    };
    wait_until(WITHIN, "parts", || {
        sealed() && proxy.passed("UploadPart") == arrived && proxy.seen("UploadPart") > arrived
    });
    mount.kill9();
    // An error, or with `--durability=disk` a success.
    drop(closing.join().unwrap());
    proxy.heal();
    (mount, body)
}

#[test]
fn an_upload_that_a_kill_cut_off_goes_on_with_the_parts_that_are_missing() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let plan = plan.args(["--durability", durability]);
        let (mut mount, body) = killed_after(plan, &proxy, 4);
        let before = proxy.seen("UploadPart");
        mount.remount();
        uploaded(&mount, "f", &body);
        assert_eq!(proxy.seen("UploadPart") - before, 3, "of 7, 4 were there");
        assert_eq!(proxy.seen("ListParts"), 1);
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        no_upload_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_part_that_is_not_what_the_file_has_is_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, body) = killed_after(plan, &proxy, 4);
    // One is of other bytes, another of another length.
    mount
        .client()
        .put_part(mount.bucket(), "f", 2, &pattern(5 * MIB, 99));
    mount
        .client()
        .put_part(mount.bucket(), "f", 3, &pattern(6 * MIB, 4));
    let before = proxy.seen("UploadPart");
    mount.remount();
    uploaded(&mount, "f", &body);
    let missing = proxy.seen("UploadPart") - before;
    assert!((3..=5).contains(&missing), "{missing} parts sent");
    no_upload_is_left(&mount);
}

#[test]
fn an_upload_that_somebody_aborted_meanwhile_begins_anew() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, body) = killed_after(plan, &proxy, 4);
    mount.client().abort_uploads(mount.bucket());
    mount.remount();
    uploaded(&mount, "f", &body);
    assert_eq!(proxy.seen("CreateMultipartUpload"), 2);
    no_upload_is_left(&mount);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn an_upload_whose_file_was_discarded_meanwhile_is_aborted_and_no_others() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, _) = killed_after(plan, &proxy, 4);
    mount.client().begin_upload(mount.bucket(), "theirs");
    let stages = std::fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    for stage in stages {
        std::fs::remove_file(stage.unwrap().path()).unwrap();
    }
    mount.remount();
    wait_until(WITHIN, "only theirs", || {
        mount.client().unfinished_uploads(mount.bucket()) == ["theirs"]
    });
    assert!(mount.keys().is_empty());
}
