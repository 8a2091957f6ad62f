//! Directories have no object of their own: what they show, and for how long.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::support::programs::run_shell;
use crate::support::sys::{DirStream, drop_names};
use crate::support::{Mount, MountBuilder, Server, SupervisedMount, wait_until};

const MODES: [&str; 2] = ["fixed", "stored"];
/// More than one tick of the kernel's clock.
const TICK: Duration = Duration::from_millis(20);

fn plan(mode: &str) -> MountBuilder {
    Mount::builder().args(["--attributes", mode, "--negative-ttl", "0"])
}

/// Modification and change time, in nanoseconds.
fn times(path: &Path) -> (i128, i128) {
    let seen = fs::metadata(path).unwrap();
    let whole = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    (
        whole(seen.mtime(), seen.mtime_nsec()),
        whole(seen.ctime(), seen.ctime_nsec()),
    )
}

fn now() -> i128 {
    std::thread::sleep(TICK);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    std::thread::sleep(TICK);
    now.as_nanos() as i128
}

fn list(path: &Path) -> usize {
    DirStream::open(path).unwrap().rest().len()
}

#[test]
fn a_new_directory_has_the_time_when_it_was_made() {
    for mode in MODES {
        let mut mount = plan(mode).start();
        let before = now();
        let dir = mount.path("d");
        fs::create_dir(&dir).unwrap();
        let after = now();
        let made = times(&dir);
        assert!((before..after).contains(&made.0), "{mode}: mtime");
        assert!((before..after).contains(&made.1), "{mode}: ctime");
        assert!(
            times(&mount.root).0 > before,
            "{mode}: the root has changed"
        );
        let root = times(&mount.root);
        drop_names(&mount.root);
        assert_eq!(times(&dir), made, "{mode}: forgotten");
        mount.remount();
        assert_eq!(times(&dir), made, "{mode}: mounted again");
        assert_eq!(times(&mount.root), root, "{mode}: the root");
    }
}

#[test]
fn its_time_moves_with_each_entry_that_comes_or_goes_here() {
    for mode in MODES {
        let mut mount = plan(mode).start();
        for dir in ["d", "e", "d/sub"] {
            fs::create_dir(mount.path(dir)).unwrap();
        }
        fs::write(mount.path("d/kept"), b"x").unwrap();
        let steps: [(&str, &[&str]); 5] = [
            ("echo x > d/f", &["d"]),
            ("mv d/f e/f", &["d", "e"]),
            ("mkdir e/sub", &["e"]),
            ("rmdir e/sub", &["e"]),
            ("rm e/f", &["e"]),
        ];
        for (step, changed) in steps {
            let before = now();
            run_shell(&format!("cd \"$1\"; {step}"), &[&mount.root]);
            for dir in ["d", "e", "d/sub"] {
                let (mtime, ctime) = times(&mount.path(dir));
                let moved = changed.contains(&dir);
                assert_eq!(mtime > before, moved, "{mode}: {dir} after {step}");
                assert_eq!(ctime > before, moved, "{mode}: {dir} after {step}");
            }
        }
        // A change of a file's bytes is none of its directory.
        let before = times(&mount.path("d"));
        fs::write(mount.path("d/kept"), b"more").unwrap();
        assert_eq!(times(&mount.path("d")), before);
        drop_names(&mount.root);
        assert_eq!(times(&mount.path("d")), before, "{mode}: forgotten");
        mount.remount();
        assert_eq!(list(&mount.path("d")), 2);
        assert_eq!(times(&mount.path("d")), before, "{mode}: mounted again");
    }
}

#[test]
fn a_directory_of_others_has_a_stable_time_that_moves_when_its_listing_differs() {
    for mode in MODES {
        let mut mount = plan(mode).start();
        mount.put_object("d/a", b"x");
        mount.put_object("d/sub/b", b"x");
        mount.wait_for("d/sub/b", "their files", Path::exists);
        list(&mount.path("d"));
        let first = times(&mount.path("d"));
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(1100));
            assert_eq!(list(&mount.path("d")), 2);
            assert_eq!(
                times(&mount.path("d")),
                first,
                "{mode}: nothing came or went"
            );
            drop_names(&mount.root);
            assert_eq!(times(&mount.path("d")), first, "{mode}: forgotten");
            mount.remount();
        }
        let before = now();
        mount.put_object("d/c", b"x");
        mount.wait_for("d", "their new file", |dir| list(dir) == 3);
        mount.wait_for("d", "the time of the change", |dir| times(dir).0 > before);
        let second = times(&mount.path("d"));
        mount.unmount();
        mount.client().delete(mount.bucket(), "d/a");
        let before = now();
        mount.remount();
        mount.wait_for("d", "the file that went", |dir| list(dir) == 2);
        let what = format!("{mode}: the time of the change while it was not mounted");
        mount.wait_for("d", &what, |dir| {
            let third = times(dir);
            third.0 > before && third.0 > second.0
        });
    }
}

