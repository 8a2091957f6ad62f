//! A request that a daemon carried out and did not live to answer: the kernel sends it
//! again, and what another client has done since stays.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::{DURABILITIES, Mount, SupervisedMount, wait_until};

pub const WITHIN: Duration = Duration::from_secs(120);
/// Times of objects have no fraction: what comes as much later is newer for sure.
pub const NEWER_AFTER: Duration = Duration::from_secs(2);

/// Every daemon dies at the failpoint; the objects are there at first.
pub fn dies_at(point: &str, durability: &str, objects: &[(&str, &str)]) -> SupervisedMount {
    let plan = Mount::builder()
        .durability(durability)
        .env("FAILPOINTS", point);
    for (key, body) in objects {
        plan.client.put(&plan.bucket, key, body.as_bytes());
    }
    SupervisedMount::start(plan)
}

/// What the call comes to whose daemon dies, while another client acts later than it.
pub fn change_meanwhile(
    mount: &SupervisedMount,
    call: impl FnOnce() -> io::Result<()> + Send,
    meanwhile: impl FnOnce(),
) -> io::Result<()> {
    let began = Instant::now();
    mount.change_amid_death(call, || {
        wait_until(WITHIN, "the next seconds", || began.elapsed() > NEWER_AFTER);
        meanwhile();
    })
}

/// Exactly these objects are in the bucket in the end, and in the mount.
#[track_caller]
pub fn ends_with(mount: &SupervisedMount, what: &str, objects: &[(&str, &str)]) {
    for (key, body) in objects {
        let shows = |path: &Path| fs::read(path).is_ok_and(|read| read == body.as_bytes());
        mount.wait_for(key, what, shows);
    }
    mount.unmount();
    let mut keys = mount.keys();
    keys.sort();
    let found: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str(), mount.object(key).unwrap()))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(key, body)| (*key, std::str::from_utf8(body).unwrap()))
        .collect();
    assert_eq!(found, objects, "{what}");
}

/// At the same time, which costs one start of a mount.
fn for_each_durability(points: &[&str], test: impl Fn(&str, &str) + Sync) {
    thread::scope(|scope| {
        for durability in DURABILITIES {
            for point in points {
                let test = &test;
                scope.spawn(move || test(durability, point));
            }
        }
    });
}

fn rename(mount: &SupervisedMount, flags: RenameFlags) -> io::Result<()> {
    let (from, to) = (mount.path("f"), mount.path("g"));
    Ok(renameat_with(CWD, from, CWD, to, flags)?)
}

#[test]
fn a_rename_that_was_done_does_not_move_what_another_client_puts_under_the_old_name() {
    for durability in DURABILITIES {
        for flags in [RenameFlags::empty(), RenameFlags::NOREPLACE] {
            let mount = dies_at("request_done=return", durability, &[("f", "old")]);
            let renamed = change_meanwhile(
                &mount,
                || rename(&mount, flags),
                || mount.put_object("f", b"theirs"),
            );
            renamed.unwrap();
            ends_with(&mount, durability, &[("f", "theirs"), ("g", "old")]);
        }
    }
}

#[test]
fn a_directory_rename_that_was_done_does_not_move_what_comes_under_the_old_name() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[("f/x", "old")]);
        let renamed = change_meanwhile(
            &mount,
            || rename(&mount, RenameFlags::empty()),
            || mount.put_object("f/x", b"theirs"),
        );
        renamed.unwrap();
        ends_with(&mount, durability, &[("f/x", "theirs"), ("g/x", "old")]);
    }
}

/// The last of its three renames is cut by a kill, or its answer.
#[test]
fn an_exchange_that_counts_as_done_is_finished_and_not_exchanged_back() {
    let points = [
        "request_done=return",
        "rename_file_noted=2*off->return",
        "rename_file_copied=2*off->return",
        "rename_file_deleted=2*off->return",
        "rename_file_done=2*off->return",
    ];
    for durability in DURABILITIES {
        for point in points {
            let mount = dies_at(point, durability, &[("f", "of f"), ("g", "of g")]);
            let exchanged =
                change_meanwhile(&mount, || rename(&mount, RenameFlags::EXCHANGE), || {});
            exchanged.unwrap();
            ends_with(&mount, point, &[("f", "of g"), ("g", "of f")]);
        }
    }
}

