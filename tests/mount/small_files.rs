//! Small files that are read in the order of their listing.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::control::status;
use crate::support::data::{KIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::sys::drop_names;
use crate::support::{Mount, MountBuilder, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const LATENCY: Duration = Duration::from_millis(25);

fn mount(plan: impl Fn(MountBuilder) -> MountBuilder) -> (Mount, Proxy) {
    let (builder, proxy) = Mount::behind_a_proxy();
    (plan(builder).start(), proxy)
}

fn name(number: usize) -> String {
    format!("d/f{number:03}")
}

fn body(number: usize, version: usize) -> Vec<u8> {
    pattern(8 * KIB, (version * 1000 + number) as u64)
}

fn put(mount: &Mount, files: usize) {
    let objects = (0..files).map(|number| (name(number), body(number, 1)));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for(&name(files - 1), "the files", Path::exists);
}

#[track_caller]
fn check(mount: &Mount, number: usize, version: usize) {
    let read = fs::read(mount.path(name(number))).unwrap();
    assert_same_bytes(&read, &body(number, version), &name(number));
}

#[test]
fn files_that_are_read_in_order_come_in_parallel_each_with_one_request() {
    let (mount, proxy) = mount(|plan| plan.set("--ttl", "10min"));
    put(&mount, 200);
    let asked = proxy.seen_in_all();
    proxy.rule(Rule::on("GetObject", Fault::AnswerLate(LATENCY)).always());
    for entry in fs::read_dir(mount.path("d")).unwrap() {
        drop(entry.unwrap());
    }
    (0..200).for_each(|number| check(&mount, number, 1));
    let cost = proxy.seen_in_all() - asked;
    assert!(cost <= 210, "{cost} requests");
    assert_eq!(proxy.seen("GetObject"), 200);
    let at_once = proxy.most_at_once("GetObject");
    assert!((8..=40).contains(&at_once), "{at_once} at once");
    let cache = &status(&mount)["cache"];
    let used = cache["neighbours_used"].as_u64().unwrap();
    assert!(used >= 190, "{cache}");
    assert_eq!(cache["neighbours_fetched"], used, "{cache}");
    let asked = proxy.seen_in_all();
    (0..200).for_each(|number| check(&mount, number, 1));
    assert_eq!(proxy.seen_in_all(), asked);
    // Without the kernel's pages; it may have forgotten the directory too.
    drop_names(&mount.root);
    (0..200).for_each(|number| check(&mount, number, 1));
    assert_eq!(proxy.seen("GetObject"), 200);
}

#[test]
fn files_that_are_read_out_of_order_cost_no_request_for_others() {
    let (mount, proxy) = mount(|plan| plan.set("--ttl", "10min"));
    put(&mount, 100);
    (0..40).for_each(|at| check(&mount, at * 37 % 100, 1));
    assert_eq!(proxy.seen("GetObject"), 40);
}

#[test]
fn a_neighbour_that_changes_while_it_is_fetched_is_read_as_it_is_now() {
    for durability in ["s3", "disk"] {
        let (mount, proxy) = mount(|plan| plan.durability(durability));
        put(&mount, 20);
        let ours = proxy.hold(
            Side::AfterServer,
            Rule::on("GetObject", Fault::Pass).key(&name(5)),
        );
        let theirs = proxy.hold(
            Side::AfterServer,
            Rule::on("GetObject", Fault::Pass).key(&name(6)),
        );
        for number in 0..4 {
            fs::read_dir(mount.path("d")).unwrap().for_each(drop);
            check(&mount, number, 1);
        }
        ours.wait_for(1);
        theirs.wait_for(1);
        thread::scope(|scope| {
            let writer = scope.spawn(|| fs::write(mount.path(name(5)), body(5, 2)));
            mount.put_object(&name(6), &body(6, 2));
            writer.join().unwrap().unwrap();
        });
        check(&mount, 5, 2);
        ours.open();
        theirs.open();
        check(&mount, 5, 2);
        wait_until(WITHIN, "the other client's version", || {
            fs::read(mount.path(name(6))).is_ok_and(|read| read == body(6, 2))
        });
        (7..20).for_each(|number| check(&mount, number, 1));
        mount.wait_until_uploaded(&name(5), &body(5, 2));
        check(&mount, 5, 2);
    }
}
