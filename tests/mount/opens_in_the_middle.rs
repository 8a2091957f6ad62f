//! An open(2) that arrives while this mount renames, replaces or removes its file,
//! and names that are made again at once: as on a local disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use libc::{O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, Server, sys};

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.set("--ttl", "1h").durability(durability);
    (plan, proxy)
}

#[track_caller]
fn put(mount: &Mount, name: &str, body: &str) {
    fs::write(mount.path(name), body).unwrap();
    mount.wait_until_uploaded(name, body.as_bytes());
}

fn read_all(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Opens in a thread of its own, for which the test waits with a deadline.
fn opening(path: PathBuf, flags: i32) -> thread::JoinHandle<Result<File, i32>> {
    thread::spawn(move || sys::open(path, flags).map_err(|error| error.raw_os_error().unwrap()))
}

#[test]
fn a_file_that_is_opened_while_it_is_renamed_is_the_file_under_its_new_name() {
    for (durability, op) in [
        ("s3", "CopyObject"),
        ("s3", "DeleteObject"),
        ("disk", "CopyObject"),
    ] {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        for side in [Side::BeforeServer, Side::AfterServer] {
            put(&mount, "f", "the old version");
            let gate = proxy.hold(side, Rule::on(op, Fault::Pass));
            let (from, to) = (mount.path("f"), mount.path("g"));
            let renaming = thread::spawn(move || fs::rename(from, to));
            gate.wait_for(1);
            let reader = sys::open(mount.path("f"), O_RDONLY).unwrap();
            let writer = sys::open(mount.path("f"), O_RDWR).unwrap();
            assert_eq!(read_all(reader.try_clone().unwrap()), "the old version");
            gate.open();
            renaming.join().unwrap().unwrap();
            writer.write_all_at(b"THE NEW", 0).unwrap();
            let mut seen = [0; 15];
            reader.read_exact_at(&mut seen, 0).unwrap();
            assert_eq!(&seen, b"THE NEW version", "{durability} {op} {side:?}");
            sys::close(writer).unwrap();
            mount.wait_until_uploaded("g", b"THE NEW version");
            assert!(!mount.path("f").exists());
            fs::remove_file(mount.path("g")).unwrap();
        }
        mount.wait_for_keys("nothing", <[String]>::is_empty);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_file_that_is_opened_while_it_is_removed_is_gone_or_whole() {
    let (plan, proxy) = behind_a_proxy("s3");
    let mount = plan.start();
    for flags in [O_RDONLY, O_RDWR, O_WRONLY | O_TRUNC] {
        put(&mount, "f", "the old version");
        let gate = proxy.hold(Side::BeforeServer, Rule::on("DeleteObject", Fault::Pass));
        let path = mount.path("f");
        let removing = thread::spawn(move || fs::remove_file(path));
        gate.wait_for(1);
        let opening = opening(mount.path("f"), flags);
        thread::sleep(Duration::from_millis(50));
        gate.open();
        removing.join().unwrap().unwrap();
        assert_eq!(opening.join().unwrap().unwrap_err(), libc::ENOENT);
        assert_eq!(mount.object("f"), None);
        // Not removed: the file is as it was.
        put(&mount, "f", "the next");
        let refused = Rule::on("DeleteObject", Fault::Answer(403, "AccessDenied"));
        let gate = proxy.hold(Side::BeforeServer, refused);
        let path = mount.path("f");
        let removing = thread::spawn(move || fs::remove_file(path));
        gate.wait_for(1);
        let opening = self::opening(mount.path("f"), O_RDWR);
        thread::sleep(Duration::from_millis(50));
        gate.open();
        assert_eq!(sys::errno(removing.join().unwrap()), libc::EACCES);
        let mut file = opening.join().unwrap().unwrap();
        file.write_all(b"THE").unwrap();
        sys::close(file).unwrap();
        assert_eq!(mount.object("f").unwrap(), b"THE next");
    }
}

#[test]
fn a_file_that_is_opened_while_another_takes_its_name_is_the_new_one() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = plan.start();
        for side in [Side::BeforeServer, Side::AfterServer] {
            for flags in [O_RDONLY, O_RDWR] {
                put(&mount, "f", "the old version");
                put(&mount, "f.new", "the new version");
                let gate = proxy.hold(side, Rule::on("CopyObject", Fault::Pass).key("f"));
                let (from, to) = (mount.path("f.new"), mount.path("f"));
                let renaming = thread::spawn(move || fs::rename(from, to));
                gate.wait_for(1);
                let opening = opening(mount.path("f"), flags);
                thread::sleep(Duration::from_millis(50));
                gate.open();
                renaming.join().unwrap().unwrap();
                let mut file = opening.join().unwrap().unwrap();
                if flags == O_RDWR {
                    file.write_all(b"THE NEW").unwrap();
                    sys::close(file).unwrap();
                    mount.wait_until_uploaded("f", b"THE NEW version");
                } else {
                    assert_eq!(read_all(file), "the new version");
                }
            }
        }
    }
}

#[test]
fn readers_of_a_name_that_is_published_by_rename_again_and_again_see_old_or_new() {
    for durability in DURABILITIES {
        let mount = Mount::builder()
            .set("--ttl", "1h")
            .args(["--durability", durability])
            .start();
        put(&mount, "f", "version 0");
        let path = mount.path("f");
        let reading = thread::spawn(move || {
            let mut reads = 0;
            loop {
                let file = sys::open(&path, O_RDONLY)
                    .unwrap_or_else(|error| panic!("{durability}: open: {error}"));
                let mut text = String::new();
                if let Err(error) = (&file).read_to_string(&mut text) {
                    panic!("{durability}: read: {error}");
                }
                assert!(text.starts_with("version "), "{text}");
                reads += 1;
                if text == "version 20" {
                    return reads;
                }
            }
        });
        for round in 1..=20 {
            fs::write(mount.path("f.new"), format!("version {round}")).unwrap();
            fs::rename(mount.path("f.new"), mount.path("f")).unwrap();
        }
        assert!(reading.join().unwrap() > 0);
    }
}

#[test]
fn a_name_is_a_directory_and_a_file_in_turn() {
    for durability in DURABILITIES {
        // A store where `x` and `x/` exclude each other.
        let mount = Mount::on(Server::seaweedfs())
            .args(["--durability", durability])
            .start();
        let x = mount.path("x");
        for _ in 0..4 {
            fs::write(&x, "file").unwrap();
            fs::remove_file(&x).unwrap();
            fs::create_dir(&x).unwrap();
            fs::remove_dir(&x).unwrap();
            fs::write(&x, "file").unwrap();
            fs::rename(&x, mount.path("x.bak")).unwrap();
            fs::create_dir(&x).unwrap();
            fs::write(mount.path("x/f"), "below").unwrap();
            fs::remove_dir_all(&x).unwrap();
        }
        // Many removals in a row: deletes that nobody waits for.
        fs::create_dir(&x).unwrap();
        for name in 0..30 {
            fs::write(mount.path(format!("x/{name}")), "below").unwrap();
        }
        fs::remove_dir_all(&x).unwrap();
        fs::write(&x, "file").unwrap();
        mount.wait_until_uploaded("x", b"file");
        for name in 0..30 {
            fs::write(mount.path(format!("y{name}")), "file").unwrap();
        }
        for name in 0..30 {
            fs::remove_file(mount.path(format!("y{name}"))).unwrap();
        }
        for name in 0..30 {
            fs::create_dir(mount.path(format!("y{name}"))).unwrap();
        }
        assert!(mount.lost_and_found().is_empty(), "{durability}");
    }
}
