//! Other clients that write while a change of this mount is under way: no byte of
//! theirs is lost.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{Mount, SupervisedMount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const THEIRS: &[u8] = b"theirs";

fn mount(options: &[&str]) -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    (plan.args(options).start(), proxy)
}

const MODES: [&[&str]; 4] = [
    &["--durability", "s3"],
    &["--durability", "disk"],
    &["--durability", "s3", "--attributes", "stored"],
    &["--durability", "disk", "--attributes", "stored"],
];

fn held(proxy: &Proxy, side: Side, op: &'static str, key: &str) -> Gate {
    proxy.hold(side, Rule::on(op, Fault::Pass).key(key))
}

/// What is in the bucket, by key.
fn objects(mount: &Mount) -> Vec<(String, Vec<u8>)> {
    let keys = mount.keys().into_iter();
    let objects = keys.filter_map(|key| Some((key.clone(), mount.object(&key)?)));
    objects.filter(|(key, _)| !key.ends_with('/')).collect()
}

fn wait_for_objects(mount: &Mount, wanted: &[(&str, &[u8])]) {
    wait_until(WITHIN, "these objects", || {
        let found = objects(mount);
        let found: Vec<_> = found.iter().map(|(key, body)| (&**key, &**body)).collect();
        found == wanted
    });
}

#[test]
fn what_is_written_to_a_file_of_a_directory_that_moves_stays_under_the_old_name() {
    for mode in MODES {
        let (a, proxy) = mount(mode);
        let b = Mount::builder()
            .bucket(a.bucket())
            .args(mode.to_vec())
            .start();
        for name in ["d/f", "d/g"] {
            a.put_object(name, b"old");
        }
        a.wait_for("d/g", "the directory", |path| path.exists());
        let gate = held(&proxy, Side::AfterServer, "CopyObject", "e/f");
        thread::scope(|scope| {
            let renamed = scope.spawn(|| fs::rename(a.path("d"), a.path("e")));
            gate.wait_for(1);
            fs::write(b.path("d/f"), THEIRS).unwrap();
            b.wait_for("d/f", "S3 to have it", |_| {
                b.object("d/f").as_deref() == Some(THEIRS)
            });
            gate.open();
            renamed.join().unwrap().unwrap();
        });
        let wanted: [(&str, &[u8]); 3] = [("d/f", THEIRS), ("e/f", b"old"), ("e/g", b"old")];
        wait_for_objects(&a, &wanted);
        a.wait_for("d/f", "the newer original", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        assert_eq!(fs::read(a.path("e/f")).unwrap(), b"old", "{mode:?}");
        assert!(a.log().contains("stay under its old name"), "{}", a.log());
    }
}

#[test]
fn what_is_put_into_the_new_place_of_a_directory_that_moves_stays_there() {
    let (a, proxy) = mount(&[]);
    for name in ["d/f", "d/g"] {
        a.put_object(name, b"old");
    }
    a.wait_for("d/g", "the directory", |path| path.exists());
    let gate = held(&proxy, Side::BeforeServer, "CopyObject", "e/f");
    thread::scope(|scope| {
        let renamed = scope.spawn(|| fs::rename(a.path("d"), a.path("e")));
        gate.wait_for(1);
        a.put_object("e/f", THEIRS);
        gate.open();
        renamed.join().unwrap().unwrap();
    });
    wait_for_objects(&a, &[("e/f", THEIRS), ("e/g", b"old")]);
    assert_eq!(fs::read(a.path("e/f")).unwrap(), THEIRS);
}

/// The modes at once: each waits for something to grow old.
fn in_each_mode(test: impl Fn(&'static [&'static str]) + Sync) {
    thread::scope(|scope| {
        for mode in MODES {
            scope.spawn(|| test(mode));
        }
    });
}

/// Objects have times of whole seconds: after this they are older than what begins now.
fn grow_old() {
    thread::sleep(Duration::from_secs(2));
}

