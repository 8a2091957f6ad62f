//! `--attributes=stored`: FIFOs, sockets and devices.

use std::fs::{self, Metadata, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::sys::{DirStream, drop_names};
use crate::support::{Mount, MountBuilder, SupervisedMount, sys};

fn plan() -> MountBuilder {
    Mount::builder().args(["--attributes", "stored"])
}

fn mknod(path: &Path, kind: FileType, device: u64) {
    let mode = Mode::from_bits_retain(0o640);
    mknodat(CWD, path, kind, mode, device).unwrap();
}

const DEVICE: (u32, u32) = (10, 0x1_23);

fn make_all(mount: &Mount) {
    let device = makedev(DEVICE.0, DEVICE.1);
    mknod(&mount.path("fifo"), FileType::Fifo, 0);
    mknod(&mount.path("socket"), FileType::Socket, 0);
    mknod(&mount.path("char"), FileType::CharacterDevice, device);
    mknod(&mount.path("block"), FileType::BlockDevice, device);
}

fn seen(mount: &Mount, name: &str) -> Metadata {
    fs::symlink_metadata(mount.path(name)).unwrap()
}

#[track_caller]
fn check_all(mount: &Mount, prefix: &str) {
    let kinds = [
        ("fifo", libc::S_IFIFO, libc::DT_FIFO),
        ("socket", libc::S_IFSOCK, libc::DT_SOCK),
        ("char", libc::S_IFCHR, libc::DT_CHR),
        ("block", libc::S_IFBLK, libc::DT_BLK),
    ];
    let mut stream = DirStream::open(&mount.path(prefix)).unwrap();
    let entries: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
    for (name, bits, listed) in kinds {
        let found = seen(mount, &format!("{prefix}{name}"));
        assert_eq!(found.mode(), bits | 0o640, "{name}");
        assert_eq!(found.len(), 0, "{name}");
        let device = match name {
            "char" | "block" => makedev(DEVICE.0, DEVICE.1),
            _ => 0,
        };
        assert_eq!(found.rdev(), device, "{name}");
        let entry = entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(entry.kind, listed, "{name} in a listing");
    }
}

#[test]
fn they_are_what_they_are_when_the_kernel_forgets_them_and_after_a_remount() {
    let mut mount = plan().start();
    make_all(&mount);
    for _ in 0..2 {
        check_all(&mount, "");
        drop_names(&mount.root);
        check_all(&mount, "");
        mount.remount();
    }
    let head = mount.client().head(mount.bucket(), "fifo").unwrap();
    assert_eq!(head.metadata["mode"], "4512");
    fs::create_dir(mount.path("d")).unwrap();
    for name in ["fifo", "socket", "char", "block"] {
        fs::rename(mount.path(name), mount.path(format!("d/{name}"))).unwrap();
    }
    fs::rename(mount.path("d"), mount.path("e")).unwrap();
    check_all(&mount, "e/");
    mount.remount();
    check_all(&mount, "e/");
    chown(mount.path("e/fifo"), Some(7), Some(8)).unwrap();
    fs::set_permissions(mount.path("e/fifo"), Permissions::from_mode(0o600)).unwrap();
    mount.remount();
    let fifo = seen(&mount, "e/fifo");
    assert_eq!((fifo.uid(), fifo.gid(), fifo.mode()), (7, 8, 0o010_600));
    fs::remove_dir_all(mount.path("e")).unwrap();
    mount.wait_for_keys("none", <[String]>::is_empty);
}

#[test]
fn a_fifo_and_a_socket_pass_bytes_between_processes_and_nodev_holds() {
    let mount = plan().start();
    make_all(&mount);
    let fifo = mount.path("fifo");
    let writer = std::thread::spawn(move || fs::write(fifo, b"through the pipe"));
    let mut text = String::new();
    let mut reader = fs::File::open(mount.path("fifo")).unwrap();
    reader.read_to_string(&mut text).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(text, "through the pipe");
    assert_eq!(mount.object("fifo").unwrap(), b"");
    let address = mount.path("bound");
    let listener = UnixListener::bind(&address).unwrap();
    assert!(seen(&mount, "bound").file_type().is_socket());
    let client = std::thread::spawn(move || {
        let mut stream = UnixStream::connect(address).unwrap();
        stream.write_all(b"hello").unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    client.join().unwrap();
    assert_eq!(text, "hello");
    let refused = fs::File::open(mount.path("char"));
    assert_eq!(sys::errno(refused), libc::EACCES);
}

#[test]
fn a_successor_shows_them_and_the_default_mode_refuses_them() {
    let mount = SupervisedMount::start(plan());
    make_all(&mount);
    mount.kill_daemon();
    check_all(&mount, "");
    mount.unmount();
    let fixed = Mount::fresh();
    for kind in [FileType::Fifo, FileType::Socket, FileType::CharacterDevice] {
        let made = mknodat(CWD, fixed.path("x"), kind, Mode::RUSR, 0);
        assert_eq!(made.unwrap_err().raw_os_error(), libc::EPERM);
    }
}
