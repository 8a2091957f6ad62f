//! Stores that do not copy: bytes are read and sent in place of that.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::{plan, said_once};
use crate::support::proxy::{Fault, Rule};
use crate::support::{DURABILITIES, pattern};

const LONG: usize = 20 << 20;
const MISSING: Fault = Fault::Answer(501, "NotImplemented");

fn append(path: &Path, bytes: &[u8]) {
    let mut file = fs::File::options().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn without_copies_of_parts_a_long_file_is_appended_to_overwritten_and_cut() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("UploadPartCopy", MISSING).of_store());
        let mut bytes = pattern(LONG, 1);
        for name in ["f", "g"] {
            plan.client.put(&plan.bucket, name, &bytes);
        }
        let mount = plan.durability(durability).start();
        let path = mount.path("f");
        append(&path, b"at the end");
        append(&mount.path("g"), b"at the end");
        bytes.extend_from_slice(b"at the end");
        mount.wait_until_uploaded("f", &bytes);
        mount.wait_until_uploaded("g", &bytes);
        let file = fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"within", 7 << 20).unwrap();
        file.sync_all().unwrap();
        drop(file);
        bytes[7 << 20..(7 << 20) + 6].copy_from_slice(b"within");
        mount.wait_until_uploaded("f", &bytes);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(18 << 20).unwrap();
        file.sync_all().unwrap();
        drop(file);
        bytes.truncate(18 << 20);
        mount.wait_until_uploaded("f", &bytes);
        assert!(mount.lost_and_found().is_empty());
        said_once(&mount, "this store has no UploadPartCopy");
        // Of each file one part, and those that were under way.
        let asked = proxy.seen("UploadPartCopy");
        assert!(asked <= 8, "{asked} copies of parts");
    }
}

#[test]
fn without_copies_files_and_directories_move_with_what_is_stored_with_them() {
    for is_of_store in [true, false] {
        let (plan, proxy) = plan();
        let missing = |op| match is_of_store {
            true => Rule::on(op, MISSING).of_store(),
            false => Rule::on(op, Fault::Answer(405, "MethodNotAllowed")).always(),
        };
        proxy.rule(missing("CopyObject"));
        proxy.rule(missing("UploadPartCopy"));
        let long = pattern(LONG, 2);
        plan.client.put(&plan.bucket, "long", &long);
        let mount = plan.start();
        fs::write(mount.path("page.html"), b"<p>").unwrap();
        fs::write(mount.path("empty"), b"").unwrap();
        fs::create_dir(mount.path("d")).unwrap();
        fs::write(mount.path("d/f"), b"below").unwrap();
        for (from, to) in [
            ("page.html", "moved.txt"),
            ("empty", "none"),
            ("long", "l"),
            ("d", "e"),
        ] {
            fs::rename(mount.path(from), mount.path(to)).unwrap();
        }
        mount.wait_for_keys("the new names alone", |keys| {
            keys == ["e/f", "l", "moved.txt", "none"]
        });
        assert_eq!(mount.object("moved.txt").unwrap(), b"<p>");
        assert_eq!(mount.object("none").unwrap(), b"");
        assert_eq!(mount.object("e/f").unwrap(), b"below");
        assert!(mount.object("l").unwrap() == long);
        fs::rename(mount.path("moved.txt"), mount.path("none")).unwrap();
        mount.wait_until_uploaded("none", b"<p>");
        said_once(&mount, "this store has no CopyObject");
        let log = mount.log();
        let wrong = log
            .lines()
            .find(|line| line.contains("ignores If-Match") && line.contains("CopyObject"));
        assert_eq!(wrong, None);
        // Of two objects, with the condition and without.
        assert!(proxy.seen("CopyObject") <= 4);
    }
}

#[test]
fn an_object_that_is_not_copied_says_nothing_of_the_next() {
    let (plan, proxy) = plan();
    for (op, key) in [("CopyObject", "odd-moved"), ("UploadPartCopy", "odd-long")] {
        proxy.rule(Rule::on(op, MISSING).key(key).always());
    }
    let long = pattern(LONG, 3);
    for key in ["odd-long", "long"] {
        plan.client.put(&plan.bucket, key, &long);
    }
    let mount = plan.start();
    for name in ["odd", "a", "b"] {
        fs::write(mount.path(name), name).unwrap();
        fs::rename(mount.path(name), mount.path(format!("{name}-moved"))).unwrap();
        mount.wait_until_uploaded(&format!("{name}-moved"), name.as_bytes());
    }
    for name in ["odd-long", "long"] {
        append(&mount.path(name), b"more");
        mount.wait_until_uploaded(name, &[&long[..], b"more"].concat());
    }
    for op in ["CopyObject", "UploadPartCopy"] {
        assert!(proxy.answered_bytes(op) > 0, "others are copied: {op}");
    }
    said_once(&mount, "the store refused to copy an object");
    said_once(&mount, "the store refused to copy a part");
    let log = mount.log();
    for of_store in ["this store has no", "no such conditional request"] {
        assert!(!log.contains(of_store), "{of_store}: {log}");
    }
}
