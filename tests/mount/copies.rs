//! Copies between files of one mount.

use std::fs::{self, File};

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::programs::run_shell;
use crate::support::{Mount, pattern, sys};
use rustix::fs::copy_file_range;

#[test]
fn cp_of_a_whole_file_moves_no_bytes() {
    let mount = Mount::builder()
        .args(["--log", "info,mediafs=debug", "--copy-part-size", "5MiB"])
        .start();
    let body = pattern(11 * MIB, 3);
    mount.put_object("a.bin", &body);
    mount.wait_for("a.bin", "the file", |path| path.exists());
    run_shell(
        "cp \"$1\" \"$2\"",
        &[&mount.path("a.bin"), &mount.path("b.txt")],
    );
    assert_eq!(mount.requests("UploadPartCopy"), 3);
    assert_eq!(mount.requests("UploadPart"), 0);
    assert_eq!(mount.requests("GetObject"), 0);
    assert_same_bytes(&mount.object("b.txt").unwrap(), &body, "the copy");
    assert_same_bytes(&fs::read(mount.path("b.txt")).unwrap(), &body, "the file");
    let head = mount.client().head(mount.bucket(), "b.txt").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/plain"));
    run_shell(
        "cp \"$1\" \"$2\"",
        &[&mount.path("b.txt"), &mount.path("a.bin")],
    );
    assert_eq!(mount.requests("UploadPart"), 0, "over a file that is there");
    assert_same_bytes(&fs::read(mount.path("a.bin")).unwrap(), &body, "over it");
}

#[test]
fn a_copy_of_a_part_or_of_unsent_bytes_is_made_here() {
    let mount = Mount::fresh();
    let body = pattern(MIB, 5);
    fs::write(mount.path("a"), &body).unwrap();
    let source = sys::open(mount.path("a"), libc::O_RDWR).unwrap();
    let target = File::create(mount.path("b")).unwrap();
    let mut at = 1000;
    let mut copied = 0;
    while copied < 5000 {
        copied += copy_file_range(&source, Some(&mut at), &target, None, 5000 - copied).unwrap();
    }
    sys::close(target).unwrap();
    assert_same_bytes(&mount.object("b").unwrap(), &body[1000..6000], "a part");
    rustix::io::pwrite(&source, b"changed", 0).unwrap();
    let target = File::create(mount.path("c")).unwrap();
    let mut copied = 0;
    while copied < MIB {
        copied += copy_file_range(&source, None, &target, None, MIB).unwrap();
    }
    sys::close(target).unwrap();
    assert_eq!(&mount.object("c").unwrap()[..7], b"changed");
    assert_same_bytes(&mount.object("c").unwrap()[7..], &body[7..], "the rest");
}
