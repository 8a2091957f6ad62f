//! Attributes that a daemon stored, and whose answer it did not live to see: what another
//! client has stored since stays.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{XattrFlags, getxattr, removexattr, setxattr};

use super::lost_answers::{Hidden, SENT, Sent};
use super::resent_requests::ends_with;
use crate::support::{DURABILITIES, Mount};

/// A call that changes what is stored with `f`, and what shows that it has.
#[derive(Debug, Clone, Copy)]
struct Stored {
    call: fn(&Path) -> io::Result<()>,
    name: &'static str,
    value: Option<&'static str>,
    /// What another client stores in its place.
    theirs: Option<&'static str>,
}

/// A value in JSON as s3fs stores extended attributes: `user.a` is `x`, and then `y`.
const XATTR_X: &str = "%7B%22user%2Ea%22%3A%22eA%3D%3D%22%7D";
const XATTR_Y: &str = "%7B%22user%2Ea%22%3A%22eQ%3D%3D%22%7D";
const XATTR_Z: &str = "%7B%22user%2Ea%22%3A%22eg%3D%3D%22%7D";

const STORED: [Stored; 5] = [
    Stored {
        call: |path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)),
        name: "mode",
        value: Some("33206"),
        theirs: Some("33152"),
    },
    Stored {
        call: |path| chown(path, Some(7), None),
        name: "uid",
        value: Some("7"),
        theirs: Some("9"),
    },
    Stored {
        call: |path| {
            let time = UNIX_EPOCH + Duration::from_secs(86_400);
            fs::File::open(path)?.set_modified(time)
        },
        name: "mtime",
        value: Some("86400"),
        theirs: Some("172800"),
    },
    Stored {
        call: |path| Ok(setxattr(path, "user.a", b"y", XattrFlags::empty())?),
        name: "xattr",
        value: Some(XATTR_Y),
        theirs: Some(XATTR_Z),
    },
    Stored {
        call: |path| Ok(removexattr(path, "user.a")?),
        name: "xattr",
        value: None,
        theirs: Some(XATTR_Z),
    },
];

/// What is stored with `f` at first.
const BEFORE: [(&str, &str); 4] = [
    ("mode", "33188"),
    ("uid", "5"),
    ("mtime", "3600"),
    ("xattr", XATTR_X),
];

fn put_with(mount: &Mount, body: &str, changed: Option<(&str, &str)>) {
    let stored = BEFORE.map(|(name, value)| match changed {
        Some((other, theirs)) if other == name => (name, theirs),
        _ => (name, value),
    });
    let (client, bucket) = (mount.client(), mount.bucket());
    client.put_with(bucket, "f", body.as_bytes(), None, &stored);
}

fn stored(mount: &Mount, name: &str) -> Option<String> {
    let head = mount.client().head(mount.bucket(), "f").unwrap();
    let mut metadata = head.metadata.into_iter();
    metadata.find_map(|(other, value)| (other == name).then_some(value))
}

/// A change of what is stored with `f` whose answer was lost, while another client acts.
#[track_caller]
fn change_stored(
    (durability, sent): (&str, Sent),
    change: Stored,
    meanwhile: impl FnOnce(&Mount),
) -> Hidden {
    let args = ["--durability", durability, "--attributes", "stored"];
    let hidden = Hidden::with_args(&[], &args);
    let mount = &hidden.mount;
    put_with(mount, "old", None);
    let call = || (change.call)(&mount.path("f"));
    let request = ("CopyObject", "f");
    let changed = hidden.change_at_once(request, sent, call, || meanwhile(mount));
    changed.unwrap();
    hidden
}

fn each_stored(test: impl Fn((&str, Sent), Stored) + Sync) {
    thread::scope(|scope| {
        for (number, change) in STORED.into_iter().enumerate() {
            let durability = DURABILITIES[number % 2];
            for sent in SENT {
                let test = &test;
                scope.spawn(move || test((durability, sent), change));
            }
        }
    });
}

#[test]
fn attributes_whose_answer_was_lost_are_not_given_to_what_another_client_puts_there() {
    each_stored(|mode, change| {
        let hidden = change_stored(mode, change, |mount| put_with(mount, "theirs", None));
        let mount = &hidden.mount;
        let before = BEFORE.iter().find(|(name, _)| *name == change.name);
        let before = before.map(|(_, value)| (*value).to_owned());
        let what = format!("{mode:?} {}", change.name);
        assert_eq!(stored(mount, change.name), before, "{what}");
        ends_with(mount, &what, &[("f", "theirs")]);
    });
}

#[test]
fn attributes_whose_answer_was_lost_do_not_undo_those_that_another_client_stores() {
    each_stored(|mode, change| {
        let theirs = change.theirs.map(|theirs| (change.name, theirs));
        let hidden = change_stored(mode, change, |mount| put_with(mount, "old", theirs));
        let mount = &hidden.mount;
        let left = stored(mount, change.name);
        assert_eq!(left.as_deref(), change.theirs, "{mode:?} {}", change.name);
        mount.unmount();
    });
}

#[test]
fn attributes_whose_answer_was_lost_are_stored_where_another_client_changes_others() {
    each_stored(|mode, change| {
        let other = ("gid", "77");
        let hidden = change_stored(mode, change, |mount| {
            if mode.1 == Sent::Lost {
                let mut all = BEFORE.to_vec();
                all.push(other);
                let (client, bucket) = (mount.client(), mount.bucket());
                client.put_with(bucket, "f", b"old", None, &all);
            }
        });
        let mount = &hidden.mount;
        let what = format!("{mode:?} {}", change.name);
        let value = stored(mount, change.name);
        assert_eq!(value.as_deref(), change.value, "{what}");
        if mode.1 == Sent::Lost {
            assert_eq!(stored(mount, "gid").as_deref(), Some("77"), "{what}");
        }
        mount.unmount();
    });
}

/// A call that changes what is stored with a directory, and whether it shows that it has.
#[derive(Debug, Clone, Copy)]
struct OfADirectory {
    call: fn(&Path) -> io::Result<()>,
    shows: fn(&Path) -> bool,
}

const OF_A_DIRECTORY: [OfADirectory; 2] = [
    OfADirectory {
        call: |path| fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
        shows: |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777 == 0o700,
    },
    OfADirectory {
        call: |path| Ok(setxattr(path, "user.a", b"y", XattrFlags::empty())?),
        shows: |path| getxattr(path, "user.a", &mut [0; 8]) == Ok(1),
    },
];

fn change_directory(sent: Sent, before: fn(&Path), change: OfADirectory) {
    let hidden = Hidden::with_args(&[("d/", ""), ("d/f", "x")], &["--attributes", "stored"]);
    let mount = &hidden.mount;
    let dir = mount.path("d");
    before(&dir);
    let call = || (change.call)(&dir);
    let changed = hidden.change_at_once(("PutObject", "d/"), sent, call, || {});
    changed.unwrap();
    assert!((change.shows)(&dir), "{sent:?} {change:?}");
    mount.unmount();
}

/// Not every store keeps what it is given with a marker.
#[test]
fn attributes_of_a_directory_whose_answer_was_lost_are_stored() {
    let nothing_yet: fn(&Path) = |_| ();
    let others: fn(&Path) = |dir| chown(dir, Some(7), None).unwrap();
    thread::scope(|scope| {
        for change in OF_A_DIRECTORY {
            for before in [nothing_yet, others] {
                for sent in SENT {
                    scope.spawn(move || change_directory(sent, before, change));
                }
            }
        }
    });
}
