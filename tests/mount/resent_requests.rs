//! A request that a daemon carried out and did not live to answer: the kernel sends it
//! again, and what another client has done since stays.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::{Signal, kill_process};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{DURABILITIES, Mount, SupervisedMount, wait_until};

const WITHIN: Duration = Duration::from_secs(30);
/// Times of objects have no fraction: what comes as much later is newer for sure.
const NEWER_AFTER: Duration = Duration::from_secs(2);

/// Every daemon dies at the failpoint; the objects are there at first.
fn dies_at(point: &str, durability: &str, objects: &[(&str, &str)]) -> SupervisedMount {
    let plan = Mount::builder()
        .durability(durability)
        .env("FAILPOINTS", point);
    for (key, body) in objects {
        plan.client.put(&plan.bucket, key, body.as_bytes());
    }
    SupervisedMount::start(plan)
}

/// What the call comes to whose daemon dies, while another client acts later than it.
fn change_meanwhile(
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
fn ends_with(mount: &SupervisedMount, what: &str, objects: &[(&str, &str)]) {
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
fn truncate(path: &Path, len: i64) -> io::Result<()> {
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
        ("rename_directory_doomed=return", "f/x", "g/x"),
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

/// A change that the store carries out, and whose answer the daemon does not live to see.
struct Hidden {
    mount: SupervisedMount,
    proxy: Proxy,
}

impl Hidden {
    fn with(objects: &[(&str, &str)]) -> Self {
        let (plan, proxy) = Mount::behind_a_proxy();
        for (key, body) in objects {
            plan.client.put(&plan.bucket, key, body.as_bytes());
        }
        let mount = SupervisedMount::start(plan.set("--ttl", "1s"));
        Self { mount, proxy }
    }

    /// What the call comes to whose request of this kind is answered after the daemon's
    /// death, while another client acts later than it.
    fn change(
        &self,
        (op, key): (&'static str, &str),
        call: impl FnOnce() -> io::Result<()> + Send,
        meanwhile: impl FnOnce(),
    ) -> io::Result<()> {
        let rule = Rule::on(op, Fault::Pass).key(key);
        let answer = self.proxy.hold(Side::AfterServer, rule);
        let daemon = self.mount.daemon();
        let killed = || {
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    answer.wait_for(1);
                    let applied = || self.proxy.answered_bytes(op) > 0 || answer.held() > 0;
                    wait_until(WITHIN, "the change", applied);
                    kill_process(daemon, Signal::KILL).unwrap();
                });
                call()
            })
        };
        let changed = change_meanwhile(&self.mount, killed, || {
            let died = Instant::now();
            wait_until(WITHIN, "the next seconds", || died.elapsed() > NEWER_AFTER);
            meanwhile();
        });
        answer.open();
        changed
    }
}

#[test]
fn a_removal_whose_answer_was_lost_does_not_remove_what_another_client_puts_there() {
    for theirs in ["theirs", "old"] {
        let hidden = Hidden::with(&[("f", "old")]);
        let mount = &hidden.mount;
        let removed = hidden.change(
            ("DeleteObject", "f"),
            || fs::remove_file(mount.path("f")),
            || mount.put_object("f", theirs.as_bytes()),
        );
        removed.unwrap();
        ends_with(mount, theirs, &[("f", theirs)]);
    }
}

#[test]
fn a_directory_whose_removal_was_not_answered_stays_where_another_client_makes_it() {
    let hidden = Hidden::with(&[("d/", "")]);
    let mount = &hidden.mount;
    let removed = hidden.change(
        ("DeleteObject", "d/"),
        || fs::remove_dir(mount.path("d")),
        || mount.put_object("d/", b""),
    );
    removed.unwrap();
    mount.wait_for("d", "the directory of the other client", Path::is_dir);
    mount.unmount();
    assert_eq!(mount.keys(), ["d/"]);
}

#[test]
fn a_copy_whose_answer_was_lost_does_not_replace_what_another_client_puts_there() {
    for theirs in [None, Some("theirs")] {
        let hidden = Hidden::with(&[("f", "copied"), ("g", "")]);
        let mount = &hidden.mount;
        let source = fs::File::open(mount.path("f")).unwrap();
        let target = fs::OpenOptions::new().write(true).open(mount.path("g"));
        let target = target.unwrap();
        let copy = || {
            let copied = rustix::fs::copy_file_range(&source, None, &target, None, 6)?;
            assert_eq!(copied, 6);
            Ok(())
        };
        let put_theirs = || {
            if let Some(theirs) = theirs {
                mount.put_object("g", theirs.as_bytes());
            }
        };
        hidden
            .change(("CopyObject", "g"), copy, put_theirs)
            .unwrap();
        drop(target);
        drop(source);
        let left = theirs.unwrap_or("copied");
        ends_with(mount, left, &[("f", "copied"), ("g", left)]);
    }
}
