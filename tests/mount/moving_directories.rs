//! A daemon that dies in the middle of a directory's rename, and files that are
//! written below it meanwhile.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::subtree_locks::{
    WITHIN, at_once, begin, begin_rename, behind_a_proxy, hold, is_under_way, make_dirs, outcome,
};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, SupervisedMount, Worker, sys, wait_until};

/// Closes what was written below a directory in the middle of its rename.
fn write_while_it_moves(mount: &Mount, proxy: &Proxy, durability: &str) -> Gate {
    make_dirs(mount, &["p"]);
    for name in ["p/b/edited", "p/b/left"] {
        mount.put_object(name, b"old bytes");
    }
    mount.wait_for("p/b/edited", "the file", Path::exists);
    let edited = sys::open(mount.path("p/b/edited"), libc::O_RDWR).unwrap();
    let new = fs::File::create(mount.path("p/b/new")).unwrap();
    edited.write_all_at(b"NEW", 0).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    let copies = hold(proxy, "CopyObject", "p/c/*");
    let moving = begin_rename(mount, "p/b", "p/c");
    copies.wait_for(1);
    let closing = begin(move || [edited, new].map(sys::close));
    if durability == "disk" {
        outcome(&closing).into_iter().for_each(Result::unwrap);
        return copies;
    }
    assert!(is_under_way(&closing) && is_under_way(&moving));
    copies.open();
    outcome(&moving).unwrap();
    outcome(&closing).into_iter().for_each(Result::unwrap);
    copies
}

const AS_WRITTEN: [(&str, &[u8]); 3] = [
    ("p/c/edited", b"NEW bytes"),
    ("p/c/left", b"old bytes"),
    ("p/c/new", b"new"),
];

#[track_caller]
fn check_as_written(mount: &Mount) {
    check_as_written_beside(mount, &[]);
}

#[track_caller]
fn check_as_written_beside(mount: &Mount, others: &[&str]) {
    for (name, bytes) in AS_WRITTEN {
        assert_eq!(fs::read(mount.path(name)).unwrap(), bytes, "{name}");
    }
    mount.wait_for_keys("the new names", |keys| {
        let names = AS_WRITTEN.map(|(name, _)| name);
        keys.iter().eq(others.iter().chain(&names))
    });
    let stored = || AS_WRITTEN.map(|(name, bytes)| mount.object(name).unwrap() == bytes);
    wait_until(WITHIN, "the new bytes", || stored() == [true; 3]);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn what_is_closed_below_a_directory_that_moves_is_under_its_new_name() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let copies = write_while_it_moves(&mount, &proxy, durability);
        copies.open();
        mount.wait_for("p/c/new", "the new name", Path::exists);
        check_as_written(&mount);
    }
}

#[test]
fn what_was_closed_below_a_directory_that_moved_is_under_its_new_name_after_a_kill() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mut mount = plan.start();
    let copies = write_while_it_moves(&mount, &proxy, "disk");
    mount.kill9();
    proxy.heal();
    copies.open();
    mount.remount();
    check_as_written(&mount);
    assert!(!mount.path("p/b").exists());
}

/// Everything but the two directories works, whatever becomes of S3.
#[test]
fn a_rename_that_a_kill_cut_delays_its_two_directories_alone_until_s3_is_back() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mount = SupervisedMount::start(plan.args(["--request-timeout", "4s"]));
    make_dirs(&mount, &["p", "d"]);
    for name in ["p/b/left", "p/b/edited"] {
        mount.put_object(name, b"old bytes");
    }
    mount.wait_for("p/b/left", "the files", Path::exists);
    let mut worker = Worker::at(&mount.root);
    for line in [
        "elsewhere = os.open('d/f', os.O_RDWR | os.O_CREAT)",
        "edited = os.open('p/b/edited', os.O_RDWR)",
        "new = os.open('p/b/new', os.O_RDWR | os.O_CREAT)",
        "assert os.write(elsewhere, b'f') == 1",
        "assert os.write(edited, b'NEW') == os.write(new, b'new')",
    ] {
        worker.run(line).unwrap();
    }
    let copies = hold(&proxy, "CopyObject", "p/c/*");
    let moving = begin_rename(&mount, "p/b", "p/c");
    copies.wait_for(1);
    proxy.all_down();
    mount.kill_daemon();
    worker.run("os.close(elsewhere)").unwrap();
    let (old, new) = (mount.path("p/b/left"), mount.path("p/c/left"));
    for path in [&old, &new] {
        let path = path.clone();
        let shown = at_once("stat", move || fs::metadata(path));
        assert_eq!(sys::errno(shown), libc::ETIMEDOUT);
    }
    assert_eq!(sys::errno(outcome(&moving)), libc::ETIMEDOUT);
    worker.run("os.close(new)").unwrap();
    worker.run("os.close(edited)").unwrap();
    proxy.heal();
    copies.open();
    // It pauses for longer and longer while S3 does not answer.
    wait_until(2 * WITHIN, "the new name", || {
        fs::read(&new).is_ok_and(|bytes| bytes == b"old bytes")
    });
    check_as_written_beside(&mount, &["d/f"]);
    assert_eq!(mount.object("d/f").unwrap(), b"f");
    assert!(!old.exists());
    drop(worker);
    mount.unmount();
}

