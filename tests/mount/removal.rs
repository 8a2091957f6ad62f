//! Removing and replacing files that somebody reads: no bytes are moved for it.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::thread;
use std::time::Duration;

use libc::O_RDONLY;

use crate::support::data::MIB;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{
    DURABILITIES, Mount, MountBuilder, SupervisedMount, Worker, pattern, sys, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .set("--ttl", "1h")
        .args(["--negative-ttl", "0s"])
        .durability(durability);
    (plan, proxy)
}

/// A file that is open for reading and has been read at its begin only.
fn reader(mount: &Mount, name: &str, body: &[u8]) -> File {
    mount.put_object(name, body);
    let file = sys::open(mount.path(name), O_RDONLY).unwrap();
    let mut begin = [0; 1000];
    file.read_exact_at(&mut begin, 0).unwrap();
    assert_eq!(begin, body[..1000]);
    file
}

/// Requests for bytes so far, once those that read ahead are over.
#[track_caller]
fn gets(proxy: &Proxy) -> usize {
    proxy.wait_until_idle();
    proxy.seen("GetObject")
}

#[track_caller]
fn reads_whole(file: &File, body: &[u8]) {
    let mut seen = vec![0; body.len()];
    file.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == body, "other bytes");
}

#[test]
fn rm_of_a_file_that_is_read_fetches_nothing_and_the_reader_goes_on() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        // No room for the file in the spool.
        let mount = plan.args(["--spool-size", "16MiB"]).start();
        let body = pattern(40 * MIB, 1);
        let file = reader(&mount, "f", &body);
        let before = gets(&proxy);
        fs::remove_file(mount.path("f")).unwrap();
        assert!(!mount.path("f").exists());
        assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
        assert_eq!(proxy.seen("GetObject"), before, "{durability}");
        reads_whole(&file, &body);
        drop(file);
        mount.wait_for_keys("nothing", <[String]>::is_empty);
    }
}

#[test]
fn a_directory_that_is_looked_at_while_its_last_file_goes_stays_the_same() {
    for attributes in ["fixed", "stored"] {
        let (plan, proxy) = behind_a_proxy("disk");
        let plan = plan.args(["--attributes", attributes]);
        let mount = plan.set("--ttl", "0").start();
        mount.put_object("d/f", b"x");
        let dir = File::open(mount.path("d")).unwrap();
        let ino = dir.metadata().unwrap().ino();
        let held = |side, op, key| proxy.hold(side, Rule::on(op, Fault::Pass).key(key));
        thread::scope(|scope| {
            let marker = held(Side::BeforeServer, "PutObject", "d/");
            let removed = scope.spawn(|| fs::remove_file(mount.path("d/f")));
            marker.wait_for(1);
            // Of an answer from before the marker, which comes after the removal.
            let listing = held(Side::AfterServer, "ListObjectsV2", "d/");
            let looked = scope.spawn(|| fs::metadata(mount.path("d")));
            listing.wait_for(1);
            marker.open();
            removed.join().unwrap().unwrap();
            listing.open();
            assert_eq!(looked.join().unwrap().unwrap().ino(), ino, "{attributes}");
        });
        assert_eq!(dir.metadata().unwrap().ino(), ino);
        assert_eq!(fs::metadata(mount.path("d")).unwrap().ino(), ino);
        assert_eq!(fs::read_dir(mount.path("d")).unwrap().count(), 0);
    }
}

#[test]
fn a_directory_whose_last_file_is_read_still_goes_and_comes_back_without_it() {
    for durability in DURABILITIES {
        let mount = Mount::builder().args(["--durability", durability]).start();
        let body = pattern(3 * MIB, 2);
        fs::create_dir(mount.path("d")).unwrap();
        let file = reader(&mount, "d/f", &body);
        fs::remove_file(mount.path("d/f")).unwrap();
        fs::remove_dir(mount.path("d")).unwrap();
        assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
        assert!(!mount.path("d").exists());
        fs::create_dir(mount.path("d")).unwrap();
        assert_eq!(fs::read_dir(mount.path("d")).unwrap().count(), 0);
        fs::rename(mount.path("d"), mount.path("e")).unwrap();
        reads_whole(&file, &body);
        drop(file);
        mount.wait_for_keys("the directory", |keys| keys == ["e/"]);
    }
}

#[test]
fn a_name_that_is_made_again_while_its_old_file_is_read_leaves_both_whole() {
    for durability in DURABILITIES {
        let mount = Mount::builder().args(["--durability", durability]).start();
        let body = pattern(3 * MIB, 3);
        let file = reader(&mount, "f", &body);
        fs::remove_file(mount.path("f")).unwrap();
        fs::write(mount.path("f"), "the next").unwrap();
        wait_until(WITHIN, "the next", || {
            mount.object("f").as_deref() == Some(b"the next")
        });
        reads_whole(&file, &body);
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"the next");
        drop(file);
        assert_eq!(mount.object("f").unwrap(), b"the next");
    }
}

