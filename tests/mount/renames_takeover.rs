//! Renames that a kill cut, and another client that changes what they are about before
//! the successor comes: what it stored is there afterwards, and what was renamed is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::mount::detach;
use crate::support::proxy::Fault;
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, wait_until};
use rustix::fs::{CWD, RenameFlags, renameat_with};

const WITHIN: Duration = Duration::from_secs(60);
const BOTH: [&str; 2] = ["old", "new"];

fn dies_at(point: &str, durability: &str) -> MountBuilder {
    let plan = Mount::builder().args(["--durability", durability]);
    plan.env("FAILPOINTS", format!("{point}=return"))
}

fn no_replace([old, new]: [PathBuf; 2]) -> io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    Ok(renameat_with(CWD, old, CWD, new, flags)?)
}

/// Kills the daemon at this point of `mv old new`, has another client do something, and
/// the successor begin, which answers the rename.
fn renamed_amid(mount: &SupervisedMount, meanwhile: impl FnOnce(&Mount)) -> io::Result<()> {
    called_amid(mount, |[old, new]| fs::rename(old, new), meanwhile)
}

fn called_amid(
    mount: &SupervisedMount,
    call: impl FnOnce([PathBuf; 2]) -> io::Result<()> + Send,
    meanwhile: impl FnOnce(&Mount),
) -> io::Result<()> {
    let names = BOTH.map(|name| mount.path(name));
    mount.change_amid_death(|| call(names), || meanwhile(mount))
}

/// The same with a mount that nobody takes over: the next one finishes the rename.
fn remounted_amid(mount: &mut Mount, meanwhile: impl FnOnce(&Mount)) {
    let [old, new] = BOTH.map(|name| mount.path(name));
    let renaming = std::thread::spawn(move || fs::rename(old, new));
    mount.wait_for_exit();
    detach(&mount.root);
    assert!(renaming.join().unwrap().is_err());
    meanwhile(mount);
    mount.change_env("FAILPOINTS", None);
    mount.remount();
}

fn removed_after(point: &str, durability: &str, object: &str) {
    let mount = SupervisedMount::start(dies_at(point, durability));
    mount.put_object(object, b"bytes");
    mount.wait_for(object, "the file", Path::exists);
    let outcome = renamed_amid(&mount, |mount| {
        for key in mount.keys() {
            mount.client().delete(mount.bucket(), &key);
        }
    });
    assert!(outcome.is_ok(), "{point} {durability}: {outcome:?}");
    for name in BOTH {
        let found = fs::read(mount.path(name));
        assert!(found.is_err(), "{point} {durability}: {name} {found:?}");
    }
    mount.unmount();
}

#[test]
fn a_file_that_is_removed_elsewhere_after_its_rename_was_renamed() {
    for durability in DURABILITIES {
        for point in ["rename_file_deleted", "rename_file_done"] {
            removed_after(point, durability, "old");
        }
    }
}

#[test]
fn a_directory_that_is_removed_elsewhere_after_its_rename_was_renamed() {
    for durability in DURABILITIES {
        for point in ["rename_directory_enqueued", "rename_directory_deleted"] {
            removed_after(point, durability, "old/f");
        }
    }
}

/// What another client has stored is there, under one of the names; the rest as renamed.
fn check_overwritten(mount: &Mount, key: &str) {
    let found = || BOTH.map(|name| mount.object(&key.replace("DIR", name)));
    wait_until(WITHIN, "the other client's bytes", || {
        found().contains(&Some(b"of another".to_vec()))
    });
    assert!(mount.lost_and_found().is_empty(), "{:?}", mount.sidecars());
}

#[test]
fn what_another_client_stores_below_a_directory_whose_rename_a_kill_cut_stays() {
    for durability in DURABILITIES {
        for point in ["rename_directory_copies", "rename_directory_copied"] {
            let mount = SupervisedMount::start(dies_at(point, durability));
            mount.put_object("old/f", b"bytes");
            mount.put_object("old/g", b"others");
            mount.wait_for("old/f", "the file", Path::exists);
            let overwrite = |mount: &Mount| mount.put_object("old/f", b"of another");
            renamed_amid(&mount, overwrite).unwrap();
            check_overwritten(&mount, "DIR/f");
            assert_eq!(mount.object("new/g").unwrap(), b"others");
            assert_eq!(fs::read(mount.path("new/g")).unwrap(), b"others");
            wait_until(WITHIN, "the end of the original", || {
                mount.object("old/g").is_none()
            });
            mount.unmount();
        }
    }
}