/// The daemon dies when it has given the directory its new place for itself, and the
/// journal has not seen the end of the rename.
#[test]
fn a_directory_that_had_its_new_place_when_the_daemon_died_moves_with_all_its_files() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mount = SupervisedMount::start(plan);
    // The marker of the new parent goes when it gets its first entry.
    make_dirs(&mount, &["p", "p/c"]);
    mount.wait_for_keys("the marker", |keys| keys == ["p/c/"]);
    for name in ["b/left", "b/edited"] {
        mount.put_object(name, b"old bytes");
    }
    mount.wait_for("b/left", "the files", Path::exists);
    let mut worker = Worker::at(&mount.root);
    let mut run = |line: &str| {
        worker
            .run(line)
            .unwrap_or_else(|errno| panic!("{line}: {errno}"))
    };
    run("edited, left = [os.open('b/' + it, os.O_RDWR) for it in ('edited', 'left')]");
    run("new = os.open('b/new', os.O_RDWR | os.O_CREAT)");
    run("assert os.write(edited, b'NEW') == os.write(new, b'new')");
    let copies = hold(&proxy, "CopyObject", "p/c/b/*");
    let marker = hold(&proxy, "DeleteObject", "p/c/");
    let moving = begin_rename(&mount, "b", "p/c/b");
    copies.wait_for(1);
    run("os.close(edited)");
    copies.open();
    marker.wait_for(1);
    run("os.close(new)");
    mount.kill_daemon();
    proxy.heal();
    marker.open();
    outcome(&moving).unwrap();
    run("assert os.pread(left, 100, 0) == b'old bytes'");
    run("assert os.pwrite(left, b'OLD', 0) == 3");
    run("os.close(left)");
    let wanted: [(&str, &[u8]); 3] = [
        ("p/c/b/edited", b"NEW bytes"),
        ("p/c/b/left", b"OLD bytes"),
        ("p/c/b/new", b"new"),
    ];
    for (name, bytes) in wanted {
        assert_eq!(fs::read(mount.path(name)).unwrap(), bytes, "{name}");
    }
    assert!(!mount.path("b").exists());
    let stored = || wanted.map(|(name, bytes)| mount.object(name).is_some_and(|it| it == bytes));
    wait_until(WITHIN, "the new bytes", || stored() == [true; 3]);
    mount.wait_for_keys("the new names", |keys| keys == wanted.map(|(name, _)| name));
    assert!(mount.lost_and_found().is_empty());
    drop(worker);
    mount.unmount();
}

#[test]
fn what_was_closed_while_its_file_moved_is_under_its_new_name_after_a_kill() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mut mount = plan.start();
    mount.put_object("f", b"old bytes");
    mount.wait_for("f", "the file", Path::exists);
    let edited = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    edited.write_all_at(b"NEW", 0).unwrap();
    let copy = hold(&proxy, "CopyObject", "g");
    let upload = hold(&proxy, "PutObject", "g");
    let moving = begin_rename(&mount, "f", "g");
    copy.wait_for(1);
    at_once("a close to the disk", move || sys::close(edited)).unwrap();
    copy.open();
    outcome(&moving).unwrap();
    mount.kill9();
    proxy.heal();
    mount.remount();
    assert_eq!(fs::read(mount.path("g")).unwrap(), b"NEW bytes");
    let stored = || mount.object("g").is_some_and(|bytes| bytes == b"NEW bytes");
    wait_until(WITHIN, "the new bytes", stored);
    mount.wait_for_keys("the new name alone", |keys| keys == ["g"]);
    assert!(mount.lost_and_found().is_empty());
    upload.open();
}

fn put_files(mount: &Mount) {
    for number in 0..6 {
        mount.put_object(&format!("d/f{number}"), format!("{number}").as_bytes());
    }
}

