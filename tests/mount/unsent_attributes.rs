//! Attributes that are set after close has returned, of a file that waits for its upload.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{XattrFlags, setxattr};

use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const ARGS: [&str; 6] = [
    "--durability",
    "disk",
    "--attributes",
    "stored",
    "--request-timeout",
    "6s",
];
/// As they are stored with the object: `user.a` is `x`.
const STORED: [(&str, &str); 5] = [
    ("mode", "33216"),
    ("uid", "7"),
    ("gid", "8"),
    ("mtime", "86400"),
    ("xattr", "%7B%22user%2Ea%22%3A%22eA%3D%3D%22%7D"),
];

/// What keeps the first attempts from coming to an end.
const FAULTS: [Fault; 2] = [Fault::Answer(503, "SlowDown"), Fault::LoseAnswer];

fn fail_uploads(proxy: &Proxy, fault: Fault) {
    proxy.rule(Rule::on("PutObject", fault).key("f").always());
    // Whether an attempt whose answer was lost was applied is not known either.
    let no_answer = Fault::Answer(503, "SlowDown");
    proxy.rule(Rule::on("HeadObject", no_answer).key("f").always());
}

/// Each returns between two attempts to upload the file.
fn set_attributes(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    chown(path, Some(7), Some(8)).unwrap();
    setxattr(path, "user.a", b"x", XattrFlags::empty()).unwrap();
    let time = UNIX_EPOCH + Duration::from_secs(86_400);
    File::open(path).unwrap().set_modified(time).unwrap();
}

fn wait_until_stored(mount: &Mount, fault: Fault) {
    mount.wait_until_uploaded("f", b"bytes");
    let what = format!("attributes of an upload that met {fault:?}");
    wait_until(WITHIN, &what, || {
        let head = mount.client().head(mount.bucket(), "f").unwrap();
        let has = |(name, value): (&str, &str)| {
            let mut stored = head.metadata.iter();
            stored.any(|(other, stored)| other == name && stored == value)
        };
        STORED.into_iter().all(has)
    });
}

fn in_each_fault(test: impl Fn(Fault) + Sync) {
    thread::scope(|scope| {
        for fault in FAULTS {
            let test = &test;
            scope.spawn(move || test(fault));
        }
    });
}

#[test]
fn attributes_that_are_set_between_attempts_to_upload_a_file_are_stored() {
    in_each_fault(|fault| {
        let (plan, proxy) = Mount::behind_a_proxy();
        let mount = plan.args(ARGS).start();
        fail_uploads(&proxy, fault);
        fs::write(mount.path("f"), "bytes").unwrap();
        set_attributes(&mount.path("f"));
        proxy.heal();
        wait_until_stored(&mount, fault);
    });
}

#[test]
fn attributes_that_are_set_after_a_close_outlive_a_kill() {
    in_each_fault(|fault| {
        let (plan, proxy) = Mount::behind_a_proxy();
        let mut mount = plan.args(ARGS).start();
        fail_uploads(&proxy, fault);
        fs::write(mount.path("f"), "bytes").unwrap();
        set_attributes(&mount.path("f"));
        mount.kill9();
        proxy.heal();
        mount.remount();
        wait_until_stored(&mount, fault);
    });
}

#[test]
fn attributes_that_are_set_after_a_close_outlive_a_takeover() {
    in_each_fault(|fault| {
        let (plan, proxy) = Mount::behind_a_proxy();
        let mount = SupervisedMount::start(plan.args(ARGS));
        fail_uploads(&proxy, fault);
        fs::write(mount.path("f"), "bytes").unwrap();
        set_attributes(&mount.path("f"));
        mount.kill_daemon();
        proxy.heal();
        wait_until_stored(&mount, fault);
    });
}
