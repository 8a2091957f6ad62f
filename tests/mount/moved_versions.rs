//! A rename moves the version that the store has. What is open or cached here of the
//! version before, which another client has replaced, is not taken for it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use libc::{O_APPEND, O_RDONLY, O_RDWR, O_WRONLY};

use crate::support::data::MIB;
use crate::support::{DURABILITIES, Mount, MountBuilder, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// What is renamed, and whether this mount has seen the newer version before.
const RENAMES: [(&str, &str, bool); 4] = [
    ("d", "e", false),
    ("d", "e", true),
    ("d/g", "d/h", false),
    ("d/g", "d/h", true),
];

fn plans() -> impl Iterator<Item = MountBuilder> {
    let modes = DURABILITIES.into_iter();
    modes.flat_map(|durability| {
        ["fixed", "stored"].map(|attributes| {
            let plan = Mount::builder().durability(durability);
            plan.set("--ttl", "0s").args(["--attributes", attributes])
        })
    })
}

/// Renames `d/g` after another client has replaced it; returns its name then, and
/// whether this mount moved it.
fn rename(mount: &Mount, (from, to, seen): (&str, &str, bool), newer: &[u8]) -> String {
    mount.put_object("d/g", newer);
    if seen {
        fs::metadata(mount.path("d/g")).unwrap();
    }
    let renamed = fs::rename(mount.path(from), mount.path(to));
    let new_name = if from == "d" { "e/g" } else { "d/h" };
    match renamed {
        Ok(()) => new_name.to_owned(),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{from}");
            "d/g".to_owned()
        }
    }
}

/// The newer version is the only one in the bucket, and what was written over the
/// older one is in lost+found.
#[track_caller]
fn nothing_is_mixed(mount: &Mount, name: &str, newer: &[u8], what: &str) {
    wait_until(WITHIN, what, || !mount.lost_and_found().is_empty());
    mount.wait_for_keys(what, |keys| {
        let mut keys = keys.iter().filter(|key| key.ends_with(['g', 'h']));
        keys.next().is_some_and(|key| key == name) && keys.next().is_none()
    });
    assert_eq!(mount.object(name).as_deref(), Some(newer), "{what}");
}

#[test]
fn an_edit_of_the_older_version_is_a_lost_race() {
    let newer = vec![b'N'; 20_000];
    for plan in plans() {
        let mount = plan.start();
        for (round, case) in RENAMES.into_iter().enumerate() {
            for flags in [O_RDWR, O_WRONLY | O_APPEND] {
                let what = format!("round {round}, {case:?}, {flags}");
                mount.put_object("d/keep", b"k");
                mount.put_object("d/g", &[b'O'; 5000]);
                let mut file = sys::open(mount.path("d/g"), flags).unwrap();
                if flags == O_RDWR {
                    file.write_all_at(b"edit", 4000).unwrap();
                } else {
                    file.write_all(b"more").unwrap();
                }
                let name = rename(&mount, case, &newer);
                // With disk durability nobody is there to be told any more.
                drop(sys::close(file));
                nothing_is_mixed(&mount, &name, &newer, &what);
                for kept in fs::read_dir(mount.scratch().join("spool/lost+found")).unwrap() {
                    fs::remove_file(kept.unwrap().path()).unwrap();
                }
                for dir in ["d", "e"] {
                    fs::remove_dir_all(mount.path(dir)).ok();
                }
                mount.wait_for_keys(&what, <[String]>::is_empty);
            }
        }
    }
}

#[test]
fn a_reader_of_the_older_version_reads_nothing_of_the_newer_one() {
    for plan in plans() {
        let mount = plan.start();
        for case in RENAMES {
            mount.put_object("d/keep", b"k");
            mount.put_object("d/g", &vec![b'O'; 12 * MIB]);
            let file = sys::open(mount.path("d/g"), O_RDONLY).unwrap();
            let mut bytes = [0; 1000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            let name = rename(&mount, case, &vec![b'N'; 12 * MIB]);
            match file.read_at(&mut bytes, 11 * MIB as u64) {
                Ok(read) => assert!(bytes[..read].iter().all(|byte| *byte == b'O'), "{case:?}"),
                Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{case:?}"),
            }
            drop(file);
            let again = File::open(mount.path(&name)).unwrap();
            again.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(bytes, [b'N'; 1000], "{case:?}");
            drop(again);
            for dir in ["d", "e"] {
                fs::remove_dir_all(mount.path(dir)).ok();
            }
            mount.wait_for_keys("what was removed to be gone", <[String]>::is_empty);
        }
    }
}

#[test]
fn pages_of_the_older_version_are_not_shown_as_the_newer_one() {
    for plan in plans() {
        let mount = plan.start();
        let lengths = [(5000, 140), (140, 5000), (100, 100)];
        for (round, (before, after)) in lengths.into_iter().enumerate() {
            for (from, to, seen) in RENAMES {
                let newer = vec![b'N'; after];
                fs::create_dir_all(mount.path("d")).unwrap();
                fs::write(mount.path("d/keep"), b"k").unwrap();
                fs::write(mount.path("d/g"), vec![b'O'; before]).unwrap();
                mount.wait_until_uploaded("d/g", &vec![b'O'; before]);
                assert_eq!(fs::read(mount.path("d/g")).unwrap().len(), before);
                let name = rename(&mount, (from, to, seen), &newer);
                let read = fs::read(mount.path(&name)).unwrap();
                assert!(read == newer, "round {round}: {from}, {} bytes", read.len());
                for dir in ["d", "e"] {
                    fs::remove_dir_all(mount.path(dir)).ok();
                }
            }
        }
    }
}