/// A second request that is carried out late would take what a rename back has put there.
#[test]
fn the_originals_of_a_directory_are_deleted_by_its_rename_alone() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability("disk");
    let mount = plan.args(["--request-timeout", "300s"]).start();
    put_files(&mount);
    mount.put_object("p/left", b"left");
    mount.put_object("p/other", b"other");
    mount.wait_for("p/other", "the file", Path::exists);
    let originals = Rule::on("DeleteObjects", Fault::Pass).key("d/f3");
    let deletes = proxy.hold(Side::BeforeServer, originals.always());
    let moving = begin_rename(&mount, "d", "e");
    deletes.wait_for(1);
    fs::remove_file(mount.path("p/other")).unwrap();
    // Deletes in the background go together.
    wait_until(WITHIN, "a delete in the background", || {
        mount.object("p/other").is_none() || deletes.held() > 1
    });
    assert_eq!(deletes.held(), 1);
    deletes.open();
    outcome(&moving).unwrap();
    fs::rename(mount.path("e"), mount.path("d")).unwrap();
    mount.wait_for_keys("the files alone", |keys| {
        keys == ["d/f0", "d/f1", "d/f2", "d/f3", "d/f4", "d/f5", "p/left"]
    });
}

/// Holds the copy of one file of a directory; the rename waits for it.
fn rename_at_a_gate(
    durability: &str,
) -> (Mount, Proxy, Gate, std::thread::JoinHandle<io::Result<()>>) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.durability(durability).set("--ttl", "0s").start();
    put_files(&mount);
    let gate = hold(&proxy, "CopyObject", "e/f3");
    let (from, to) = (mount.path("d"), mount.path("e"));
    let renaming = std::thread::spawn(move || fs::rename(from, to));
    gate.wait_for(1);
    (mount, proxy, gate, renaming)
}

#[test]
fn a_directory_moves_without_what_another_client_removes_meanwhile() {
    for durability in DURABILITIES {
        let (mount, _proxy, gate, renaming) = rename_at_a_gate(durability);
        mount.client().delete(mount.bucket(), "d/f3");
        gate.open();
        renaming.join().unwrap().unwrap();
        mount.wait_for_keys("what was there", |keys| {
            keys == ["e/f0", "e/f1", "e/f2", "e/f4", "e/f5"]
        });
        assert!(!mount.path("d").exists());
        assert!(!mount.path("e/f3").exists());
        assert_eq!(fs::read(mount.path("e/f4")).unwrap(), b"4");
    }
}

#[test]
fn a_directory_moves_without_what_another_client_replaces_meanwhile() {
    for durability in DURABILITIES {
        let (mount, _proxy, gate, renaming) = rename_at_a_gate(durability);
        mount.put_object("d/f3", b"newer");
        gate.open();
        renaming.join().unwrap().unwrap();
        mount.wait_for_keys("both", |keys| {
            keys == ["d/f3", "e/f0", "e/f1", "e/f2", "e/f4", "e/f5"]
        });
        assert_eq!(fs::read(mount.path("d/f3")).unwrap(), b"newer");
        assert!(!mount.path("e/f3").exists());
    }
}

#[test]
fn a_rename_of_a_directory_that_fails_leaves_no_copies() {
    for durability in DURABILITIES {
        let (plan, proxy) = Mount::behind_a_proxy();
        // What the listings of the server say of the moment is not believed for long.
        let mount = plan.durability(durability).set("--ttl", "0s").start();
        put_files(&mount);
        let refused = Fault::Answer(403, "AccessDenied");
        proxy.rule(Rule::on("CopyObject", refused).key("e/f3").always());
        let refused = fs::rename(mount.path("d"), mount.path("e")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        mount.wait_for_keys("the originals alone", |keys| {
            keys == ["d/f0", "d/f1", "d/f2", "d/f3", "d/f4", "d/f5"]
        });
        mount.wait_for("e", "no directory", |path| !path.exists());
        assert_eq!(fs::read(mount.path("d/f5")).unwrap(), b"5");
    }
}

/// Another mount that renames the directory too may take its copy for its own, and delete
/// the original.
#[test]
fn a_rename_of_a_directory_that_fails_leaves_copies_of_others() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.set("--ttl", "0s").start();
    put_files(&mount);
    let theirs = hold(&proxy, "CopyObject", "e/f1");
    let refused = Rule::on("CopyObject", Fault::Answer(403, "AccessDenied"));
    let refused = proxy.hold(Side::BeforeServer, refused.key("e/f3").always());
    let moving = begin_rename(&mount, "d", "e");
    theirs.wait_for(1);
    mount.put_object("e/f1", b"1");
    refused.open();
    theirs.open();
    assert_eq!(sys::errno(outcome(&moving)), libc::EACCES);
    mount.wait_for_keys("the originals and the other's copy", |keys| {
        keys == ["d/f0", "d/f1", "d/f2", "d/f3", "d/f4", "d/f5", "e/f1"]
    });
}
