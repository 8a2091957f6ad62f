//! Attributes that are set after close has returned, of a file that waits for its upload.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{XattrFlags, setxattr};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
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

/// A file that S3 has, and whose upload has failed as far as the mount can tell.
fn written_without_an_answer() -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.args(ARGS).start();
    fail_uploads(&proxy, Fault::LoseAnswer);
    fs::write(mount.path("f"), "bytes").unwrap();
    (mount, proxy)
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

/// The copy that gives an object its attributes fails for a while.
#[test]
fn attributes_that_cannot_be_stored_at_once_are_stored_later() {
    let (mount, proxy) = written_without_an_answer();
    set_attributes(&mount.path("f"));
    proxy.heal();
    let no_answer = Fault::Answer(503, "SlowDown");
    proxy.rule(Rule::on("CopyObject", no_answer).key("f").always());
    wait_until(WITHIN, "a failure", || {
        mount.log().contains("cannot store attributes")
    });
    proxy.heal();
    wait_until_stored(&mount, Fault::LoseAnswer);
}

#[test]
fn attributes_outlive_a_kill_while_they_are_being_stored() {
    let (mut mount, proxy) = written_without_an_answer();
    set_attributes(&mount.path("f"));
    proxy.heal();
    let copy = Rule::on("CopyObject", Fault::Stall).key("f");
    let gate = proxy.hold(Side::BeforeServer, copy);
    gate.wait_for(1);
    mount.kill9();
    proxy.heal();
    mount.remount();
    wait_until_stored(&mount, Fault::LoseAnswer);
}

/// The attempt that finds what the one before has made has asked already when it comes.
#[test]
fn a_mode_that_is_set_while_an_attempt_looks_for_its_object_is_stored() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.args(ARGS).start();
    fs::write(mount.path("f"), "older").unwrap();
    mount.wait_until_uploaded("f", b"older");
    let lost = Rule::on("PutObject", Fault::LoseAnswer);
    proxy.rule(lost.key("f").always());
    fs::write(mount.path("f"), "bytes").unwrap();
    wait_until(WITHIN, "a lost answer", || {
        mount.object("f").unwrap() == b"bytes"
    });
    let question = Rule::on("HeadObject", Fault::Pass);
    let gate = proxy.hold(Side::BeforeServer, question.key("f"));
    gate.wait_for(1);
    thread::scope(|scope| {
        scope.spawn(|| set_attributes(&mount.path("f")));
        wait_until(WITHIN, "the mode", || {
            fs::metadata(mount.path("f")).unwrap().permissions().mode() & 0o777 == 0o700
        });
        proxy.heal();
        gate.open();
    });
    wait_until_stored(&mount, Fault::LoseAnswer);
}

#[test]
fn what_another_client_sets_after_an_answer_was_lost_stays() {
    let (mount, proxy) = written_without_an_answer();
    both_change_attributes(&mount);
    proxy.heal();
    wait_for_both_changes(&mount);
}

#[test]
fn what_another_client_sets_after_an_answer_was_lost_stays_after_a_kill() {
    let (mut mount, proxy) = written_without_an_answer();
    both_change_attributes(&mount);
    mount.kill9();
    proxy.heal();
    mount.remount();
    wait_for_both_changes(&mount);
}

#[test]
fn what_another_client_sets_after_an_answer_was_lost_stays_after_a_takeover() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(plan.args(ARGS));
    fail_uploads(&proxy, Fault::LoseAnswer);
    fs::write(mount.path("f"), "bytes").unwrap();
    both_change_attributes(&mount);
    mount.kill_daemon();
    proxy.heal();
    wait_for_both_changes(&mount);
}

/// Another client gives the object another owner, and this one another mode.
fn both_change_attributes(mount: &Mount) {
    wait_until(WITHIN, "a lost answer", || {
        mount.client().get(mount.bucket(), "f").is_some()
    });
    let theirs = [("uid", "77"), ("gid", "78"), ("mode", "33188")];
    mount
        .client()
        .put_with(mount.bucket(), "f", b"bytes", None, &theirs);
    fs::set_permissions(mount.path("f"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn wait_for_both_changes(mount: &Mount) {
    wait_until(WITHIN, "the mode", || {
        let head = mount.client().head(mount.bucket(), "f").unwrap();
        head.metadata
            .get("mode")
            .is_some_and(|mode| mode == "33216")
    });
    let head = mount.client().head(mount.bucket(), "f").unwrap();
    assert_eq!(
        (&*head.metadata["uid"], &*head.metadata["gid"]),
        ("77", "78")
    );
}

/// The first attempt came to nothing, the second has stored another mode.
#[test]
fn a_mode_that_is_set_back_between_attempts_is_stored() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.args(ARGS).start();
    let set_mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(mount.path("f"), mode).unwrap();
    };
    let is_stored = |mode: &str| {
        let head = mount.client().head(mount.bucket(), "f");
        head.is_some_and(|head| head.metadata.get("mode").is_some_and(|it| it == mode))
    };
    fail_uploads(&proxy, Fault::Answer(503, "SlowDown"));
    fs::write(mount.path("f"), "bytes").unwrap();
    wait_until(WITHIN, "a failure", || mount.log().contains("trying again"));
    set_mode(0o700);
    proxy.heal();
    fail_uploads(&proxy, Fault::LoseAnswer);
    wait_until(WITHIN, "a lost answer", || is_stored("33216"));
    set_mode(0o644);
    proxy.heal();
    wait_until(WITHIN, "the first mode", || is_stored("33188"));
}
