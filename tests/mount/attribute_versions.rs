//! `--attributes=stored`: which version of an object its attributes belong to.
//!
//! A copy onto itself keeps the ETag, and Last-Modified has whole seconds: two
//! changes within one second leave objects that no listing tells apart.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::XattrFlags;

use crate::support::data::MIB;
use crate::support::proxy::{Fault, Rule};
use crate::support::sys::{self, DirStream, drop_names};
use crate::support::{Mount, MountBuilder, Server, pattern};

/// Tries to have two changes within one second.
const TRIES: usize = 100;

fn stored(plan: MountBuilder) -> Mount {
    plan.args(["--attributes", "stored", "--negative-ttl", "0"])
        .start()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn changed_at(mount: &Mount, key: &str) -> i64 {
    let head = mount.client().head(mount.bucket(), key).unwrap();
    head.last_modified
}

/// Two changes of one second, with `between` them; the path of the file.
#[track_caller]
fn twice_in_a_second(mount: &Mount, between: impl Fn(&Path)) -> String {
    for count in 0..TRIES {
        let key = format!("d/f{count}");
        let path = mount.path(&key);
        fs::write(&path, b"bytes").unwrap();
        chmod(&path, 0o666);
        let first = changed_at(mount, &key);
        between(Path::new(&key));
        chmod(&path, 0o640);
        if changed_at(mount, &key) == first {
            return key;
        }
    }
    panic!("never two changes within one second");
}

#[test]
fn the_second_of_two_changes_in_one_second_holds_when_the_kernel_forgets_and_after_a_remount() {
    let mut mount = stored(Mount::builder());
    fs::create_dir(mount.path("d")).unwrap();
    // As chmod -R does: a listing between the two.
    let list = |_: &Path| drop(DirStream::open(&mount.path("d")).unwrap().rest());
    let key = twice_in_a_second(&mount, list);
    for _ in 0..2 {
        for _ in 0..3 {
            drop_names(&mount.root);
            assert_eq!(mode(&mount.path(&key)), 0o640);
            std::thread::sleep(Duration::from_millis(1100));
        }
        mount.remount();
    }
}

#[test]
fn what_was_asked_within_the_second_of_a_change_is_not_remembered() {
    let a = stored(Mount::builder());
    let b = stored(Mount::builder().bucket(a.bucket()));
    fs::create_dir(a.path("d")).unwrap();
    let ask = |key: &Path| {
        assert_eq!(mode(&b.path(key)), 0o666);
    };
    let key = twice_in_a_second(&a, ask);
    b.wait_for(&key, "the second change", |path| mode(path) == 0o640);
    drop_names(&b.root);
    assert_eq!(mode(&b.path(&key)), 0o640);
}

#[test]
fn another_clients_later_change_of_the_attributes_alone_shows() {
    let a = stored(Mount::builder());
    let b = stored(Mount::builder().bucket(a.bucket()));
    fs::write(a.path("f"), b"bytes").unwrap();
    chmod(&a.path("f"), 0o644);
    chown(a.path("f"), Some(7), Some(8)).unwrap();
    let ours = changed_at(&a, "f");
    b.wait_for("f", "the owner", |path| {
        fs::metadata(path).is_ok_and(|seen| seen.uid() == 7)
    });
    while changed_at(&a, "f") == ours {
        std::thread::sleep(Duration::from_millis(300));
        chmod(&b.path("f"), 0o600);
        chmod(&b.path("f"), 0o601);
    }
    a.wait_for("f", "the other mode", |path| mode(path) == 0o601);
}

type Change = (&'static str, fn(&Path));

/// Changes of a file that are stored with it.
const CHANGES: [Change; 5] = [
    ("append", |path| {
        let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(b", more").unwrap();
    }),
    ("rewrite", |path| fs::write(path, b"new bytes").unwrap()),
    ("owner", |path| chown(path, Some(7), None).unwrap()),
    ("attribute", |path| setxattr(path, "user.a", b"ours")),
    ("time", |path| {
        let file = fs::File::open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000))
            .unwrap();
    }),
];