/// The journal knows none of its renames as begun, and the session log not which is done.
#[test]
fn an_exchange_that_a_kill_cut_before_a_file_had_its_next_name_is_finished() {
    let points = [
        "rename_file_ended=return",
        "rename_file_ended=1*off->return",
    ];
    for_each_durability(&points, |durability, point| {
        let mount = dies_at(point, durability, &[("f", "of f"), ("g", "of g")]);
        let exchanged = mount.change_amid_death(|| rename(&mount, RenameFlags::EXCHANGE), || {});
        exchanged.unwrap();
        ends_with(&mount, point, &[("f", "of g"), ("g", "of f")]);
    });
}

/// Between its second rename and its third one.
#[test]
fn what_another_client_puts_amid_an_exchange_that_a_kill_cut_stays() {
    for durability in DURABILITIES {
        let point = "rename_file_noted=2*off->return";
        let mount = dies_at(point, durability, &[("f", "of f"), ("g", "of g")]);
        let exchanged = change_meanwhile(
            &mount,
            || rename(&mount, RenameFlags::EXCHANGE),
            || mount.put_object("g", b"theirs"),
        );
        exchanged.unwrap();
        ends_with(&mount, durability, &[("f", "of g"), ("g", "theirs")]);
    }
}

#[test]
fn a_removal_that_was_done_does_not_remove_what_another_client_puts_there() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[("f", "old")]);
        let removed = change_meanwhile(
            &mount,
            || fs::remove_file(mount.path("f")),
            || mount.put_object("f", b"theirs"),
        );
        removed.unwrap();
        ends_with(&mount, durability, &[("f", "theirs")]);
    }
}

#[test]
fn a_directory_that_was_removed_and_made_again_by_another_client_stays() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[("d/", "")]);
        let removed = change_meanwhile(
            &mount,
            || fs::remove_dir(mount.path("d")),
            || mount.put_object("d/", b""),
        );
        removed.unwrap();
        mount.wait_for("d", durability, Path::is_dir);
        mount.unmount();
        assert_eq!(mount.keys(), ["d/"]);
    }
}

#[test]
fn a_directory_that_was_made_and_removed_by_another_client_is_not_made_again() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[]);
        let made = change_meanwhile(
            &mount,
            || fs::create_dir(mount.path("d")),
            || mount.client().delete(mount.bucket(), "d/"),
        );
        assert_eq!(made.unwrap_err().kind(), io::ErrorKind::NotFound);
        mount.unmount();
        assert!(mount.keys().is_empty());
    }
}

#[test]
fn a_directory_that_was_made_is_the_answer_also_where_another_client_has_filled_it() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[]);
        let made = change_meanwhile(
            &mount,
            || fs::create_dir(mount.path("d")),
            || mount.put_object("d/x", b"theirs"),
        );
        made.unwrap();
        mount.wait_for("d/x", durability, Path::exists);
        mount.unmount();
    }
}

/// By its name: nobody has it open.
pub fn truncate(path: &Path, len: i64) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is a string that ends with a NUL.
    match unsafe { libc::truncate(path.as_ptr(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn a_truncation_that_was_done_does_not_cut_what_another_client_puts_there() {
    for durability in DURABILITIES {
        let mount = dies_at("request_done=return", durability, &[("f", "old bytes")]);
        let cut = change_meanwhile(
            &mount,
            || truncate(&mount.path("f"), 3),
            || mount.put_object("f", b"theirs, and longer"),
        );
        cut.unwrap();
        ends_with(&mount, durability, &[("f", "theirs, and longer")]);
    }
}

/// The end of a rename is in the journal, and its answer is not out.
#[test]
fn a_rename_that_has_come_to_its_end_is_done() {
    let points = [
        ("rename_file_done=return", "f", "g"),
        ("rename_directory_enqueued=return", "f/x", "g/x"),
        ("rename_directory_deleted=return", "f/x", "g/x"),
    ];
    for durability in DURABILITIES {
        for (point, old, new) in points {
            let mount = dies_at(point, durability, &[(old, "old")]);
            let renamed = change_meanwhile(
                &mount,
                || rename(&mount, RenameFlags::empty()),
                || mount.put_object(old, b"theirs"),
            );
            renamed.unwrap();
            ends_with(&mount, point, &[(old, "theirs"), (new, "old")]);
        }
    }
}