/// Where the bytes are of what takes the place of a file that is read.
const NEW_FILES: [NewFile; 2] = [NewFile::InS3, NewFile::WrittenHere];

#[derive(Debug, Clone, Copy)]
enum NewFile {
    InS3,
    WrittenHere,
}

impl NewFile {
    fn make(self, mount: &Mount, body: &[u8]) {
        match self {
            Self::InS3 => mount.put_object("new", body),
            Self::WrittenHere => fs::write(mount.path("new"), body).unwrap(),
        }
    }
}

#[test]
fn mv_over_a_file_that_is_read_fetches_nothing_and_the_reader_goes_on() {
    for durability in DURABILITIES {
        for new_file in NEW_FILES {
            let (plan, proxy) = behind_a_proxy(durability);
            // No room for the file in the spool.
            let mount = plan.args(["--spool-size", "16MiB"]).start();
            let (body, small) = (pattern(40 * MIB, 4), pattern(MIB, 5));
            let file = reader(&mount, "f", &body);
            new_file.make(&mount, &small);
            let before = gets(&proxy);
            fs::rename(mount.path("new"), mount.path("f")).unwrap();
            assert_eq!(
                proxy.seen("GetObject"),
                before,
                "{durability}, {new_file:?}"
            );
            reads_whole(&file, &body);
            assert_eq!(fs::read(mount.path("f")).unwrap(), small);
            let names = fs::read_dir(&mount.root).unwrap();
            assert_eq!(names.count(), 1, "the copy is not seen");
            drop(file);
            mount.wait_for_keys("the new file alone", |keys| keys == ["f"]);
            assert_eq!(mount.object("f").unwrap(), small);
        }
    }
}

#[test]
fn a_short_file_that_is_read_and_replaced_leaves_no_copy_in_the_store() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let (body, small) = (pattern(MIB, 4), pattern(MIB, 5));
        let file = reader(&mount, "g", &body);
        mount.put_object("f", &small);
        let copies = proxy.seen("CopyObject");
        fs::rename(mount.path("f"), mount.path("g")).unwrap();
        assert_eq!(proxy.seen("CopyObject"), copies + 1, "that of the rename");
        reads_whole(&file, &body);
    }
}

#[test]
fn a_file_that_is_read_is_as_it_was_when_what_would_replace_it_fails() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let body = pattern(3 * MIB, 4);
    let file = reader(&mount, "f", &body);
    mount.put_object("new", b"new");
    let refused = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("CopyObject", refused).key("f"));
    let moved = fs::rename(mount.path("new"), mount.path("f"));
    assert_eq!(sys::errno(moved), libc::EACCES);
    reads_whole(&file, &body);
    assert_eq!(fs::read(mount.path("f")).unwrap(), body);
    mount.wait_for_keys("both", |keys| keys == ["f", "new"]);
    // It is changed by its name, as before.
    let file = File::options().write(true).open(mount.path("f")).unwrap();
    file.write_all_at(b"edit", 0).unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("f").unwrap()[..4], *b"edit");
}

#[test]
fn a_store_that_makes_no_copy_aside_has_the_bytes_fetched() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    let body = pattern(3 * MIB, 4);
    let file = reader(&mount, "f", &body);
    fs::write(mount.path("new"), b"new").unwrap();
    let refused = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("CopyObject", refused).key(".mediafs-replaced-*"));
    fs::rename(mount.path("new"), mount.path("f")).unwrap();
    reads_whole(&file, &body);
    assert_eq!(mount.object("f").unwrap(), b"new");
}

/// A file that a process reads is taken away by it, before a takeover.
fn reads_on_after_a_takeover(durability: &str, taken_away: &str) -> SupervisedMount {
    let mount = SupervisedMount::start(Mount::builder().args(["--durability", durability]));
    let body = pattern(3 * MIB, 6);
    mount.put_object("f", &body);
    let mut worker = Worker::at(&mount.root);
    worker.run("fd = os.open('f', os.O_RDONLY)").unwrap();
    worker.run("begin = os.read(fd, 1000)").unwrap();
    worker.run(taken_away).unwrap();
    mount.kill_daemon();
    // Longer than the successor waits for what its predecessor has sent.
    thread::sleep(Duration::from_millis(2500));
    worker
        .run("rest = b''.join(iter(lambda: os.read(fd, 1 << 20), b''))")
        .unwrap();
    worker.run("assert len(begin + rest) == 3 << 20").unwrap();
    worker.run("os.close(fd)").unwrap();
    mount
}

