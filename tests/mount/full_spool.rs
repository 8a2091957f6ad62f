//! The spool has no room for what an edit leaves alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::spool::lost_files;
use crate::support::{
    DURABILITIES, Mount, MountBuilder, SupervisedMount, pattern, sys, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

/// A mount of an object `f`, which the room that is left in the spool is too short for.
fn plan(durability: &str) -> (MountBuilder, Proxy, Vec<u8>) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .durability(durability)
        .args(["--part-size", "5MiB", "--spool-size", "16MiB"]);
    let body = pattern(4 * MIB, 1);
    plan.client.put(&plan.bucket, "f", &body);
    (plan, proxy, body)
}

fn fill_spool(mount: &Mount) -> File {
    let file = sys::open(mount.path("filler"), libc::O_RDWR | libc::O_CREAT).unwrap();
    file.write_all_at(&pattern(14 * MIB, 2), 0).unwrap();
    file
}

fn edit(mount: &Mount, body: &mut [u8], at: usize, bytes: &[u8]) -> File {
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
    body[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[track_caller]
fn arrived(mount: &Mount, body: &[u8]) {
    wait_until(WITHIN, "the edits", || mount.object("f").unwrap() == body);
    let read = std::fs::read(mount.path("f")).unwrap();
    assert_same_bytes(&read, body, "read back");
    assert!(lost_files(&mount.scratch().join("spool")).is_empty());
}

#[test]
fn an_edit_whose_answer_is_lost_is_known_to_have_been_applied() {
    for durability in DURABILITIES {
        let (plan, proxy, mut body) = plan(durability);
        let mount = plan.start();
        let filler = fill_spool(&mount);
        proxy.rule(Rule::on("PutObject", Fault::LoseAnswer).key("f"));
        let file = edit(&mount, &mut body, MIB, b"first");
        sys::close(file).unwrap();
        sys::close(edit(&mount, &mut body, 2 * MIB, b"second")).unwrap();
        arrived(&mount, &body);
        sys::close(filler).unwrap();
    }
}

#[test]
fn an_edit_that_was_applied_when_the_daemon_died_is_not_taken_for_another_clients() {
    for durability in DURABILITIES {
        let (plan, proxy, mut body) = plan(durability);
        let mount = SupervisedMount::start(plan);
        let filler = fill_spool(&mount);
        let rule = Rule::on("PutObject", Fault::LoseAnswer).key("f");
        let gate = proxy.hold(Side::AfterServer, rule);
        let file = edit(&mount, &mut body, MIB, b"first");
        let closing = std::thread::spawn(move || sys::close(file));
        gate.wait_for(1);
        let later = edit(&mount, &mut body, 2 * MIB, b"second");
        mount.kill_daemon();
        gate.open();
        closing.join().unwrap().unwrap();
        sys::close(later).unwrap();
        arrived(&mount, &body);
        sys::close(filler).unwrap();
    }
}