#[test]
fn owner_and_mode_survive_what_the_kernel_forgets_and_a_remount() {
    for server in [Server::seaweedfs(), Server::moto()] {
        let stored = ["--attributes", "stored"];
        let mut mount = Mount::on(server).args(stored).start();
        let dir = mount.path("d");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("f"), b"x").unwrap();
        chown(&dir, Some(7), Some(8)).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o2750)).unwrap();
        run_shell("touch -d @1000000000.5 \"$1\"", &[&dir]);
        fs::set_permissions(&mount.root, Permissions::from_mode(0o711)).unwrap();
        let shown = |mount: &Mount, name: &str| {
            let seen = fs::metadata(mount.path(name)).unwrap();
            (
                seen.uid(),
                seen.gid(),
                seen.mode(),
                seen.mtime(),
                seen.mtime_nsec(),
            )
        };
        let expected = (7, 8, 0o042_750, 1_000_000_000, 500_000_000);
        for _ in 0..2 {
            assert_eq!(shown(&mount, "d"), expected);
            assert_eq!(fs::metadata(&mount.root).unwrap().mode(), 0o040_711);
            drop_names(&mount.root);
            assert_eq!(shown(&mount, "d"), expected, "forgotten");
            mount.remount();
        }
        fs::rename(&dir, mount.path("e")).unwrap();
        drop_names(&mount.root);
        assert_eq!(shown(&mount, "e"), expected, "renamed");
        mount.remount();
        assert_eq!(shown(&mount, "e"), expected, "renamed");
        // A name that is made again is another directory.
        fs::remove_file(mount.path("e/f")).unwrap();
        fs::remove_dir(mount.path("e")).unwrap();
        drop_names(&mount.root);
        fs::create_dir(mount.path("e")).unwrap();
        assert_eq!(shown(&mount, "e").0, 0);
        assert_eq!(shown(&mount, "e").2, 0o040_755);
    }
}

#[test]
fn in_the_default_mode_they_survive_what_the_kernel_forgets_and_the_options_hold_anew() {
    let mut mount = plan("fixed").start();
    let dir = mount.path("d");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(7), Some(8)).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
    let file = mount.path("f");
    fs::write(&file, b"x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().mode(), 0o100_600);
    // Of files they do not: which shows that the kernel has forgotten, once its word of that
    // has come.
    wait_until(Duration::from_secs(30), "a file that was forgotten", || {
        drop_names(&mount.root);
        fs::metadata(&file).unwrap().mode() == 0o100_644
    });
    let seen = fs::metadata(&dir).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode()), (7, 8, 0o040_700));
    mount.remount();
    let seen = fs::metadata(&dir).unwrap();
    assert_eq!(
        (seen.uid(), seen.gid(), seen.mode()),
        (1000, 1000, 0o040_755)
    );
}

#[test]
fn a_successor_shows_the_same() {
    for mode in MODES {
        let mount = SupervisedMount::start(plan(mode));
        let dir = mount.path("d");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("f"), b"x").unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o750)).unwrap();
        let made = times(&dir);
        // What is kept is written within a second.
        std::thread::sleep(Duration::from_millis(1500));
        mount.kill_daemon();
        assert_eq!(times(&dir), made, "{mode}");
        assert_eq!(fs::metadata(&dir).unwrap().mode(), 0o040_750, "{mode}");
        mount.unmount();
    }
}

#[test]
fn what_was_set_right_before_a_kill_is_what_a_successor_shows() {
    for mode in MODES {
        let mount = SupervisedMount::start(plan(mode));
        let dir = mount.path("d");
        fs::create_dir(&dir).unwrap();
        for bits in [0o700, 0o711] {
            fs::set_permissions(&dir, Permissions::from_mode(bits)).unwrap();
            let before = times(&dir);
            mount.kill_daemon();
            let shown = fs::metadata(&dir).unwrap().mode() & 0o7777;
            assert_eq!(shown, bits, "{mode}");
            assert_eq!(times(&dir), before, "{mode}");
        }
        mount.unmount();
    }
}