#[test]
fn a_reader_of_a_replaced_file_goes_on_after_a_takeover_and_its_copy_goes() {
    for durability in DURABILITIES {
        let replaced = "open('new', 'w').write('new'); os.rename('new', 'f')";
        let mount = reads_on_after_a_takeover(durability, replaced);
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"new");
        mount.wait_for_keys("the new file alone", |keys| keys == ["f"]);
    }
}

#[test]
fn a_copy_for_readers_goes_with_the_daemon() {
    let mut mount = Mount::fresh();
    let body = pattern(3 * MIB, 7);
    let file = reader(&mount, "f", &body);
    fs::write(mount.path("new"), b"new").unwrap();
    fs::rename(mount.path("new"), mount.path("f")).unwrap();
    assert_eq!(mount.keys().len(), 2);
    mount.kill9();
    drop(file);
    mount.remount();
    mount.wait_for_keys("the new file alone", |keys| keys == ["f"]);
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"new");
}

#[test]
fn a_reader_of_a_removed_file_goes_on_after_a_takeover() {
    for durability in DURABILITIES {
        let mount = reads_on_after_a_takeover(durability, "os.unlink('f')");
        assert!(!mount.path("f").exists());
        mount.wait_for_keys("nothing", <[String]>::is_empty);
    }
}

#[test]
fn a_kept_object_goes_with_the_daemon() {
    let mut mount = Mount::fresh();
    let body = pattern(3 * MIB, 7);
    let file = reader(&mount, "f", &body);
    fs::remove_file(mount.path("f")).unwrap();
    assert_eq!(mount.keys(), ["f"]);
    mount.kill9();
    drop(file);
    mount.remount();
    assert!(!mount.path("f").exists());
    mount.wait_for_keys("nothing", <[String]>::is_empty);
}

/// Names in a directory that the next mount shows, once all deletes are carried out.
fn names_after_a_remount(mount: &mut Mount, dir: &str) -> Vec<String> {
    mount.unmount();
    mount.remount();
    let names = fs::read_dir(mount.path(dir)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The server keeps a directory that has something in it.
#[test]
fn a_directory_that_is_renamed_while_files_of_it_wait_for_their_deletes_does_not_come_back() {
    let (plan, proxy) = behind_a_proxy("disk");
    let mut mount = plan.start();
    mount.put_object("p/old/gone", b"gone");
    mount.put_object("p/old/moved", b"moved");
    mount.wait_for("p/old/moved", "the file", std::path::Path::exists);
    let deletes = Rule::on("DeleteObjects", Fault::Pass);
    let gate = proxy.hold(Side::BeforeServer, deletes);
    fs::remove_file(mount.path("p/old/gone")).unwrap();
    gate.wait_for(1);
    fs::rename(mount.path("p/old"), mount.path("p/new")).unwrap();
    gate.open();
    assert_eq!(names_after_a_remount(&mut mount, "p"), ["new"]);
    assert_eq!(fs::read(mount.path("p/new/moved")).unwrap(), b"moved");
}

#[test]
fn a_directory_that_goes_while_a_file_of_it_is_read_does_not_come_back() {
    for durability in DURABILITIES {
        let (plan, _proxy) = behind_a_proxy(durability);
        let mut mount = plan.start();
        let body = pattern(3 * MIB, 1);
        mount.put_object("p/kept", b"kept");
        let readers = ["p/removed/f", "p/moved/f"].map(|name| {
            let file = reader(&mount, name, &body);
            fs::remove_file(mount.path(name)).unwrap();
            file
        });
        fs::remove_dir(mount.path("p/removed")).unwrap();
        fs::rename(mount.path("p/moved"), mount.path("p/new")).unwrap();
        for file in readers {
            reads_whole(&file, &body);
        }
        let mut names = names_after_a_remount(&mut mount, "p");
        names.sort();
        assert_eq!(names, ["kept", "new"], "{durability}");
    }
}

#[test]
fn a_directory_that_went_while_a_file_of_it_is_read_can_be_made_again_at_once() {
    for durability in DURABILITIES {
        let (plan, _proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        let body = pattern(3 * MIB, 1);
        let file = reader(&mount, "d/f", &body);
        fs::remove_file(mount.path("d/f")).unwrap();
        fs::remove_dir(mount.path("d")).unwrap();
        fs::create_dir(mount.path("d")).unwrap();
        fs::write(mount.path("d/f"), "new").unwrap();
        reads_whole(&file, &body);
        drop(file);
        mount.wait_until_uploaded("d/f", b"new");
    }
}