#[test]
fn what_another_client_stores_amid_a_rename_that_the_next_mount_finishes_stays() {
    for durability in DURABILITIES {
        for (point, key) in [
            ("rename_file_copied", "new"),
            ("rename_file_copied", "old"),
            ("rename_directory_copies", "old/f"),
        ] {
            let mut mount = dies_at(point, durability).start();
            let original = if key.contains('/') { key } else { "old" };
            mount.put_object(original, b"bytes");
            if key == "new" {
                mount.put_object(key, b"before");
            }
            mount.wait_for(original, "the file", Path::exists);
            remounted_amid(&mut mount, |mount| mount.put_object(key, b"of another"));
            check_overwritten(&mount, key);
            // The rename is over, and both names can be used.
            fs::write(mount.path("later"), b"later").unwrap();
            mount.unmount();
            assert_eq!(mount.object(key).unwrap(), b"of another");
        }
    }
}

/// `mv -n` onto a name that another client has made since it was looked up.
#[test]
fn a_rename_that_is_to_replace_nothing_leaves_what_another_client_has_made() {
    for durability in DURABILITIES {
        let plan = Mount::builder().args(["--durability", durability, "--negative-ttl", "1h"]);
        let mut mount = plan.start();
        fs::write(mount.path("old"), b"ours").unwrap();
        assert!(!mount.path("new").exists());
        mount.put_object("new", b"of another");
        let names = BOTH.map(|name| mount.path(name));
        let refused = no_replace(names.clone()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EEXIST), "{durability}");
        assert_eq!(mount.object("new").unwrap(), b"of another");
        assert_eq!(fs::read(&names[0]).unwrap(), b"ours");
        mount.unmount();
        assert_eq!(mount.object("old").unwrap(), b"ours");
    }
}

/// 'mv' of coreutils renames so first, and replaces then.
#[test]
fn a_rename_that_is_to_replace_nothing_knows_its_own_copy_by_what_is_stored_with_it() {
    for (mode, knows) in [("stored", true), ("fixed", false)] {
        let (plan, proxy) = Mount::behind_a_proxy();
        let mut mount = plan.args(["--attributes", mode]).start();
        fs::write(mount.path("old"), b"ours").unwrap();
        proxy.fail("CopyObject", Fault::LoseAnswer, 1);
        let paths = BOTH.map(|name| mount.path(name));
        let outcome = no_replace(paths.clone()).map_err(|error| error.raw_os_error());
        if !knows {
            // It may be another client's lock of the same bytes.
            assert_eq!(outcome, Err(Some(libc::EEXIST)));
            let [old, new] = paths;
            fs::rename(old, new).unwrap();
        } else {
            outcome.unwrap();
        }
        mount.unmount();
        assert_eq!(mount.keys(), ["new"], "{mode}");
        assert_eq!(mount.object("new").unwrap(), b"ours");
    }
}

/// Of two that make a lock so, one wins.
#[test]
fn a_rename_that_a_kill_cut_takes_no_file_of_the_same_length_for_its_copy() {
    let mount = SupervisedMount::start(dies_at("rename_file_noted", "s3"));
    mount.put_object("old", b"ours");
    mount.wait_for("old", "the file", Path::exists);
    let theirs = |mount: &Mount| mount.put_object("new", b"them");
    let outcome = called_amid(&mount, no_replace, theirs);
    assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EEXIST));
    mount.unmount();
    assert_eq!(mount.object("old").unwrap(), b"ours");
    assert_eq!(mount.object("new").unwrap(), b"them");
}

#[test]
fn a_file_of_the_same_bytes_is_replaced_with_its_mode_after_a_kill_too() {
    use std::os::unix::fs::PermissionsExt;
    let plan = dies_at("rename_file_noted", "s3");
    let mut mount = plan.args(["--attributes", "stored"]).start();
    for (name, mode) in [("old", 0o600), ("new", 0o644)] {
        fs::write(mount.path(name), b"the same").unwrap();
        fs::set_permissions(mount.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    remounted_amid(&mut mount, |_| ());
    mount.wait_for_keys("the new name alone", |keys| keys == ["new"]);
    let mode = fs::metadata(mount.path("new"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}
