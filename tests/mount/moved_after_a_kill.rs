//! A rewrite of a stored file that waits when the daemon is killed: its name may go before
//! it is uploaded, and takes the older version along.

use std::fs;

use crate::support::Mount;
use crate::support::control::done;
use crate::support::proxy::{Fault, Rule};

const REFUSED: Fault = Fault::Answer(503, "SlowDown");

fn rewritten(mount: &Mount) {
    fs::write(mount.path("f"), "new").unwrap();
}

fn replaced(mount: &Mount) {
    fs::write(mount.path("f.tmp"), "new").unwrap();
    fs::rename(mount.path("f.tmp"), mount.path("f")).unwrap();
}

fn moved(mount: &Mount) {
    fs::rename(mount.path("f"), mount.path("g")).unwrap();
}

fn removed(mount: &Mount) {
    fs::remove_file(mount.path("f")).unwrap();
}

/// The older version lies under `f` when the daemon is killed.
#[track_caller]
fn after_a_kill(rewrite: fn(&Mount), goes: fn(&Mount), left: &[&str]) {
    for attributes in ["fixed", "stored"] {
        let (plan, proxy) = Mount::behind_a_proxy();
        let plan = plan.durability("disk").set("--ttl", "1h");
        let plan = plan.args(["--attributes", attributes]);
        let mut mount = plan.start();
        fs::write(mount.path("f"), "old").unwrap();
        mount.wait_until_uploaded("f", b"old");
        for op in ["PutObject", "DeleteObject", "DeleteObjects"] {
            proxy.rule(Rule::on(op, REFUSED).always());
        }
        rewrite(&mount);
        mount.kill9();
        mount.remount();
        goes(&mount);
        proxy.heal();
        done(&mount, &["flush"]);
        mount.wait_for_keys(attributes, |keys| keys == left);
        assert!(!mount.path("f").exists(), "{attributes}");
        for name in left {
            assert_eq!(fs::read(mount.path(name)).unwrap(), b"new", "{attributes}");
        }
        assert!(mount.lost_and_found().is_empty(), "{attributes}");
    }
}

#[test]
fn what_was_rewritten_before_a_kill_and_is_moved_after_it_leaves_no_older_version() {
    after_a_kill(rewritten, moved, &["g"]);
}

#[test]
fn what_was_rewritten_before_a_kill_and_is_removed_after_it_leaves_no_older_version() {
    after_a_kill(rewritten, removed, &[]);
}

#[test]
fn what_was_replaced_before_a_kill_and_is_moved_after_it_leaves_no_older_version() {
    after_a_kill(replaced, moved, &["g"]);
}

#[test]
fn what_was_replaced_before_a_kill_and_is_removed_after_it_leaves_no_older_version() {
    after_a_kill(replaced, removed, &[]);
}
