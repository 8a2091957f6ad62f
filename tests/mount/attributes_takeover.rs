//! Attributes after a takeover: the successor knows nothing of an object until it asks,
//! and the kernel, which remembers the names, does not make it look them up.

use std::ffi::CStr;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, StatxFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, statx};

use crate::support::proxy::{Fault, Rule, Side};
use crate::support::sys::{self, drop_names};
use crate::support::{Mount, SupervisedMount};

const XATTRS: [(&str, &[u8]); 2] = [("user.a", b"first"), ("user.b", b"second")];

/// A mount whose names the kernel remembers for the whole test, with a file that has
/// attributes of its own, of which the daemon that serves has been asked nothing.
fn taken_over(attributes: &'static str, make: impl FnOnce(&Path)) -> SupervisedMount {
    let plan = Mount::builder().set("--ttl", "1h");
    let mount = SupervisedMount::start(plan.args(["--attributes", attributes]));
    let path = mount.path("f");
    fs::write(&path, b"bytes").unwrap();
    make(&path);
    assert!(path.exists());
    mount.kill_daemon();
    mount
}

fn with_attributes(path: &Path) {
    setxattr(path, 0);
    chmod(path, 0o640);
    chown(path, Some(7), Some(8)).unwrap();
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn setxattr(path: &Path, number: usize) {
    let (name, value) = XATTRS[number];
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

#[track_caller]
fn has_xattr(path: &Path, number: usize) {
    let (name, want) = XATTRS[number];
    let mut value = [0; 100];
    let len = rustix::fs::getxattr(path, name, &mut value[..]);
    let len = len.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&value[..len], want, "{name}");
}

/// Of the inode that the kernel remembers, of one that it looks up, and of another mount.
#[track_caller]
fn is_everywhere(mount: &SupervisedMount, name: &str, check: impl Fn(&Path)) {
    check(&mount.path(name));
    drop_names(&mount.root);
    check(&mount.path(name));
    let other = Mount::builder().bucket(mount.bucket());
    let other = other.args(["--attributes", "stored"]).start();
    check(&other.path(name));
}

#[track_caller]
fn shows(path: &Path, mode: u32, owner: (u32, u32)) {
    let seen = fs::metadata(path).unwrap();
    let owners = (seen.uid(), seen.gid());
    assert_eq!((seen.mode() & 0o7777, owners), (mode, owner));
}

#[test]
fn what_is_changed_right_after_it_is_stored() {
    let changes: [fn(&Path); 4] = [
        |path| chmod(path, 0o600),
        // What a file has of which nothing is stored.
        |path| chmod(path, 0o644),
        |path| chown(path, Some(9), None).unwrap(),
        |path| {
            let time = UNIX_EPOCH + Duration::from_secs(86_400);
            let file = File::open(path).unwrap();
            file.set_modified(time).unwrap();
        },
    ];
    let outcomes = [
        (0o600, (7, 8)),
        (0o644, (7, 8)),
        (0o640, (9, 8)),
        (0o640, (7, 8)),
    ];
    for (number, (change, (mode, owner))) in changes.into_iter().zip(outcomes).enumerate() {
        let mount = taken_over("stored", with_attributes);
        change(&mount.path("f"));
        is_everywhere(&mount, "f", |path| {
            shows(path, mode, owner);
            has_xattr(path, 0);
            let seen = fs::metadata(path).unwrap();
            assert_eq!(seen.mtime() == 86_400, number == 3, "{number}");
        });
        mount.unmount();
    }
}

/// The copy that stores a mode is carried out, and its answer is lost with the daemon.
#[test]
fn what_was_being_stored_when_it_died_goes_along_with_a_rename() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(plan.args(["--attributes", "stored"]));
    let path = mount.path("f");
    fs::write(&path, b"bytes").unwrap();
    let copy = Rule::on("CopyObject", Fault::Pass).key("f");
    let gate = proxy.hold(Side::AfterServer, copy);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| chmod(&path, 0o600));
        gate.wait_for(1);
        mount.kill_daemon();
        gate.open();
        changing.join().unwrap();
    });
    fs::rename(&path, mount.path("g")).unwrap();
    is_everywhere(&mount, "g", |path| {
        let mode = fs::metadata(path).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o600);
    });
}

#[test]
fn extended_attributes_are_read_listed_and_added_to_right_after_it() {
    let mount = taken_over("stored", with_attributes);
    has_xattr(&mount.path("f"), 0);
    mount.kill_daemon();
    let mut names = [0_u8; 100];
    let len = rustix::fs::listxattr(mount.path("f"), &mut names[..]).unwrap();
    let name = CStr::from_bytes_with_nul(&names[..len]).unwrap();
    assert_eq!(name.to_str().unwrap(), XATTRS[0].0);
    mount.kill_daemon();
    setxattr(&mount.path("f"), 1);
    is_everywhere(&mount, "f", |path| {
        shows(path, 0o640, (7, 8));
        has_xattr(path, 0);
        has_xattr(path, 1);
    });
    mount.kill_daemon();
    rustix::fs::removexattr(mount.path("f"), XATTRS[0].0).unwrap();
    is_everywhere(&mount, "f", |path| {
        shows(path, 0o640, (7, 8));
        has_xattr(path, 1);
        let gone = rustix::fs::getxattr(path, XATTRS[0].0, &mut [0; 9][..]);
        assert_eq!(gone, Err(rustix::io::Errno::NODATA));
    });
    mount.unmount();
}

