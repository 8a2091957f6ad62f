//! Directories whose rename fails: all of it is under the old name, and nothing under the
//! new one.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::moving_directories::put_files;
use crate::subtree_locks::{begin_rename, outcome};
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{DURABILITIES, Mount, SupervisedMount, sys};

const AS_PUT: [&str; 6] = ["d/f0", "d/f1", "d/f2", "d/f3", "d/f4", "d/f5"];

/// The rename has failed: all of the source is there, and nothing new under the other name.
#[track_caller]
fn check_not_moved(mount: &Mount, what: &str, also: &[&str]) {
    let mut want: Vec<&str> = [&AS_PUT, also].concat();
    want.sort_unstable();
    mount.wait_for_keys(what, |keys| keys == want);
    for (number, name) in AS_PUT.iter().enumerate() {
        let bytes = number.to_string().into_bytes();
        assert_eq!(mount.object(name).unwrap(), bytes, "{what}: {name}");
        assert_eq!(fs::read(mount.path(name)).unwrap(), bytes, "{what}: {name}");
    }
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

/// Also where some of the originals were deleted already.
#[test]
fn a_rename_whose_deletes_are_refused_has_the_directory_back_whole() {
    for durability in DURABILITIES {
        for protected in ["d/f3", "d/*"] {
            for is_replacing in [false, true] {
                let (plan, proxy) = Mount::behind_a_proxy();
                let mount = plan.durability(durability).set("--ttl", "0s").start();
                put_files(&mount);
                let marker: &[&str] = if is_replacing { &["e/"] } else { &[] };
                if is_replacing {
                    fs::create_dir(mount.path("e")).unwrap();
                    mount.wait_for_keys("the marker", |keys| keys.contains(&"e/".to_owned()));
                }
                let open = fs::File::open(mount.path("d/f1")).unwrap();
                let refused = Fault::Answer(403, "AccessDenied");
                proxy.rule(Rule::on("DeleteObject", refused).key(protected).always());
                let refused = Fault::RefuseKeys("AccessDenied");
                proxy.rule(Rule::on("DeleteObjects", refused).key(protected).always());
                let moved = fs::rename(mount.path("d"), mount.path("e"));
                let what = format!("{durability} {protected} {is_replacing}");
                assert_eq!(sys::errno(moved), libc::EACCES, "{what}");
                check_not_moved(&mount, &what, marker);
                assert_eq!(mount.path("e").exists(), is_replacing, "{what}");
                let mut byte = [0];
                open.read_exact_at(&mut byte, 0).unwrap();
                assert_eq!(&byte, b"1", "{what}");
                proxy.heal();
                fs::rename(mount.path("d"), mount.path("e")).unwrap();
                mount.wait_for_keys(&what, |keys| {
                    keys == AS_PUT.map(|key| key.replace('d', "e"))
                });
            }
        }
    }
}
