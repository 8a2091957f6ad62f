//! Parts that are sent while the application still writes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::{ALWAYS, WITHIN, behind_a_proxy, no_upload_is_left};
use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Mount, Server, pattern, sys, wait_until};

/// A file that is open, with these bytes, of which every full part has arrived.
fn written_ahead(mount: &Mount, proxy: &Proxy, name: &str, body: &[u8]) -> File {
    let before = proxy.passed("UploadPart");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path(name))
        .unwrap();
    file.write_all(body).unwrap();
    wait_until(WITHIN, "full parts", || {
        proxy.passed("UploadPart") - before == body.len() / (5 * MIB)
    });
    file
}

#[test]
fn full_parts_are_sent_while_the_file_is_written_and_nothing_is_seen_before_close() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let mount = plan.args(["--durability", durability]).start();
        let body = pattern(22 * MIB, 1);
        let file = written_ahead(&mount, &proxy, "f", &body);
        assert!(mount.keys().is_empty());
        assert_eq!(proxy.seen("CompleteMultipartUpload"), 0);
        sys::close(file).unwrap();
        mount.wait_until_uploaded("f", &body);
        assert_eq!(
            proxy.seen("UploadPart"),
            5,
            "4 before close, the rest at it"
        );
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        assert_eq!(proxy.seen("CompleteMultipartUpload"), 1);
        no_upload_is_left(&mount);
    }
}

#[test]
fn a_part_that_was_sent_and_is_written_again_is_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(22 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    // Over the end of the second part.
    let again = pattern(1000, 2);
    file.write_all_at(&again, 10 * MIB as u64 - 500).unwrap();
    body[10 * MIB - 500..10 * MIB + 500].copy_from_slice(&again);
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    assert_eq!(proxy.seen("UploadPart"), 7, "5, and two again");
    no_upload_is_left(&mount);
}

#[test]
fn a_part_that_is_written_again_while_it_is_sent_counts_as_it_is_at_close() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut want = pattern(21 * MIB, 1);
    let mut file = File::create(mount.path("f")).unwrap();
    for (number, piece) in want.clone().chunks(MIB).enumerate() {
        file.write_all(piece).unwrap();
        // Parts before are on their way.
        let at = (number as u64 * 7919) % (number as u64 + 1) * MIB as u64;
        let again = pattern(10, number as u64);
        file.write_all_at(&again, at).unwrap();
        want[at as usize..at as usize + 10].copy_from_slice(&again);
    }
    sys::close(file).unwrap();
    assert!(proxy.seen("CreateMultipartUpload") > 0);
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn a_copy_of_64_mib_costs_8_parts_and_one_of_a_part_costs_one_put() {
    let proxy = Proxy::before(Server::shared());
    let mount = Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .start();
    let puts = proxy.seen("PutObject");
    let body = pattern(64 * MIB, 1);
    let source = mount.scratch().join("source");
    fs::write(&source, &body).unwrap();
    fs::copy(&source, mount.path("f")).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    let seen = [
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    ];
    assert_eq!(seen.map(|op| proxy.seen(op)), [1, 8, 1]);
    assert_eq!(proxy.seen("PutObject"), puts);
    let body = &body[..8 * MIB];
    fs::write(mount.path("g"), body).unwrap();
    assert_same_bytes(&mount.object("g").unwrap(), body, "the object");
    assert_eq!(seen.map(|op| proxy.seen(op)), [1, 8, 1]);
    assert_eq!(proxy.seen("PutObject"), puts + 1);
    no_upload_is_left(&mount);
}

#[test]
fn a_file_that_is_removed_cut_or_renamed_while_it_is_written_leaves_no_upload() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let removed = written_ahead(&mount, &proxy, "removed", &body);
    fs::remove_file(mount.path("removed")).unwrap();
    no_upload_is_left(&mount);
    let mut seen = vec![0; body.len()];
    removed.read_exact_at(&mut seen, 0).unwrap();
    assert_same_bytes(&seen, &body, "removed");
    (&removed).write_all(&body).unwrap();
    sys::close(removed).unwrap();

    let cut = written_ahead(&mount, &proxy, "cut", &body);
    cut.set_len(7).unwrap();
    sys::close(cut).unwrap();
    assert_eq!(mount.object("cut").unwrap(), &body[..7]);
    no_upload_is_left(&mount);

    let shorter = written_ahead(&mount, &proxy, "shorter", &body);
    shorter.set_len(12 * MIB as u64).unwrap();
    shorter.set_len(16 * MIB as u64).unwrap();
    sys::close(shorter).unwrap();
    let mut want = body[..12 * MIB].to_vec();
    want.resize(16 * MIB, 0);
    assert_same_bytes(&mount.object("shorter").unwrap(), &want, "shorter");
    no_upload_is_left(&mount);

    let renamed = written_ahead(&mount, &proxy, "renamed", &body);
    fs::rename(mount.path("renamed"), mount.path("other")).unwrap();
    sys::close(renamed).unwrap();
    assert_same_bytes(&mount.object("other").unwrap(), &body, "other");
    no_upload_is_left(&mount);
    assert_eq!(mount.keys(), ["cut", "other", "shorter"]);
}

#[test]
fn a_file_that_was_being_written_at_a_kill_is_kept_and_its_upload_aborted() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    mount.client().begin_upload(mount.bucket(), "theirs");
    mount.kill9();
    drop(file);
    assert_eq!(mount.client().unfinished_uploads(mount.bucket()).len(), 2);
    mount.remount();
    wait_until(WITHIN, "only theirs", || {
        mount.client().unfinished_uploads(mount.bucket()) == ["theirs"]
    });
    assert_same_bytes(&mount.lost_and_found()[0], &body, "kept");
    assert!(mount.keys().is_empty());
}

#[test]
fn parts_that_are_refused_before_close_fail_the_close_and_leave_no_upload() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    proxy.fail("UploadPart", Fault::Answer(403, "AccessDenied"), ALWAYS);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&pattern(17 * MIB, 1)).unwrap();
    wait_until(WITHIN, "a refusal", || proxy.seen("UploadPart") > 0);
    assert_eq!(sys::errno(sys::close(file)), libc::EACCES);
    no_upload_is_left(&mount);
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found().len() == 1
    });
}

#[test]
fn an_upload_that_somebody_aborts_while_the_file_is_written_begins_anew_at_close() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    mount.client().abort_uploads(mount.bucket());
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    no_upload_is_left(&mount);
}