#[test]
fn what_is_written_to_a_file_that_moves_stays_under_the_old_name() {
    in_each_mode(|mode| {
        let (mount, proxy) = mount(mode);
        fs::write(mount.path("f"), b"old").unwrap();
        wait_for_objects(&mount, &[("f", b"old")]);
        let gate = held(&proxy, Side::AfterServer, "CopyObject", "g");
        thread::scope(|scope| {
            let renamed = scope.spawn(|| fs::rename(mount.path("f"), mount.path("g")));
            gate.wait_for(1);
            mount.put_object("f", THEIRS);
            // A copy may take long: theirs is no newer than the delete.
            grow_old();
            gate.open();
            renamed.join().unwrap().unwrap();
        });
        wait_for_objects(&mount, &[("f", THEIRS), ("g", b"old")]);
        mount.wait_for("f", "the newer original", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        assert_eq!(fs::read(mount.path("g")).unwrap(), b"old");
    });
}

#[test]
fn a_file_that_changes_before_it_is_copied_is_not_moved() {
    let (mount, proxy) = mount(&[]);
    fs::write(mount.path("f"), b"old").unwrap();
    let gate = held(&proxy, Side::BeforeServer, "CopyObject", "g");
    thread::scope(|scope| {
        let renamed = scope.spawn(|| fs::rename(mount.path("f"), mount.path("g")));
        gate.wait_for(1);
        mount.put_object("f", THEIRS);
        gate.open();
        assert_eq!(sys::errno(renamed.join().unwrap()), libc::ESTALE);
    });
    wait_for_objects(&mount, &[("f", THEIRS)]);
}

#[test]
fn a_rename_takes_the_place_of_what_is_there_when_it_comes_to_it() {
    let (mount, proxy) = mount(&[]);
    fs::write(mount.path("f"), b"ours").unwrap();
    for there in [false, true] {
        if there {
            fs::write(mount.path("f"), b"ours").unwrap();
        }
        let gate = held(&proxy, Side::BeforeServer, "CopyObject", "g");
        thread::scope(|scope| {
            let renamed = scope.spawn(|| fs::rename(mount.path("f"), mount.path("g")));
            gate.wait_for(1);
            mount.put_object("g", THEIRS);
            gate.open();
            renamed.join().unwrap().unwrap();
        });
        wait_for_objects(&mount, &[("g", b"ours")]);
    }
}

#[test]
fn a_name_that_is_made_again_after_many_were_removed_stays() {
    const FILES: usize = 30;
    // Whether a removal is one of many is a matter of time in the other ones.
    for mode in MODES.into_iter().filter(|mode| mode.contains(&"disk")) {
        let (mount, proxy) = mount(mode);
        for number in 0..FILES {
            fs::write(mount.path(format!("f{number}")), b"old").unwrap();
        }
        mount.wait_for_keys("all of them", |keys| keys.len() == FILES);
        let last = format!("f{}", FILES - 1);
        let gate = held(&proxy, Side::BeforeServer, "DeleteObjects", &last);
        for number in 0..FILES {
            fs::remove_file(mount.path(format!("f{number}"))).unwrap();
        }
        gate.wait_for(1);
        mount.put_object(&last, THEIRS);
        gate.open();
        wait_for_objects(&mount, &[(&last, THEIRS)]);
        mount.wait_for(&last, "it to be seen", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
        });
        let log = mount.log();
        assert!(log.contains("another client has put a new object"), "{log}");
    }
}

#[test]
fn a_removal_that_meets_a_newer_object_leaves_it() {
    let (mount, proxy) = mount(&[]);
    fs::write(mount.path("f"), b"old").unwrap();
    let gate = held(&proxy, Side::BeforeServer, "DeleteObject", "f");
    thread::scope(|scope| {
        let removed = scope.spawn(|| fs::remove_file(mount.path("f")));
        gate.wait_for(1);
        mount.put_object("f", THEIRS);
        gate.open();
        removed.join().unwrap().unwrap();
    });
    assert_eq!(mount.object("f").unwrap(), THEIRS);
    mount.wait_for("f", "it to be seen", |path| path.exists());
    assert_eq!(fs::read(mount.path("f")).unwrap(), THEIRS);
    fs::remove_file(mount.path("f")).unwrap();
    assert_eq!(mount.object("f"), None);
}

#[test]
fn a_removal_takes_what_was_there_before_it_whoever_put_it() {
    in_each_mode(|mode| {
        let plan = Mount::builder().args(mode.to_vec());
        let mount = plan.set("--ttl", "1h").start();
        fs::write(mount.path("f"), b"old").unwrap();
        wait_for_objects(&mount, &[("f", b"old")]);
        // Within the ttl this mount does not know of it.
        mount.put_object("f", THEIRS);
        grow_old();
        fs::remove_file(mount.path("f")).unwrap();
        mount.wait_for_keys("the end of it", <[String]>::is_empty);
        assert!(!mount.path("f").exists());
    });
}

#[test]
fn a_removal_that_waits_takes_what_was_there_before_it_after_a_takeover_too() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--durability", "disk"]).set("--ttl", "1h");
    let mount = SupervisedMount::start(plan);
    for name in ["f", "newer"] {
        fs::write(mount.path(name), b"old").unwrap();
    }
    wait_for_objects(&mount, &[("f", b"old"), ("newer", b"old")]);
    mount.put_object("f", THEIRS);
    grow_old();
    // The daemon dies before it has sent them, or before S3 has them.
    let gate = held(&proxy, Side::BeforeServer, "DeleteObjects", "f");
    for name in ["f", "newer"] {
        fs::remove_file(mount.path(name)).unwrap();
    }
    mount.put_object("newer", THEIRS);
    mount.kill_daemon();
    gate.open();
    wait_for_objects(&mount, &[("newer", THEIRS)]);
    assert!(!mount.path("f").exists());
    mount.wait_for("newer", "the newer object", |path| {
        fs::read(path).is_ok_and(|bytes| bytes == THEIRS)
    });
}

#[test]
fn the_last_close_of_whole_replacements_wins_over_what_came_meanwhile() {
    for mode in MODES {
        let (mount, proxy) = mount(mode);
        for (name, there) in [("new", false), ("old", true)] {
            if there {
                mount.put_object(name, b"old");
            }
            let mut file = fs::File::create(mount.path(name)).unwrap();
            file.write_all(b"ours").unwrap();
            let gate = held(&proxy, Side::BeforeServer, "PutObject", name);
            thread::scope(|scope| {
                let closed = scope.spawn(|| sys::close(file));
                gate.wait_for(1);
                mount.put_object(name, THEIRS);
                gate.open();
                closed.join().unwrap().unwrap();
            });
            wait_until(WITHIN, "ours", || {
                mount.object(name).as_deref() == Some(b"ours")
            });
            assert_eq!(fs::read(mount.path(name)).unwrap(), b"ours");
        }
        assert!(mount.lost_and_found().is_empty());
    }
}