fn setxattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn getxattr(path: &Path, name: &str) -> Vec<u8> {
    let mut value = [0; 16];
    let len = rustix::fs::getxattr(path, name, &mut value[..]).unwrap();
    value[..len].to_vec()
}

/// The second mount gives a name another mode and an attribute, of which the first does not
/// know when it makes the change; then it shows the other mode.
#[track_caller]
fn change_under(
    (a, b): (&Mount, &Mount),
    name: &str,
    (before, theirs): (u32, u32),
    change: fn(&Path),
) {
    chmod(&a.path(name), before);
    b.wait_for(name, "the mode", |path| {
        path.exists() && mode(path) == before
    });
    chmod(&b.path(name), theirs);
    setxattr(&b.path(name), "user.b", b"theirs");
    assert_eq!(mode(&a.path(name)), before, "{name}: not remembered");
    change(&a.path(name));
    a.wait_for(name, "the mode to show", |path| mode(path) == theirs);
}

/// The mode that is stored with an object.
fn stored_mode(mount: &Mount, key: &str) -> u32 {
    let head = mount.client().head(mount.bucket(), key).unwrap();
    head.metadata["mode"].parse::<u32>().unwrap() & 0o7777
}

#[test]
fn a_change_stores_nothing_of_what_another_client_has_changed_meanwhile() {
    let mut a = stored(Mount::builder().set("--ttl", "1h"));
    let b = stored(Mount::builder().bucket(a.bucket()));
    for (name, change) in CHANGES {
        fs::write(a.path(name), b"bytes").unwrap();
        change_under((&a, &b), name, (0o644, 0o600), change);
        assert_eq!(stored_mode(&a, name), 0o600, "{name}");
    }
    a.remount();
    for (name, _) in CHANGES {
        assert_eq!(getxattr(&a.path(name), "user.b"), b"theirs", "{name}");
    }
    assert_eq!(getxattr(&a.path("attribute"), "user.a"), b"ours");
}

#[test]
fn a_change_of_a_directory_stores_nothing_of_what_another_client_has_changed_meanwhile() {
    // It keeps what is stored with markers.
    let server = Server::moto();
    let mut a = stored(Mount::on(server).set("--ttl", "1h"));
    let b = stored(Mount::on(server).bucket(a.bucket()));
    let changes = || {
        let of_directories = |it: &&Change| !matches!(it.0, "append" | "rewrite");
        CHANGES.iter().filter(of_directories)
    };
    for (name, change) in changes() {
        fs::create_dir(a.path(name)).unwrap();
        change_under((&a, &b), name, (0o755, 0o700), *change);
        assert_eq!(stored_mode(&a, &format!("{name}/")), 0o700, "{name}");
    }
    a.remount();
    for (name, _) in changes() {
        assert_eq!(mode(&a.path(name)), 0o700, "{name}");
        assert_eq!(getxattr(&a.path(name), "user.b"), b"theirs", "{name}");
    }
}

/// A long object is copied in parts: its copy has another version.
#[test]
fn a_long_file_whose_copy_is_made_and_never_answered_is_no_other_clients() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mut body = pattern(11 * MIB, 1);
    plan.client.put(&plan.bucket, "long", &body);
    let mount = plan
        .args(["--attributes", "stored", "--copy-part-size", "5MiB"])
        .args(["--request-timeout", "10s"])
        .start();
    let file = sys::open(mount.path("long"), libc::O_RDWR).unwrap();
    let lost = Rule::on("CompleteMultipartUpload", Fault::LoseAnswer);
    proxy.rule(lost.always());
    chmod(&mount.path("long"), 0o640);
    fs::rename(mount.path("long"), mount.path("moved")).unwrap();
    proxy.heal();
    let edit = b"by who had it open all the time";
    file.write_all_at(edit, 0).unwrap();
    sys::close(file).unwrap();
    body[..edit.len()].copy_from_slice(edit);
    mount.wait_until_uploaded("moved", &body);
    assert_eq!(mode(&mount.path("moved")), 0o640);
    mount.wait_for_keys("the new name alone", |keys| keys == ["moved"]);
    assert!(mount.lost_and_found().is_empty());
}
