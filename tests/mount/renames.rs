//! Files that change their names.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, pattern, sys};
use rustix::fs::{CWD, RenameFlags, renameat_with};

#[test]
fn a_renamed_file_is_the_same_bytes_under_the_new_key_only() {
    let mut mount = Mount::fresh();
    let body = pattern(MIB + 3, 1);
    fs::create_dir(mount.path("dir")).unwrap();
    fs::write(mount.path("a.txt"), &body).unwrap();
    fs::rename(mount.path("a.txt"), mount.path("dir/b.png")).unwrap();
    assert!(!mount.path("a.txt").exists());
    assert_same_bytes(&fs::read(mount.path("dir/b.png")).unwrap(), &body, "mount");
    assert_same_bytes(&mount.object("dir/b.png").unwrap(), &body, "object");
    assert_eq!(mount.keys(), ["dir/b.png"]);
    let head = mount.client().head(mount.bucket(), "dir/b.png").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    mount.remount();
    assert_same_bytes(
        &fs::read(mount.path("dir/b.png")).unwrap(),
        &body,
        "remount",
    );
}

#[test]
fn a_rename_replaces_the_target() {
    let mount = Mount::fresh();
    fs::write(mount.path("new"), b"new").unwrap();
    fs::write(mount.path("old"), b"something longer").unwrap();
    fs::rename(mount.path("new"), mount.path("old")).unwrap();
    assert_eq!(fs::read(mount.path("old")).unwrap(), b"new");
    assert_eq!(mount.object("old").unwrap(), b"new");
    assert_eq!(mount.keys(), ["old"]);
}

#[test]
fn a_rename_that_must_not_replace_does_not() {
    let mount = Mount::fresh();
    fs::write(mount.path("a"), b"a").unwrap();
    fs::write(mount.path("b"), b"b").unwrap();
    let (a, b) = (mount.path("a"), mount.path("b"));
    let refused = renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE).unwrap_err();
    assert_eq!(refused.raw_os_error(), libc::EEXIST);
    assert_eq!(mount.object("b").unwrap(), b"b");
    fs::remove_file(&b).unwrap();
    renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE).unwrap();
    assert_eq!(mount.object("b").unwrap(), b"a");
}

#[test]
fn a_file_renamed_while_it_is_written_is_stored_under_the_new_name() {
    let mut mount = Mount::fresh();
    let mut file = File::create(mount.path("upload.part")).unwrap();
    file.write_all(b"first ").unwrap();
    fs::rename(mount.path("upload.part"), mount.path("upload.txt")).unwrap();
    file.write_all(b"second").unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("upload.txt").unwrap(), b"first second");
    mount.unmount();
    assert_eq!(mount.keys(), ["upload.txt"]);
}

#[test]
fn an_open_file_can_be_read_after_its_rename() {
    let mount = Mount::fresh();
    let body = pattern(3 * MIB, 2);
    mount.put_object("a", &body);
    mount.wait_for("a", "the file", |path| path.exists());
    let mut file = File::open(mount.path("a")).unwrap();
    fs::rename(mount.path("a"), mount.path("b")).unwrap();
    let mut seen = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut seen).unwrap();
    assert_same_bytes(&seen, &body, "through the old handle");
}

#[test]
fn a_rename_of_nothing_and_onto_a_directory_fails() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"x").unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    let missing = fs::rename(mount.path("none"), mount.path("g"));
    assert_eq!(sys::errno(missing), libc::ENOENT);
    assert_eq!(
        sys::errno(fs::rename(mount.path("f"), mount.path("d"))),
        libc::EISDIR
    );
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"x");
}

#[test]
fn a_long_object_is_renamed_in_parts_with_what_is_stored_with_it() {
    let mount = Mount::builder().args(["--copy-part-size", "5MiB"]).start();
    let body = pattern(17 * MIB, 31);
    fs::write(mount.path("a.txt"), &body).unwrap();
    fs::rename(mount.path("a.txt"), mount.path("b.html")).unwrap();
    assert_eq!(mount.keys(), ["b.html"]);
    assert_same_bytes(&mount.object("b.html").unwrap(), &body, "the object");
    assert_same_bytes(&fs::read(mount.path("b.html")).unwrap(), &body, "the file");
    let head = mount.client().head(mount.bucket(), "b.html").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/html"));
    fs::rename(mount.path("b.html"), mount.path("c.html")).unwrap();
    let head = mount.client().head(mount.bucket(), "c.html").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/html"), "kept");
}

fn exchange(a: &Path, b: &Path) -> rustix::io::Result<()> {
    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)
}

#[test]
fn an_exchange_gives_each_file_and_directory_the_others_name() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("a.txt"), b"first").unwrap();
    fs::write(mount.path("b.txt"), b"second").unwrap();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/inner"), b"third").unwrap();
    let mut reader = File::open(mount.path("a.txt")).unwrap();
    exchange(&mount.path("a.txt"), &mount.path("b.txt")).unwrap();
    assert_eq!(mount.object("a.txt").unwrap(), b"second");
    assert_eq!(mount.object("b.txt").unwrap(), b"first");
    exchange(&mount.path("b.txt"), &mount.path("d")).unwrap();
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut reader, &mut seen).unwrap();
    assert_eq!(seen, "first", "through the handle from before");
    drop(reader);
    mount.remount();
    assert_eq!(fs::read(mount.path("d")).unwrap(), b"first");
    assert_eq!(fs::read(mount.path("b.txt/inner")).unwrap(), b"third");
    assert_eq!(mount.keys(), ["a.txt", "b.txt/inner", "d"]);
    let nothing = exchange(&mount.path("a.txt"), &mount.path("none"));
    assert_eq!(nothing.unwrap_err().raw_os_error(), libc::ENOENT);
    let inside = exchange(&mount.path("b.txt"), &mount.path("b.txt/inner"));
    assert_eq!(inside.unwrap_err().raw_os_error(), libc::EINVAL);
}

#[test]
fn a_file_that_is_being_written_keeps_its_bytes_through_an_exchange() {
    let mount = Mount::fresh();
    let mut file = File::create(mount.path("new")).unwrap();
    file.write_all(b"half").unwrap();
    fs::write(mount.path("old"), b"old").unwrap();
    exchange(&mount.path("new"), &mount.path("old")).unwrap();
    file.write_all(b" and half").unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("old").unwrap(), b"half and half");
    assert_eq!(mount.object("new").unwrap(), b"old");
    assert_eq!(mount.keys(), ["new", "old"]);
}
