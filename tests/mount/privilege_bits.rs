//! setuid and setgid: what a change by somebody else takes away.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::programs::{python, succeeds};
use crate::support::sys::drop_names;
use crate::support::{Mount, Server};

/// Ways to change a file of `0o7777` bytes of its content, as Python with `path` and `os`.
const CHANGES: [(&str, &str); 13] = [
    (
        "write",
        "fd = os.open(path, os.O_WRONLY); os.write(fd, b'xx'); os.close(fd)",
    ),
    ("append", "open(path, 'ab').write(b'x')"),
    ("truncate", "os.truncate(path, 100)"),
    ("truncate to the same length", "os.truncate(path, 4096)"),
    (
        "ftruncate",
        "fd = os.open(path, os.O_RDWR); os.ftruncate(fd, 10); os.close(fd)",
    ),
    (
        "O_TRUNC",
        "os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))",
    ),
    (
        "O_CREAT and O_TRUNC",
        "os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))",
    ),
    ("fallocate", "allocate(0, 0, 9000)"),
    ("fallocate that keeps the size", "allocate(1, 0, 9000)"),
    ("punch a hole", "allocate(3, 0, 100)"),
    ("zero a range", "allocate(16, 0, 100)"),
    (
        "copy_file_range",
        "source = os.open(path + '.source', os.O_RDONLY); fd = os.open(path, os.O_WRONLY); os.copy_file_range(source, fd, 100)",
    ),
    (
        "mmap",
        "import mmap; f = open(path, 'r+b'); m = mmap.mmap(f.fileno(), 4096); m[0:4] = b'mmap'; m.flush(); m.close(); f.close()",
    ),
];

const PROGRAM: &str = "
import ctypes, os, sys
path = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
def allocate(mode, offset, length):
    fd = os.open(path, os.O_RDWR)
    call = libc.fallocate
    call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    if call(fd, mode, offset, length):
        raise OSError(ctypes.get_errno(), 'fallocate')
    os.close(fd)
";

fn as_a_stranger(change: &str, path: &Path) {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", "1234", "--regid", "1234", "--clear-groups"])
        .arg(python())
        .args(["-c", &format!("{PROGRAM}{change}")])
        .arg(path);
    succeeds(&mut command);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn make(path: &Path, mode: u32) {
    fs::write(path, [b'x'; 4096]).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mount(attributes: &str) -> Mount {
    Mount::on(Server::shared())
        .args(["--allow-other", "--attributes", attributes])
        .start()
}

/// What is left of two modes after a change, at once and where it is stored.
#[track_caller]
fn check(mount: &mut Mount, stored: bool) {
    let left = |mode: u32| if mode == 0o6777 { 0o777 } else { 0o2666 };
    for (number, (name, change)) in CHANGES.iter().enumerate() {
        for before in [0o6777, 0o6666] {
            let path = mount.path(format!("f{number}-{before:o}"));
            make(&path, before);
            fs::write(
                mount.path(format!("f{number}-{before:o}.source")),
                [b's'; 5000],
            )
            .unwrap();
            // With fixed attributes a mode is known as long as the kernel knows the file.
            let _held = fs::File::open(&path).unwrap();
            as_a_stranger(change, &path);
            assert_eq!(mode(&path), left(before), "{name} of {before:o}");
        }
    }
    if !stored {
        return;
    }
    drop_names(&mount.root);
    mount.remount();
    for (number, (name, _)) in CHANGES.iter().enumerate() {
        for before in [0o6777, 0o6666] {
            let path = mount.path(format!("f{number}-{before:o}"));
            assert_eq!(mode(&path), left(before), "{name} of {before:o}, stored");
        }
    }
}

#[test]
fn a_change_by_somebody_else_takes_setuid_and_setgid_away_in_stored_mode() {
    check(&mut mount("stored"), true);
}

#[test]
fn a_change_by_somebody_else_takes_setuid_and_setgid_away_in_fixed_mode() {
    check(&mut mount("fixed"), false);
}

/// A whole object becomes the file by a copy within S3.
#[test]
fn a_copy_by_somebody_else_into_an_empty_file_takes_them_away() {
    for attributes in ["stored", "fixed"] {
        let mount = Mount::on(Server::shared())
            .args(["--allow-other", "--attributes", attributes])
            .args(["--log", "info,mediafs=debug"])
            .start();
        fs::write(mount.path("source"), [b's'; 5000]).unwrap();
        let path = mount.path("f");
        fs::write(&path, b"").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6777)).unwrap();
        let _held = fs::File::open(&path).unwrap();
        let copies = mount.requests("CopyObject");
        as_a_stranger(
            "source = os.open(os.path.dirname(path) + '/source', os.O_RDONLY); fd = os.open(path, os.O_WRONLY); assert os.copy_file_range(source, fd, 5000) == 5000; os.close(fd)",
            &path,
        );
        assert_eq!(mount.requests("CopyObject"), copies + 1, "{attributes}");
        assert_eq!(mode(&path), 0o777, "{attributes}");
        assert_eq!(fs::read(&path).unwrap(), [b's'; 5000]);
        if attributes == "stored" {
            let head = mount.client().head(mount.bucket(), "f").unwrap();
            let stored: u32 = head.metadata["mode"].parse().unwrap();
            assert_eq!(stored & 0o7777, 0o777);
        }
    }
}

#[test]
fn chown_takes_them_away_even_from_root_and_to_the_same_owner() {
    let mut mount = mount("stored");
    let owners = [
        (Some(7), Some(8)),
        (Some(7), None),
        (None, Some(8)),
        (Some(0), Some(0)),
    ];
    for (number, (uid, gid)) in owners.into_iter().enumerate() {
        let path = mount.path(format!("f{number}"));
        make(&path, 0o6755);
        chown(&path, uid, gid).unwrap();
        assert_eq!(mode(&path), 0o755, "{uid:?} {gid:?}");
        let dir = mount.path(format!("d{number}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o3755)).unwrap();
        chown(&dir, uid, gid).unwrap();
        assert_eq!(mode(&dir), 0o3755, "of a directory: {uid:?} {gid:?}");
    }
    mount.remount();
    for number in 0..owners.len() {
        assert_eq!(mode(&mount.path(format!("f{number}"))), 0o755, "stored");
    }
}

#[test]
fn chown_takes_them_away_from_special_files_too() {
    let mut mount = mount("stored");
    let device = makedev(1, 3);
    let kinds = [
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
        ("char", FileType::CharacterDevice),
        ("block", FileType::BlockDevice),
    ];
    for (name, kind) in kinds {
        let path = mount.path(name);
        mknodat(CWD, &path, kind, Mode::RUSR, device).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o6755)).unwrap();
        chown(&path, Some(7), Some(8)).unwrap();
        assert_eq!(mode(&path), 0o755, "{name}");
    }
    mount.remount();
    for (name, _) in kinds {
        assert_eq!(mode(&mount.path(name)), 0o755, "stored: {name}");
    }
}

#[test]
fn root_keeps_them_through_a_write() {
    let mount = mount("stored");
    let path = mount.path("f");
    make(&path, 0o6755);
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10)
        .unwrap();
    run_as_root(&path);
    assert_eq!(mode(&path), 0o6755);
}

fn run_as_root(path: &Path) {
    crate::support::programs::run_shell("printf more >> \"$1\"; : > \"$1\"", &[path]);
}
