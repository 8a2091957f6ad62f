//! Directories whose rename fails: nothing is left under the new name, or, once originals
//! were to be deleted, every file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::subtree_locks::{begin_rename, outcome};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, sys, wait_until};

const FILES: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];

/// `p/d` has six files, and is all that is in `p`.
fn put_files(mount: &Mount) {
    for name in FILES {
        mount.put_object(&format!("p/d/{name}"), name.as_bytes());
    }
    mount.wait_for("p/d/f5", "the files", Path::exists);
}

fn keys_of(dir: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{dir}/{name}")).collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|it| it.file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    names
}

/// Every file is under the new name, and `left` of them under the old one too.
#[track_caller]
fn check_under_both(mount: &Mount, what: &str, left: &[&str]) {
    let want = [keys_of("e", &FILES), keys_of("p/d", left)].concat();
    // The marker of a directory that was to be replaced may stay.
    mount.wait_for_keys(what, |keys| {
        keys.iter().filter(|key| *key != "e/").eq(&want)
    });
    for (dir, names) in [("e", FILES.as_slice()), ("p/d", left)] {
        mount.wait_for(dir, what, |path| names_in(path) == names);
        for name in names {
            let read = fs::read(mount.path(format!("{dir}/{name}"))).unwrap();
            assert_eq!(read, name.as_bytes(), "{what}: {dir}/{name}");
        }
    }
}

/// S3 does not delete such keys.
fn protect(proxy: &Proxy, key: &str) {
    let refused = Fault::Answer(403, "AccessDenied");
    proxy.rule(Rule::on("DeleteObject", refused).key(key).always());
}

fn without_bulk_deletes(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    proxy.rule(Rule::on("DeleteObjects", Fault::Answer(501, "NotImplemented")).of_store());
    (plan.durability(durability).set("--ttl", "0s"), proxy)
}

/// Where S3 refuses the marker of the directory that would be empty.
#[test]
fn a_rename_that_fails_when_all_is_copied_leaves_no_copies() {
    for durability in DURABILITIES {
        let (plan, proxy) = Mount::behind_a_proxy();
        let mount = plan.durability(durability).set("--ttl", "0s").start();
        for number in 0..3 {
            mount.put_object(&format!("p/d/f{number}"), b"bytes");
        }
        let open = fs::File::open(mount.path("p/d/f1")).unwrap();
        let refused = Fault::Answer(403, "AccessDenied");
        proxy.rule(Rule::on("PutObject", refused).key("p/").always());
        let refused = fs::rename(mount.path("p/d"), mount.path("e")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES), "{durability}");
        mount.wait_for_keys("the originals alone", |keys| {
            keys == ["p/d/f0", "p/d/f1", "p/d/f2"]
        });
        mount.wait_for("e", "no directory", |path| !path.exists());
        assert_eq!(fs::read(mount.path("p/d/f2")).unwrap(), b"bytes");
        let mut bytes = [0; 5];
        open.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"bytes");
        // Nothing is in the way of the next one.
        proxy.heal();
        fs::rename(mount.path("p/d"), mount.path("e")).unwrap();
        mount.wait_for_keys("the new names", |keys| {
            keys == ["e/f0", "e/f1", "e/f2", "p/"]
        });
        open.read_exact_at(&mut bytes, 0).unwrap();
    }
}

