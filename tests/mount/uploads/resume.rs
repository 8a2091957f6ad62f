//! Uploads that a kill or a lost answer cut off.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::{ALWAYS, WITHIN, behind_a_proxy, no_upload_is_left};
use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy};
use crate::support::rule::Rule;
use crate::support::{Mount, MountBuilder, pattern, sys, wait_until};

/// A file of 7 parts whose close is cut off by a kill when `arrived` of them have.
fn killed_after(plan: MountBuilder, proxy: &Proxy, arrived: usize) -> (Mount, Vec<u8>) {
    let mut mount = plan.start();
    let body = pattern(33 * MIB + 5, 4);
    proxy.fail_after("UploadPart", arrived, Fault::Stall, ALWAYS);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&body).unwrap();
    let closing = std::thread::spawn(move || sys::close(file));
    let sealed = || {
        let journal = fs::read(mount.scratch().join("spool/journal")).unwrap();
        String::from_utf8_lossy(&journal).contains("\"sending\"")
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
    for (option, value) in [
        ("--durability", "s3"),
        ("--durability", "disk"),
        ("--attributes", "stored"),
    ] {
        let (plan, proxy) = behind_a_proxy();
        let plan = plan.args([option, value]);
        let (mut mount, body) = killed_after(plan, &proxy, 4);
        let before = proxy.seen("UploadPart");
        mount.remount();
        mount.wait_until_uploaded("f", &body);
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
    mount.wait_until_uploaded("f", &body);
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
    mount.wait_until_uploaded("f", &body);
    assert_eq!(proxy.seen("CreateMultipartUpload"), 2);
    no_upload_is_left(&mount);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn an_upload_whose_file_was_discarded_meanwhile_is_aborted_and_no_others() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, _) = killed_after(plan, &proxy, 4);
    mount.client().begin_upload(mount.bucket(), "theirs");
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    for stage in stages {
        fs::remove_file(stage.unwrap().path()).unwrap();
    }
    mount.remount();
    wait_until(WITHIN, "only theirs", || {
        mount.client().unfinished_uploads(mount.bucket()) == ["theirs"]
    });
    assert!(mount.keys().is_empty());
}

#[test]
fn a_lost_answer_to_a_completion_is_decided_by_what_is_there() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(17 * MIB, 1);
    proxy.fail("CompleteMultipartUpload", Fault::LoseAnswer, 1);
    fs::write(mount.path("f"), &body).unwrap();
    // An edit is conditional: what our own attempt made is not another client's.
    proxy.fail("CompleteMultipartUpload", Fault::LoseAnswer, 1);
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    file.write_all_at(b"edited", 3 * MIB as u64).unwrap();
    sys::close(file).unwrap();
    body[3 * MIB..3 * MIB + 6].copy_from_slice(b"edited");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    assert_eq!(
        proxy.seen("CreateMultipartUpload"),
        2,
        "nothing is sent twice"
    );
    no_upload_is_left(&mount);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn an_upload_whose_parts_s3_does_not_take_for_whole_is_sent_again_and_leaves_nothing() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(12 * MIB, 6);
    let refusal = Fault::Answer(400, "InvalidPart");
    proxy.rule(Rule::on("CompleteMultipartUpload", refusal));
    fs::write(mount.path("f"), &body).unwrap();
    mount.wait_until_uploaded("f", &body);
    assert_eq!(proxy.seen("CreateMultipartUpload"), 2);
    no_upload_is_left(&mount);
}
