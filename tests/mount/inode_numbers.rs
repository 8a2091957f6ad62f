//! st_ino: one number for a name as long as the name is there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::sys::{DirStream, drop_names};
use crate::support::{Mount, MountBuilder, SupervisedMount};

const MODES: [&str; 2] = ["fixed", "stored"];

fn plan(mode: &str) -> MountBuilder {
    Mount::builder().args(["--attributes", mode])
}

fn ino(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().ino()
}

/// Numbers of all below a directory, by readdir(3) and by stat(2), which must agree.
#[track_caller]
fn numbers(root: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let mut stream = DirStream::open(&root.join(&folder)).unwrap();
        while let Some(entry) = stream.next() {
            let name = entry.name.into_string().unwrap();
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{folder}{name}");
            assert_eq!(entry.ino, ino(&root.join(&path)), "d_ino of {path}");
            if entry.kind == libc::DT_DIR {
                folders.push(format!("{path}/"));
            }
            found.insert(path, entry.ino);
        }
    }
    let different: std::collections::BTreeSet<_> = found.values().collect();
    assert_eq!(different.len(), found.len(), "one number, one file");
    found
}

fn make_a_tree(mount: &Mount) {
    fs::create_dir_all(mount.path("own/empty")).unwrap();
    fs::write(mount.path("own/f"), b"x").unwrap();
    let names = (0..50).map(|i| (format!("by-others/{}/f{i}", i % 5), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), names);
    mount.wait_for("by-others/4/f49", "their files", Path::exists);
}

#[test]
fn numbers_stay_when_the_kernel_forgets_them_and_after_a_remount() {
    for mode in MODES {
        let mut mount = plan(mode).start();
        make_a_tree(&mount);
        let before = numbers(&mount.root);
        assert!(before.len() >= 59, "{before:?}");
        drop_names(&mount.root);
        assert_eq!(numbers(&mount.root), before, "{mode}: forgotten");
        mount.remount();
        // Names alone, before anything is looked up.
        let mut stream = DirStream::open(&mount.path("by-others/0")).unwrap();
        while let Some(entry) = stream.next() {
            let name = entry.name.to_str().unwrap();
            let known = before.get(&format!("by-others/0/{name}"));
            assert!(
                known.is_none_or(|known| *known == entry.ino),
                "{mode}: {name}"
            );
        }
        assert_eq!(numbers(&mount.root), before, "{mode}: mounted again");
    }
}

#[test]
fn a_renamed_file_keeps_its_number_and_its_old_name_gets_another() {
    for mode in MODES {
        let mut mount = plan(mode).start();
        make_a_tree(&mount);
        let (file, dir) = (ino(&mount.path("own/f")), ino(&mount.path("by-others")));
        let below = ino(&mount.path("by-others/1/f1"));
        fs::rename(mount.path("own/f"), mount.path("g")).unwrap();
        fs::rename(mount.path("by-others"), mount.path("own/moved")).unwrap();
        fs::write(mount.path("own/f"), b"another").unwrap();
        fs::create_dir(mount.path("by-others")).unwrap();
        let before = numbers(&mount.root);
        assert_eq!(before["g"], file);
        assert_eq!(before["own/moved"], dir);
        assert_eq!(before["own/moved/1/f1"], below);
        drop_names(&mount.root);
        assert_eq!(numbers(&mount.root), before, "{mode}: forgotten");
        mount.remount();
        assert_eq!(numbers(&mount.root), before, "{mode}: mounted again");
    }
}

#[test]
fn a_replaced_file_that_is_still_open_shares_its_number_with_nobody() {
    let mount = plan("fixed").start();
    fs::write(mount.path("f"), b"old").unwrap();
    let open = File::open(mount.path("f")).unwrap();
    let old = open.metadata().unwrap().ino();
    fs::remove_file(mount.path("f")).unwrap();
    fs::write(mount.path("f"), b"new").unwrap();
    let new = ino(&mount.path("f"));
    assert_ne!(new, old);
    assert_eq!(open.metadata().unwrap().ino(), old);
    drop(open);
    drop_names(&mount.root);
    assert_eq!(ino(&mount.path("f")), new);
}

#[test]
fn numbers_are_the_same_after_a_takeover() {
    for mode in MODES {
        let mount = SupervisedMount::start(plan(mode));
        make_a_tree(&mount);
        fs::rename(mount.path("own/f"), mount.path("g")).unwrap();
        fs::write(mount.path("own/f"), b"another").unwrap();
        let before = numbers(&mount.root);
        mount.kill_daemon();
        assert_eq!(numbers(&mount.root), before, "{mode}: taken over");
        drop_names(&mount.root);
        assert_eq!(numbers(&mount.root), before, "{mode}: and forgotten");
        mount.unmount();
    }
}
