//! A directory that moves and an upload that hangs delay what lies below them, and
//! nothing else.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, sys};

pub(super) const WITHIN: Duration = Duration::from_secs(90);
/// What does not wait for S3 or for another request returns long before.
const AT_ONCE: Duration = Duration::from_secs(60);
/// What is held is not given up before that.
const REQUEST_TIMEOUT: [&str; 2] = ["--request-timeout", "10min"];

pub(super) fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability(durability);
    (plan, proxy)
}

/// Holds every request of a kind for such keys.
pub(super) fn hold(proxy: &Proxy, op: &'static str, keys: &str) -> Gate {
    let rule = Rule::on(op, Fault::Pass).key(keys).always();
    proxy.hold(Side::BeforeServer, rule)
}

/// Runs a call in a thread of its own.
pub(super) fn begin<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Receiver<T> {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(call())));
    outcome
}

#[track_caller]
pub(super) fn at_once<T: Send + 'static>(
    what: &str,
    call: impl FnOnce() -> T + Send + 'static,
) -> T {
    let outcome = begin(call).recv_timeout(AT_ONCE);
    outcome.unwrap_or_else(|_| panic!("{what} waits"))
}

#[track_caller]
pub(super) fn outcome<T>(of: &Receiver<T>) -> T {
    of.recv_timeout(WITHIN).unwrap()
}

pub(super) fn is_under_way<T>(call: &Receiver<T>) -> bool {
    matches!(call.try_recv(), Err(mpsc::TryRecvError::Empty))
}

pub(super) fn begin_rename(mount: &Mount, from: &str, to: &str) -> Receiver<std::io::Result<()>> {
    let (from, to) = (mount.path(from), mount.path(to));
    begin(move || fs::rename(from, to))
}

pub(super) fn make_dirs(mount: &Mount, paths: &[&str]) {
    for path in paths {
        fs::create_dir_all(mount.path(path)).unwrap();
    }
}

/// What must work anywhere but below a directory that moves.
fn works_in(dir: &Path) {
    fs::write(dir.join("y"), b"y").unwrap();
    fs::rename(dir.join("y"), dir.join("z")).unwrap();
    assert_eq!(fs::read(dir.join("z")).unwrap(), b"y");
    fs::create_dir(dir.join("new")).unwrap();
    fs::create_dir(dir.join("new/below")).unwrap();
    fs::rename(dir.join("new/below"), dir.join("new/moved")).unwrap();
    fs::remove_dir(dir.join("new/moved")).unwrap();
    fs::remove_dir(dir.join("new")).unwrap();
    fs::remove_file(dir.join("z")).unwrap();
}

#[test]
fn an_upload_that_hangs_and_a_directory_that_moves_delay_nothing_elsewhere() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.args(REQUEST_TIMEOUT).start();
        make_dirs(&mount, &["u/a", "d", "p/b"]);
        fs::write(mount.path("p/b/f"), b"moves").unwrap();
        mount.wait_for_keys("the file", |keys| keys.contains(&"p/b/f".to_owned()));
        let (upload, copy) = (
            hold(&proxy, "PutObject", "u/a/x"),
            hold(&proxy, "CopyObject", "p/c/f"),
        );
        let hanging = mount.path("u/a/x");
        let closing = begin(move || fs::write(hanging, b"hangs"));
        upload.wait_for(1);
        let moving = begin_rename(&mount, "p/b", "p/c");
        copy.wait_for(1);
        // Waits for the upload in it. Linux itself locks the names beside the moving one.
        let waiting = begin_rename(&mount, "u/a", "u/b");
        let dir = mount.path("d");
        at_once(durability, move || works_in(&dir));
        assert!(
            is_under_way(&moving) && is_under_way(&waiting),
            "{durability}"
        );
        upload.open();
        copy.open();
        outcome(&closing).unwrap();
        outcome(&moving).unwrap();
        outcome(&waiting).unwrap();
        assert_eq!(fs::read(mount.path("u/b/x")).unwrap(), b"hangs");
        assert_eq!(fs::read(mount.path("p/c/f")).unwrap(), b"moves");
        mount.wait_for_keys("the new names", |keys| keys == ["d/", "p/c/f", "u/b/x"]);
    }
}

#[test]
fn a_close_to_the_disk_returns_while_s3_is_silent_and_a_directory_is_being_moved() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mount = plan.args(REQUEST_TIMEOUT).start();
    make_dirs(&mount, &["a", "d", "p"]);
    for name in ["p/b/f", "d/open"] {
        mount.put_object(name, b"old");
    }
    mount.wait_for("p/b/f", "the file", Path::exists);
    mount.wait_for("d/open", "the file", Path::exists);
    let writing = fs::File::create(mount.path("d/open")).unwrap();
    let copy = hold(&proxy, "CopyObject", "p/c/f");
    let moving = begin_rename(&mount, "p/b", "p/c");
    copy.wait_for(1);
    let silent = proxy.hold(Side::BeforeServer, Rule::on("*", Fault::Pass).always());
    writing.write_all_at(b"new", 0).unwrap();
    let synced = writing.try_clone().unwrap();
    at_once("fsync", move || synced.sync_all()).unwrap();
    at_once("close", move || sys::close(writing)).unwrap();
    silent.wait_for(1);
    assert!(is_under_way(&moving));
    silent.open();
    copy.open();
    outcome(&moving).unwrap();
    mount.wait_for_keys("all of it", |keys| keys == ["a/", "d/open", "p/c/f"]);
    assert_eq!(mount.object("d/open").unwrap(), b"new");
}

#[test]
fn directory_renames_that_cross_each_other_all_return() {
    let (plan, _proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    make_dirs(&mount, &["a/b", "c/e"]);
    for name in ["a/b/1", "c/e/2"] {
        fs::write(mount.path(name), name).unwrap();
    }
    let there_and_back = |here: &str, there: &str| {
        let (here, there) = (mount.path(here), mount.path(there));
        begin(move || {
            for _ in 0..5 {
                fs::rename(&here, &there).unwrap();
                fs::rename(&there, &here).unwrap();
            }
        })
    };
    let crossing = [there_and_back("a/b", "c/d"), there_and_back("c/e", "a/f")];
    crossing.iter().for_each(outcome);
    for name in ["a/b/1", "c/e/2"] {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
    }
    let inward = fs::rename(mount.path("a"), mount.path("a/b/a"));
    assert_eq!(sys::errno(inward), libc::EINVAL);
    mount.wait_for_keys("the old names to go", |keys| keys == ["a/b/1", "c/e/2"]);
}

#[test]
fn no_file_is_lost_between_two_directories_that_change_places_again_and_again() {
    const FILES: usize = 30;
    for durability in DURABILITIES {
        let (plan, _proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        make_dirs(&mount, &["p/x", "p/y"]);
        let writers = ["p/x", "p/y"].map(|dir| {
            let (path, dir) = (mount.path(dir), dir.replace('/', "-"));
            begin(move || {
                for number in 0..FILES {
                    fs::write(path.join(format!("{dir}-{number}")), b"bytes").unwrap();
                }
            })
        });
        let (x, y) = (mount.path("p/x"), mount.path("p/y"));
        while writers.iter().any(is_under_way) {
            exchange(&x, &y).unwrap();
        }
        let mut names: Vec<String> = [x, y].iter().flat_map(|dir| names_in(dir)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2 * FILES, "{durability}: {names:?}");
        mount.wait_for_keys("every file", |keys| {
            keys.iter().filter(|key| !key.ends_with('/')).count() == 2 * FILES
        });
    }
}

fn exchange(a: &Path, b: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}
