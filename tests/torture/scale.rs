//! Directories of thousands of files: what they cost. The full amount is ten thousand
//! files, and a hundred thousand entries of a listing.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::support::Amount;
use crate::support::Mount;
use crate::support::processes::rss_kib_of;
use crate::support::programs::run_shell;
use crate::support::sys::DirStream;

/// Of a listing and of a delete in bulk. Source: the API pages of ListObjectsV2 and DeleteObjects.
const PAGE: usize = 1000;

/// More than one page.
fn many() -> usize {
    Amount::of(1500, 10_000)
}

/// One test of this file at a time: so many objects are all that one server can serve.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mount whose log tells of requests, with `count` objects of another client below `d/`.
fn with_objects(count: usize) -> Mount {
    let plan = Mount::builder()
        .args(["--log", "info,mediafs=debug"])
        .args(["--request-timeout", "2m"])
        .set("--ttl", "10m");
    let objects = (0..count).map(|number| (format!("d/f{number:06}"), b"x".to_vec()));
    // Before the mount, whose time is bounded.
    plan.client.put_many(&plan.bucket, objects);
    plan.start()
}

fn all_requests(mount: &Mount) -> usize {
    let log = mount.log();
    log.lines().filter(|line| line.contains("op=")).count()
}

#[test]
fn ls_l_of_many_files_costs_the_listing_pages_and_nothing_else() {
    let _turn = turn();
    let mount = with_objects(many());
    assert!(mount.path("d").is_dir());
    let (before, lists) = (all_requests(&mount), mount.requests("ListObjectsV2"));
    let lines = run_shell("ls -l \"$1\" | wc -l", &[&mount.path("d")]);
    assert_eq!(lines.trim(), (many() + 1).to_string());
    let lists = mount.requests("ListObjectsV2") - lists;
    assert_eq!(all_requests(&mount) - before, lists, "listings only");
    assert!(lists <= many() / PAGE + 1, "{lists} listings");
}

#[test]
fn rm_r_of_many_files_deletes_in_bulk() {
    let _turn = turn();
    let mount = with_objects(many());
    assert!(mount.path("d").is_dir());
    let before = all_requests(&mount);
    run_shell("rm -r \"$1\"", &[&mount.path("d")]);
    assert!(!mount.path("d").exists());
    mount.wait_for_keys("an empty bucket", <[String]>::is_empty);
    let cost = all_requests(&mount) - before;
    assert!(cost < many() / 50, "{cost} requests");
    let bulk = mount.requests("DeleteObjects");
    assert!(bulk >= many() / PAGE, "{bulk} deletes in bulk");
}

#[test]
fn mv_of_a_directory_of_many_files_copies_each_once_and_deletes_in_bulk() {
    let _turn = turn();
    let mount = with_objects(many());
    run_shell("mv \"$1\" \"$2\"", &[&mount.path("d"), &mount.path("e")]);
    assert!(!mount.path("d").exists());
    let listed = mount.client().list(mount.bucket(), "");
    let wanted: Vec<_> = (0..many())
        .map(|number| (format!("e/f{number:06}"), 1))
        .collect();
    assert!(listed == wanted, "{} keys", listed.len());
    assert_eq!(mount.requests("CopyObject"), many());
    assert_eq!(mount.requests("GetObject"), 0);
    let bulk = mount.requests("DeleteObjects");
    assert!(bulk <= many() / PAGE + 1, "{bulk} deletes in bulk");
}

#[test]
fn a_removal_that_was_answered_stands_after_a_kill() {
    let _turn = turn();
    const FILES: usize = 1300;
    let mut mount = with_objects(FILES);
    let dir = mount.path("d");
    let removed = 1200;
    for number in 0..removed {
        fs::remove_file(dir.join(format!("f{number:06}"))).unwrap();
    }
    mount.kill9();
    mount.remount();
    let mut names = DirStream::open(&dir).unwrap().rest();
    names.sort();
    let left: Vec<_> = (removed..FILES)
        .map(|number| format!("f{number:06}"))
        .collect();
    assert!(names == left, "{} names", names.len());
    mount.wait_for_keys("the objects to go", |keys| keys.len() == FILES - removed);
}

#[test]
fn many_entries_are_listed_once_each_in_bounded_memory() {
    let _turn = turn();
    let entries: usize = Amount::of(8_000, 100_000);
    let mount = with_objects(entries);
    let dir = mount.path("d");
    assert!(dir.is_dir());
    let before = rss_kib_of(mount.pid());
    let last = format!("f{:06}", entries - 1);
    let mut stream = DirStream::open(&dir).unwrap();
    let mut names: Vec<String> = (0..entries / 2)
        .map(|_| stream.next().unwrap().name.into_string().unwrap())
        .collect();
    // What comes and goes meanwhile makes nothing else vanish or repeat.
    fs::write(dir.join("a-new-one"), b"x").unwrap();
    fs::remove_file(dir.join("f000000")).unwrap();
    fs::remove_file(dir.join(&last)).unwrap();
    names.extend(stream.rest());
    let grown_kib = rss_kib_of(mount.pid()).saturating_sub(before);
    let may_show = ["a-new-one", last.as_str(), ".", ".."];
    names.retain(|name| !may_show.contains(&name.as_str()));
    names.sort();
    assert_eq!(names.len(), entries - 1);
    let wanted = (0..entries - 1).map(|number| format!("f{number:06}"));
    assert!(
        names
            .iter()
            .map(String::as_str)
            .eq(wanted.collect::<Vec<_>>())
    );
    assert!(grown_kib < 64 << 10, "grew by {grown_kib} KiB");
}
