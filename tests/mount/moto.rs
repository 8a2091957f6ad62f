//! The main job once more on moto, a server that shares no code with SeaweedFS.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, Server, WAITS_FOR_LATE, pattern, sha256, sys};

fn fresh() -> Mount {
    Mount::on(Server::moto()).start()
}

#[test]
fn files_of_one_and_of_many_parts_are_objects_and_objects_are_files() {
    let mut mount = fresh();
    for len in [0, 1, MIB + 1, 25 * MIB] {
        let body = pattern(len, 1 + len as u64);
        let name = format!("{len}.png");
        fs::write(mount.path(&name), &body).unwrap();
        assert_eq!(
            sha256(&mount.object(&name).unwrap()),
            sha256(&body),
            "{name}"
        );
        let head = mount.client().head(mount.bucket(), &name).unwrap();
        assert_eq!(head.content_type.as_deref(), Some("image/png"));
    }
    mount.remount();
    let want = pattern(25 * MIB, 1 + 25 * MIB as u64);
    let name = format!("{}.png", 25 * MIB);
    assert_same_bytes(&fs::read(mount.path(&name)).unwrap(), &want, "remount");
    mount.put_object("theirs", b"theirs");
    mount.wait_for("theirs", "the file", |path| path.exists());
    assert_eq!(fs::read(mount.path("theirs")).unwrap(), b"theirs");
}

#[test]
fn an_object_changed_in_the_middle_keeps_the_rest() {
    let mount = fresh();
    let mut want = pattern(9 * MIB + 5, 2);
    mount.put_object("f", &want);
    mount.wait_for("f", "the file", |path| path.exists());
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(mount.path("f"))
        .unwrap();
    file.write_all_at(b"changed", 8 * MIB as u64 - 3).unwrap();
    want[8 * MIB - 3..8 * MIB + 4].copy_from_slice(b"changed");
    file.write_all(b"start").unwrap();
    want[..5].copy_from_slice(b"start");
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn directories_are_made_renamed_and_removed() {
    let mut mount = fresh();
    fs::create_dir_all(mount.path("a/b/c")).unwrap();
    fs::create_dir(mount.path("empty")).unwrap();
    fs::write(mount.path("a/b/c/f"), b"x").unwrap();
    fs::rename(mount.path("a/b"), mount.path("moved")).unwrap();
    mount.remount();
    assert_eq!(fs::read(mount.path("moved/c/f")).unwrap(), b"x");
    assert!(mount.path("empty").is_dir());
    assert!(!mount.path("a/b").exists());
    fs::remove_dir_all(mount.path("moved")).unwrap();
    fs::remove_dir(mount.path("empty")).unwrap();
    fs::remove_dir_all(mount.path("a")).unwrap();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    assert_eq!(mount.keys(), Vec::<String>::new());
}

/// Where conditions are missing, what a predecessor left unanswered is waited for.
#[test]
fn a_mount_waits_for_no_predecessor_that_left_nothing_unanswered() {
    let mut mount = fresh();
    let names = ["a", "b", "c", "d"];
    fs::create_dir(mount.path(names[0])).unwrap();
    fs::write(mount.path(names[0]).join("f"), b"x").unwrap();
    for (number, pair) in names.windows(2).enumerate() {
        fs::rename(mount.path(pair[0]), mount.path(pair[1])).unwrap();
        match number {
            0 => mount.remount(),
            _ => {
                mount.kill9();
                mount.remount();
            }
        }
    }
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"x");
    let log = mount.log();
    assert!(!log.contains(WAITS_FOR_LATE), "{log}");
}

#[test]
fn a_directory_of_several_pages_is_listed_whole() {
    let mount = fresh();
    let objects = (0..1500).map(|i| (format!("d/f{i:04}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("d/f1499", "the files", |path| path.exists());
    let names: std::collections::BTreeSet<_> = fs::read_dir(mount.path("d"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 1500);
}

/// Not on SeaweedFS, which keeps emptied directories.
#[test]
fn a_directory_whose_keys_another_client_removes_goes_away() {
    let mount = fresh();
    mount.put_object("d/f", b"x");
    mount.wait_for("d/f", "the file", |path| path.exists());
    mount.client().delete(mount.bucket(), "d/f");
    mount.wait_for("d", "its end", |path| !path.exists());
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
}