/// The same where a daemon dies amid its copies, and its successor is refused.
#[test]
fn a_rename_that_a_successor_cannot_finish_leaves_no_copies() {
    for durability in DURABILITIES {
        let (plan, proxy) = Mount::behind_a_proxy();
        let plan = plan.durability(durability).set("--ttl", "0s");
        let mount = SupervisedMount::start(plan);
        for number in 0..3 {
            mount.put_object(&format!("p/d/f{number}"), b"bytes");
        }
        mount.wait_for("p/d/f1", "the files", Path::exists);
        let refused = Fault::Answer(403, "AccessDenied");
        proxy.rule(Rule::on("PutObject", refused).key("p/").always());
        let copy = Rule::on("CopyObject", Fault::Pass).key("e/f2");
        let held = proxy.hold(Side::BeforeServer, copy);
        let moving = begin_rename(&mount, "p/d", "e");
        held.wait_for(1);
        mount.kill_daemon();
        held.open();
        assert_eq!(sys::errno(outcome(&moving)), libc::EACCES, "{durability}");
        mount.wait_for_keys(durability, |keys| keys == ["p/d/f0", "p/d/f1", "p/d/f2"]);
        assert_eq!(fs::read(mount.path("p/d/f2")).unwrap(), b"bytes");
        mount.unmount();
    }
}

/// Of the directory above, whose last entry it was, the marker goes again.
#[test]
fn a_rename_whose_deletes_are_refused_keeps_every_copy() {
    for durability in DURABILITIES {
        for (protected, left) in [("p/d/f3", &FILES[3..4]), ("p/d/*", &FILES[..])] {
            for is_replacing in [false, true] {
                let what = format!("{durability} {protected} {is_replacing}");
                let (plan, proxy) = without_bulk_deletes(durability);
                let mount = plan.start();
                put_files(&mount);
                if is_replacing {
                    fs::create_dir(mount.path("e")).unwrap();
                }
                let open = fs::File::open(mount.path("p/d/f1")).unwrap();
                protect(&proxy, protected);
                let moved = fs::rename(mount.path("p/d"), mount.path("e"));
                assert_eq!(sys::errno(moved), libc::EACCES, "{what}");
                check_under_both(&mount, &what, left);
                let mut bytes = [0; 2];
                open.read_exact_at(&mut bytes, 0).unwrap();
                assert_eq!(&bytes, b"f1", "{what}");
                proxy.heal();
                fs::remove_dir_all(mount.path("p/d")).unwrap();
                fs::remove_dir(mount.path("p")).unwrap();
                let want = keys_of("e", &FILES);
                mount.wait_for_keys(&what, |keys| {
                    keys.iter().filter(|key| *key != "e/").eq(&want)
                });
            }
        }
    }
}

/// A delete without an answer that is carried out once the rename has failed.
#[test]
fn a_delete_that_lands_after_another_was_refused_loses_nothing() {
    thread::scope(|scope| {
        for durability in DURABILITIES {
            scope.spawn(move || lands_after_a_refusal(durability));
        }
    });
}

fn lands_after_a_refusal(durability: &str) {
    let (plan, proxy) = without_bulk_deletes(durability);
    let mount = plan.args(["--request-timeout", "9s"]).start();
    put_files(&mount);
    protect(&proxy, "p/d/f3");
    let unanswered = Rule::on("DeleteObject", Fault::HangUp).key("p/d/f1");
    let late = proxy.hold(Side::BeforeServer, unanswered.always());
    let moved = fs::rename(mount.path("p/d"), mount.path("e"));
    assert_eq!(sys::errno(moved), libc::EACCES, "{durability}");
    check_under_both(&mount, durability, &["f1", "f3"]);
    late.open();
    check_under_both(&mount, durability, &["f3"]);
}

/// Where its name cannot be told any more, its bytes are in `lost+found`.
#[test]
fn an_edit_under_way_in_a_directory_whose_deletes_are_refused_is_kept() {
    for durability in DURABILITIES {
        for protected in ["p/d/f3", "p/d/*"] {
            let what = format!("{durability} {protected}");
            let (plan, proxy) = without_bulk_deletes(durability);
            let mount = plan.start();
            put_files(&mount);
            protect(&proxy, protected);
            let mut open = fs::OpenOptions::new();
            let mut file = open.append(true).open(mount.path("p/d/f1")).unwrap();
            file.write_all(b" and more").unwrap();
            let moved = fs::rename(mount.path("p/d"), mount.path("e"));
            assert_eq!(sys::errno(moved), libc::EACCES, "{what}");
            // With durability s3 the application is told where it has no name.
            drop(file.sync_all());
            drop(file);
            wait_until(Duration::from_secs(60), &what, || {
                let places = ["p/d/f1", "e/f1"].map(|path| mount.object(path));
                let kept = mount.lost_and_found();
                let is_kept = kept.iter().any(|bytes| bytes.ends_with(b" and more"));
                is_kept || places.contains(&Some(b"f1 and more".to_vec()))
            });
        }
    }
}

