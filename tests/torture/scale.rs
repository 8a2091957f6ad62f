//! Directories of thousands of files: what they cost. The full amount is ten thousand
//! files, and a hundred thousand entries of a listing.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    let began = Instant::now();
    run_shell("rm -r \"$1\"", &[&mount.path("d")]);
    assert!(!mount.path("d").exists());
    let took_seconds = began.elapsed().as_secs() as usize;
    mount.wait_for_keys("an empty bucket", <[String]>::is_empty);
    let cost = all_requests(&mount) - before;
    // A bulk waits no longer than a second for more, and a quarter of it for the next one.
    let limit = many() / 50 + 4 * took_seconds;
    assert!(cost < limit, "{cost} requests in {took_seconds} s");
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

/// A call of a program, and how long it took.
#[derive(Debug, Default, Clone, Copy)]
struct Longest(Duration, &'static str);

impl Longest {
    fn time(&mut self, name: &'static str, call: impl FnOnce() -> std::io::Result<()>) {
        let began = Instant::now();
        call().unwrap_or_else(|error| panic!("{name}: {error}"));
        if began.elapsed() > self.0 {
            *self = Self(began.elapsed(), name);
        }
    }
}

/// Makes, renames, reads and removes files until all is over. How often, and the
/// longest call.
fn write_until(over: &AtomicBool, folder: &Path) -> (usize, Longest) {
    let (mut rounds, mut longest) = (0, Longest::default());
    let (new, file) = (folder.join("new"), folder.join("file"));
    while !over.load(Ordering::SeqCst) {
        longest.time("write", || fs::write(&new, b"bytes"));
        longest.time("rename", || fs::rename(&new, &file));
        longest.time("read", || fs::read(&file).map(drop));
        longest.time("mkdir", || fs::create_dir(folder.join("d")));
        longest.time("rmdir", || fs::remove_dir(folder.join("d")));
        longest.time("unlink", || fs::remove_file(&file));
        rounds += 1;
    }
    (rounds, longest)
}

#[test]
fn mv_of_a_directory_of_many_files_delays_no_writer_elsewhere() {
    const WRITERS: usize = 8;
    /// So many requests at once that each waits for its turn in the server.
    const CALL_LIMIT: Duration = Duration::from_secs(5);
    /// On a machine that is busy with other tests.
    const PART_LIMIT: u32 = 2;
    let _turn = turn();
    let mount = with_objects(many());
    let folders: Vec<_> = (0..WRITERS)
        .map(|number| mount.path(format!("w{number}")))
        .collect();
    folders.iter().for_each(|it| fs::create_dir(it).unwrap());
    let over = AtomicBool::new(false);
    let (took, told) = std::thread::scope(|scope| {
        let writers = folders.iter().map(|folder| {
            let over = &over;
            scope.spawn(move || write_until(over, folder))
        });
        let writers: Vec<_> = writers.collect();
        let began = Instant::now();
        let moved = fs::rename(mount.path("d"), mount.path("e"));
        let took = began.elapsed();
        over.store(true, Ordering::SeqCst);
        moved.unwrap();
        let told = writers.into_iter().map(|writer| writer.join().unwrap());
        (took, told.collect::<Vec<_>>())
    });
    let rounds: usize = told.iter().map(|(rounds, _)| rounds).sum();
    let longest = told.iter().map(|(_, longest)| *longest);
    let Longest(longest, name) = longest.max_by_key(|it| it.0).unwrap();
    println!(
        "suite mv of {} objects: {took:.1?}; {WRITERS} writers elsewhere did {rounds} rounds meanwhile, their longest call was a {name} of {longest:.2?}",
        many()
    );
    assert!(rounds >= WRITERS, "{rounds} rounds");
    let limit = Amount::of(took / PART_LIMIT, CALL_LIMIT).max(CALL_LIMIT);
    assert!(longest < limit, "{name}: {longest:?} of {took:?}");
    let listed = mount.client().list(mount.bucket(), "e/");
    assert_eq!(listed.len(), many());
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