#[test]
fn what_mediafs_tells_of_a_file_is_told_right_after_it() {
    for mode in ["fixed", "stored"] {
        let mount = taken_over(mode, |_| ());
        for (name, want) in [
            ("user.mediafs.content_type", "application/octet-stream"),
            ("user.mediafs.etag", "4b3a6218bb3e3a7303e8a171a60fcf92"),
            ("user.mediafs.state", "clean"),
        ] {
            let mut value = [0; 100];
            let len = rustix::fs::getxattr(mount.path("f"), name, &mut value[..]);
            let len = len.unwrap_or_else(|error| panic!("{mode}, {name}: {error}"));
            assert_eq!(std::str::from_utf8(&value[..len]).unwrap(), want);
        }
        mount.unmount();
    }
}

#[test]
fn a_file_that_is_renamed_edited_or_cut_right_after_it_keeps_what_it_has() {
    let changes: [fn(&Path); 3] = [
        |path| fs::rename(path, path.with_file_name("g")).unwrap(),
        |path| {
            let file = File::options().append(true).open(path);
            file.unwrap().write_all(b"more").unwrap();
        },
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(2).unwrap();
        },
    ];
    for (change, name) in changes.into_iter().zip(["g", "f", "f"]) {
        let mount = taken_over("stored", with_attributes);
        change(&mount.path("f"));
        is_everywhere(&mount, name, |path| {
            shows(path, 0o640, (7, 8));
            has_xattr(path, 0);
        });
        mount.unmount();
    }
}

#[test]
fn a_file_that_was_open_at_it_keeps_what_it_has() {
    let mount = taken_over("stored", with_attributes);
    let mut file = sys::open(mount.path("f"), libc::O_RDWR | libc::O_APPEND).unwrap();
    mount.kill_daemon();
    file.write_all(b"more").unwrap();
    sys::close(file).unwrap();
    is_everywhere(&mount, "f", |path| {
        shows(path, 0o640, (7, 8));
        has_xattr(path, 0);
        assert_eq!(fs::read(path).unwrap(), b"bytesmore");
    });
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    mount.kill_daemon();
    file.set_permissions(Permissions::from_mode(0o600)).unwrap();
    sys::close(file).unwrap();
    is_everywhere(&mount, "f", |path| {
        shows(path, 0o600, (7, 8));
        has_xattr(path, 0);
    });
    mount.unmount();
}

#[test]
fn setuid_goes_with_the_first_write_of_another_user_right_after_it() {
    let mount = taken_over("stored", |path| {
        chown(path, Some(7), Some(8)).unwrap();
        chmod(path, 0o4777);
    });
    chown(mount.path("f"), Some(9), Some(8)).unwrap();
    is_everywhere(&mount, "f", |path| shows(path, 0o777, (9, 8)));
    mount.unmount();
}

#[test]
fn in_the_default_mode_what_was_set_holds_as_before_it() {
    let mount = taken_over("fixed", |path| {
        chmod(path, 0o600);
        chown(path, Some(7), Some(8)).unwrap();
        let time = UNIX_EPOCH + Duration::from_secs(86_400);
        File::open(path).unwrap().set_modified(time).unwrap();
    });
    let is_as_before = || {
        // As the daemon has it, not as the kernel remembers it.
        let (path, mask) = (mount.path("f"), StatxFlags::BASIC_STATS);
        let seen = statx(CWD, &path, AtFlags::STATX_FORCE_SYNC, mask).unwrap();
        let owners = (seen.stx_uid, seen.stx_gid);
        assert_eq!((seen.stx_mode & 0o7777, owners), (0o600, (7, 8)));
        assert_eq!(seen.stx_mtime.tv_sec, 86_400);
    };
    is_as_before();
    sys::open(mount.path("f"), libc::O_RDONLY).unwrap();
    is_as_before();
    mount.kill_daemon();
    is_as_before();
    mount.unmount();
}

/// The kernel asks for the change alone, of a file of which the successor knows the name.
#[test]
fn a_time_that_is_set_first_stays_and_the_file_keeps_its_length() {
    for attributes in ["fixed", "stored"] {
        let mount = taken_over(attributes, |_| {});
        let path = mount.path("f");
        let time = Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec: 0,
        };
        let only_mtime = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: time,
        };
        rustix::fs::utimensat(CWD, &path, &only_mtime, AtFlags::empty()).unwrap();
        for ask_again in [false, true] {
            let flags = if ask_again {
                AtFlags::STATX_FORCE_SYNC
            } else {
                AtFlags::empty()
            };
            let seen = statx(CWD, &path, flags, StatxFlags::BASIC_STATS).unwrap();
            assert_eq!(seen.stx_size, 5, "{attributes}");
            assert_eq!(seen.stx_mtime.tv_sec, time.tv_sec, "{attributes}");
        }
    }
}

#[test]
fn what_is_set_of_a_directory_right_after_it_costs_one_question() {
    let changes: [fn(&Path); 2] = [|path| setxattr(path, 1), |path| chmod(path, 0o700)];
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--attributes", "stored"]).set("--ttl", "1h");
    // One that is given up is asked again.
    let plan = plan.args(["--request-timeout", "300s"]);
    let mount = SupervisedMount::start(plan);
    let dirs = ["d0", "d1"].map(|name| mount.path(name));
    for dir in &dirs {
        fs::create_dir(dir).unwrap();
        setxattr(dir, 0);
    }
    mount.kill_daemon();
    for (dir, change) in dirs.iter().zip(changes) {
        let before = proxy.seen("HeadObject");
        change(dir);
        assert_eq!(proxy.seen("HeadObject") - before, 1, "{dir:?}");
        has_xattr(dir, 0);
    }
    mount.unmount();
}