/// Which of the deletes the journal has, nobody can tell: the next mount sends those.
#[test]
fn a_rename_that_breaks_off_while_its_deletes_are_noted_keeps_every_copy() {
    for durability in DURABILITIES {
        let plan = Mount::builder().durability(durability).set("--ttl", "0s");
        let failing = plan.env("FAILPOINTS", "rename_directory_enqueues=1*panic(planned)");
        let mut mount = failing.start();
        put_files(&mount);
        let moved = fs::rename(mount.path("p/d"), mount.path("e"));
        assert_eq!(sys::errno(moved), libc::EIO, "{durability}");
        check_under_both(&mount, durability, &FILES);
        mount.kill9();
        mount.change_env("FAILPOINTS", None);
        mount.remount();
        check_under_both(&mount, durability, &FILES[1..]);
    }
}

/// Of the directory above, whose last entry it was, the marker goes again.
#[test]
fn a_rename_that_breaks_off_before_leaves_nothing_new() {
    for durability in DURABILITIES {
        let plan = Mount::builder().durability(durability).set("--ttl", "0s");
        let point = "rename_directory_stages_moved=1*panic(planned)";
        let mount = plan.env("FAILPOINTS", point).start();
        put_files(&mount);
        let moved = fs::rename(mount.path("p/d"), mount.path("e"));
        assert_eq!(sys::errno(moved), libc::EIO, "{durability}");
        let want = keys_of("p/d", &FILES);
        mount.wait_for_keys(durability, |keys| keys == want);
        mount.wait_for("e", "no directory", |path| !path.exists());
        assert_eq!(names_in(&mount.path("p/d")), FILES);
        fs::rename(mount.path("p/d"), mount.path("e")).unwrap();
        let want = [keys_of("e", &FILES), vec!["p/".to_owned()]].concat();
        mount.wait_for_keys(durability, |keys| keys == want);
    }
}

/// A removal that is acknowledged is not undone by a rename that has failed before.
#[test]
fn a_file_whose_rename_was_refused_takes_its_object_along_when_it_goes() {
    let refusals = [
        ("s3", "PutObject", "d/"),
        ("disk", "PutObject", "d/"),
        ("s3", "DeleteObject", "d/f"),
    ];
    for (durability, op, key) in refusals {
        for (then, want) in [("rm", &["d/"][..]), ("mv", &["d/", "e"][..])] {
            let (plan, proxy) = Mount::behind_a_proxy();
            let mount = plan.durability(durability).set("--ttl", "1h").start();
            mount.put_object("d/f", b"old");
            let replace = libc::O_WRONLY | libc::O_TRUNC;
            let mut file = sys::open(mount.path("d/f"), replace).unwrap();
            file.write_all(b"new").unwrap();
            let refused = Fault::Answer(403, "AccessDenied");
            proxy.rule(Rule::on(op, refused).key(key).always());
            let what = format!("{durability} {op} {then}");
            let moved = fs::rename(mount.path("d/f"), mount.path("e"));
            assert_eq!(sys::errno(moved), libc::EACCES, "{what}");
            proxy.heal();
            if then == "rm" {
                fs::remove_file(mount.path("d/f")).unwrap();
            } else {
                fs::rename(mount.path("d/f"), mount.path("e")).unwrap();
            }
            sys::close(file).unwrap();
            mount.wait_for_keys(&what, |keys| keys == want);
        }
    }
}
