//! Files longer than the spool that are edited, and those that have attributes of
//! their own.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::time::{Duration, UNIX_EPOCH};

use super::{PART, SPOOL, WITHIN, behind_a_proxy, long_file, nothing_is_left, spool_bytes};
use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, pattern, sys, wait_until};

const MODES: [&str; 2] = ["fixed", "stored"];

fn opened(mount: &Mount, name: &str) -> File {
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .open(mount.path(name))
        .unwrap()
}

/// Writes bytes of a body where they are in it.
fn write_range(file: &File, body: &[u8], range: std::ops::Range<usize>) {
    for start in range.clone().step_by(MIB) {
        let piece = &body[start..(start + MIB).min(range.end)];
        file.write_all_at(piece, start as u64).unwrap();
    }
}

#[test]
fn an_edit_longer_than_the_spool_arrives_whole() {
    for (durability, attributes) in [("s3", "fixed"), ("disk", "fixed"), ("s3", "stored")] {
        let (plan, proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.args(["--attributes", attributes]).start();
        let mut body = pattern(3 * SPOOL, 1);
        mount.put_object("f", &body);
        let file = opened(&mount, "f");
        // Some of it, no whole parts at its edges, and more at its end.
        body[2 * PART + 77..2 * SPOOL].copy_from_slice(&pattern(2 * SPOOL - 2 * PART - 77, 2));
        write_range(&file, &body, 2 * PART + 77..2 * SPOOL);
        body.extend(pattern(SPOOL + 99, 3));
        write_range(&file, &body, 3 * SPOOL..body.len());
        assert!(spool_bytes(&mount) <= SPOOL as u64 + MIB as u64);
        sys::close(file).unwrap();
        let what = format!("{durability}, {attributes}");
        assert_same_bytes(&mount.object("f").unwrap(), &body, &what);
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1, "{what}");
        assert!(proxy.seen("UploadPartCopy") > 0, "{what}");
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_file_longer_than_the_spool_that_is_synced_is_written_on() {
    for durability in ["s3", "disk"] {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.start();
        let body = pattern(5 * SPOOL, 1);
        let mut file = long_file(&mount, "f", &body[..2 * SPOOL]);
        file.sync_all().unwrap();
        for piece in body[2 * SPOOL..].chunks(MIB) {
            file.write_all(piece).unwrap();
        }
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, durability);
        nothing_is_left(&mount);
    }
}

#[test]
fn an_edit_longer_than_the_spool_of_what_another_client_replaced_is_theirs() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let body = pattern(3 * SPOOL, 1);
    mount.put_object("f", &body);
    let file = opened(&mount, "f");
    write_range(&file, &pattern(3 * SPOOL, 2), 0..2 * SPOOL);
    mount.put_object("f", b"theirs");
    assert_eq!(sys::errno(sys::close(file)), libc::ESTALE);
    assert_eq!(mount.object("f").unwrap(), b"theirs");
    wait_until(WITHIN, "the edit in lost+found", || {
        mount.lost_and_found().len() == 1
    });
    nothing_is_left(&mount);
}

#[test]
fn a_file_longer_than_the_spool_has_the_attributes_that_it_was_given_last() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mut mount = plan.args(["--attributes", "stored"]).start();
    let body = pattern(3 * SPOOL, 1);
    let file = long_file(&mount, "f", &body);
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(1_000_000);
    file.set_modified(time).unwrap();
    sys::close(file).unwrap();
    let seen = |mount: &Mount| {
        let seen = fs::metadata(mount.path("f")).unwrap();
        (seen.mode() & 0o7777, seen.modified().unwrap())
    };
    assert_eq!(seen(&mount), (0o600, time));
    let stored = mount.client().head(mount.bucket(), "f").unwrap();
    assert_eq!(
        stored.metadata["mode"].parse::<u32>().unwrap() & 0o7777,
        0o600
    );
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the bytes");
    nothing_is_left(&mount);
    mount.remount();
    assert_eq!(seen(&mount), (0o600, time), "by the next mount");
}

#[test]
fn a_new_file_longer_than_the_spool_is_written_in_either_mode() {
    for attributes in MODES {
        let (plan, proxy) = behind_a_proxy("disk", "24MiB");
        let mount = plan.args(["--attributes", attributes]).start();
        let body = pattern(4 * SPOOL, 1);
        let file = long_file(&mount, "f", &body);
        assert!(spool_bytes(&mount) <= SPOOL as u64 + MIB as u64);
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, attributes);
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1, "{attributes}");
        nothing_is_left(&mount);
    }
}
