//! Requests that fail before, while and after the server applied them.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, Server, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;
const INTERNAL_ERROR_IN_200: Fault = Fault::Answer(200, "InternalError");

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--copy-part-size", "5MiB", "--part-size", "5MiB"]);
    (plan, proxy)
}

/// One life of files that takes every kind of request, and what must come of it.
fn live(mount: &Mount, round: &str) {
    let (small, big) = (pattern(3000, 1), pattern(6 * MIB, 2));
    let path = |name: &str| mount.path(format!("{round}-{name}"));
    let object = |name: &str| mount.object(&format!("{round}-{name}"));
    fs::write(path("small"), &small).unwrap();
    fs::write(path("big"), &big).unwrap();
    let exclusive = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    sys::close(sys::open(path("claimed"), exclusive).unwrap()).unwrap();
    fs::rename(path("small"), path("moved")).unwrap();
    fs::rename(path("big"), path("big.moved")).unwrap();
    fs::write(path("gone"), b"x").unwrap();
    fs::remove_file(path("gone")).unwrap();
    fs::create_dir(path("d")).unwrap();
    fs::remove_dir(path("d")).unwrap();
    assert_same_bytes(&fs::read(path("moved")).unwrap(), &small, round);
    assert_same_bytes(&fs::read(path("big.moved")).unwrap(), &big, round);
    assert_same_bytes(&object("moved").unwrap(), &small, round);
    assert_same_bytes(&object("big.moved").unwrap(), &big, round);
    assert_eq!(object("claimed").unwrap(), b"", "{round}");
    for name in ["small", "big", "gone"] {
        assert!(!path(name).exists(), "{round}: {name}");
        // Of many removals in a row S3 is told a moment later.
        wait_until(WITHIN, "the end of the object", || object(name).is_none());
    }
}

const CHANGES: [&str; 8] = [
    "PutObject",
    "CopyObject",
    "DeleteObject",
    "CreateMultipartUpload",
    "UploadPart",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "ListObjectsV2",
];

#[track_caller]
fn one_fault_of_each_kind_shows_nowhere(fault: Fault) {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    for op in CHANGES.into_iter().chain(["GetObject", "HeadObject"]) {
        proxy.fail(op, fault, 1);
        live(&mount, op);
    }
    assert!(mount.lost_and_found().is_empty());
    for op in CHANGES {
        assert!(proxy.seen(op) > 0, "{op} is never sent");
    }
}

#[test]
fn a_request_that_never_arrived_is_sent_again() {
    one_fault_of_each_kind_shows_nowhere(Fault::Reset);
}

#[test]
fn a_request_that_was_applied_and_whose_answer_was_lost_is_applied_once() {
    one_fault_of_each_kind_shows_nowhere(Fault::LoseAnswer);
}

#[test]
fn a_symlink_or_fifo_whose_answer_was_lost_is_made_once() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.arg("--attributes=stored").start();
    for (round, fault) in [(1, Fault::LoseAnswer), (2, Fault::CutAnswer)] {
        let path = |name: &str| mount.path(format!("{name}{round}"));
        proxy.fail("PutObject", fault, 1);
        std::os::unix::fs::symlink("target", path("link")).unwrap();
        assert_eq!(
            fs::read_link(path("link")).unwrap().to_str(),
            Some("target")
        );
        proxy.fail("PutObject", fault, 1);
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("fifo"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .unwrap();
        // Another client's is no answer to it.
        proxy.fail("PutObject", Fault::Reset, 1);
        let theirs = format!("theirs{round}");
        let held = Rule::on("PutObject", Fault::Pass).key(&theirs);
        let gate = proxy.hold(Side::BeforeServer, held);
        let made = std::thread::spawn({
            let path = path("theirs");
            move || std::os::unix::fs::symlink("target", path)
        });
        gate.wait_for(1);
        mount.put_object(&theirs, b"target");
        gate.open();
        assert_eq!(sys::errno(made.join().unwrap()), libc::EEXIST);
    }
}

#[test]
fn half_an_answer_is_none() {
    one_fault_of_each_kind_shows_nowhere(Fault::CutAnswer);
}

#[test]
fn a_request_that_arrives_twice_counts_once() {
    one_fault_of_each_kind_shows_nowhere(Fault::Twice);
}

#[test]
fn a_server_that_says_500_or_503_is_asked_again() {
    one_fault_of_each_kind_shows_nowhere(Fault::Answer(503, "SlowDown"));
    one_fault_of_each_kind_shows_nowhere(Fault::Answer(500, "InternalError"));
}

#[test]
fn a_copy_or_completion_that_answers_200_with_an_error_is_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    for op in ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"] {
        proxy.fail(op, INTERNAL_ERROR_IN_200, 1);
        live(&mount, op);
    }
}

#[test]
fn a_copy_that_goes_on_answering_200_with_an_error_fails_the_rename_and_leaves_the_source() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.args(["--request-timeout", "6s"]).start();
    let (small, big) = (pattern(100, 1), pattern(11 * MIB, 2));
    fs::write(mount.path("small"), &small).unwrap();
    fs::write(mount.path("big"), &big).unwrap();
    for op in ["CopyObject", "UploadPartCopy", "CompleteMultipartUpload"] {
        proxy.fail(op, INTERNAL_ERROR_IN_200, ALWAYS);
    }
    for (name, body) in [("small", &small), ("big", &big)] {
        let moved = fs::rename(mount.path(name), mount.path("moved"));
        assert!(moved.is_err(), "{name}");
        assert!(!mount.path("moved").exists());
        assert_same_bytes(&fs::read(mount.path(name)).unwrap(), body, name);
        assert_same_bytes(&mount.object(name).unwrap(), body, name);
    }
    mount.wait_for_keys("the sources alone", |keys| keys == ["big", "small"]);
    proxy.heal();
    fs::rename(mount.path("big"), mount.path("moved")).unwrap();
    assert_same_bytes(&mount.object("moved").unwrap(), &big, "healed");
}

#[test]
fn a_rename_that_a_kill_cut_between_copy_and_delete_is_finished_by_the_next_mount() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    let body = pattern(5000, 3);
    fs::write(mount.path("f"), &body).unwrap();
    proxy.fail("DeleteObject", Fault::Stall, ALWAYS);
    let (from, to) = (mount.path("f"), mount.path("moved"));
    let renaming = std::thread::spawn(move || fs::rename(from, to));
    wait_until(WITHIN, "the delete", || proxy.seen("DeleteObject") > 0);
    mount.kill9();
    assert!(renaming.join().unwrap().is_err(), "nothing was answered");
    proxy.heal();
    mount.remount();
    assert!(!mount.path("f").exists());
    let moved = fs::read(mount.path("moved")).unwrap();
    assert_same_bytes(&moved, &body, "moved");
    mount.wait_for_keys("the old name to go", |keys| keys == ["moved"]);
    assert_eq!(proxy.seen("CopyObject"), 1, "the copy was there");
}

#[test]
fn a_lost_answer_does_not_hide_that_another_client_was_first() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let exclusive = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let file = sys::open(mount.path("f"), exclusive).unwrap();
    std::io::Write::write_all(&mut &file, b"ours").unwrap();
    mount.put_object("f", b"theirs");
    proxy.fail("PutObject", Fault::LoseAnswer, 1);
    assert_eq!(sys::errno(sys::close(file)), libc::EEXIST);
    assert_eq!(mount.object("f").unwrap(), b"theirs");
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found() == [b"ours"]
    });
}

#[test]
fn a_directory_rename_that_a_kill_cut_is_finished_by_the_next_mount() {
    const FILES: usize = 60;
    const COPIES_AT_ONCE: usize = 32;
    for (op, skip) in [("CopyObject", 10), ("DeleteObjects", 0)] {
        let (plan, proxy) = behind_a_proxy();
        let mut mount = plan.start();
        for number in 0..FILES {
            mount.put_object(&format!("d/{number}"), number.to_string().as_bytes());
        }
        mount.wait_for("d", "the directory", |path| path.is_dir());
        proxy.fail_after(op, skip, Fault::Stall, ALWAYS);
        let (from, to) = (mount.path("d"), mount.path("e"));
        let renaming = std::thread::spawn(move || fs::rename(from, to));
        wait_until(WITHIN, op, || proxy.seen(op) > skip);
        mount.kill9();
        assert!(renaming.join().unwrap().is_err(), "nothing was answered");
        proxy.heal();
        mount.remount();
        assert!(!mount.path("d").exists());
        for number in 0..FILES {
            let bytes = fs::read(mount.path(format!("e/{number}")));
            assert_eq!(bytes.unwrap(), number.to_string().as_bytes(), "{op}");
        }
        let copies = proxy.seen("CopyObject");
        assert!(copies <= FILES + COPIES_AT_ONCE, "{copies}");
        mount.wait_for_keys("the old names to go", |keys| {
            keys.len() == FILES && keys.iter().all(|key| key.starts_with("e/"))
        });
    }
}

#[test]
fn a_rename_that_cannot_be_finished_yet_is_finished_by_a_later_mount() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.args(["--request-timeout", "5s"]).start();
    for name in ["d/1", "d/2"] {
        mount.put_object(name, name.as_bytes());
    }
    mount.wait_for("d", "the directory", |path| path.is_dir());
    proxy.fail("CopyObject", Fault::Stall, ALWAYS);
    let (from, to) = (mount.path("d"), mount.path("e"));
    let renaming = std::thread::spawn(move || fs::rename(from, to));
    wait_until(WITHIN, "a copy", || proxy.seen("CopyObject") > 0);
    mount.kill9();
    assert!(renaming.join().unwrap().is_err(), "nothing was answered");
    proxy.heal();
    proxy.fail("CopyObject", Fault::Answer(500, "InternalError"), ALWAYS);
    for _ in 0..2 {
        mount.remount();
        std::thread::scope(|scope| {
            for path in ["d", "e", "d/1", "e/1"].map(|name| mount.path(name)) {
                scope.spawn(move || {
                    let shown = fs::metadata(&path);
                    assert_eq!(sys::errno(shown), libc::ETIMEDOUT, "{path:?}");
                });
            }
        });
        fs::write(mount.path("other"), b"served").unwrap();
        let names = fs::read_dir(&mount.root).unwrap();
        let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["d", "other"], "nothing has two names");
        // Where the store told nothing of conditions, a copy waits for the one that stalled.
        wait_until(WITHIN, "word of the rename", || {
            mount.log().contains("the rename is not finished")
        });
        mount.kill9();
    }
    fs::remove_file(mount.scratch().join("log")).unwrap();
    proxy.heal();
    mount.remount();
    fs::remove_file(mount.path("other")).unwrap();
    mount.wait_for("e/1", "the moved file", |path| {
        fs::read(path).is_ok_and(|bytes| bytes == b"d/1")
    });
    mount.wait_for_keys("the new names", |keys| keys == ["e/1", "e/2"]);
}

#[test]
fn a_store_without_conditional_writes_is_told_of_once_and_works() {
    let proxy = Proxy::before(Server::moto());
    proxy.fail("PutObject", Fault::Unconditional, usize::MAX);
    let mount = Mount::on(Server::moto())
        .set("--endpoint-url", &proxy.endpoint)
        .start();
    assert!(mount.keys().is_empty(), "nothing is left of the probe");
    let exclusive = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    for name in ["a", "b"] {
        let file = sys::open(mount.path(name), exclusive).unwrap();
        file.write_all_at(b"bytes", 0).unwrap();
        sys::close(file).unwrap();
        assert_eq!(mount.object(name).unwrap(), b"bytes");
    }
    let log = mount.log();
    assert_eq!(
        log.matches("this store ignores If-Match").count(),
        1,
        "{log}"
    );
}

#[test]
fn a_store_with_conditional_writes_is_not_warned_of() {
    let mount = Mount::on(Server::seaweedfs()).start();
    assert!(!mount.log().contains("If-Match"), "{}", mount.log());
    assert!(mount.keys().is_empty());
    // It heeds those of PUT and of single deletes alone.
    let mount = Mount::on(Server::moto()).start();
    let log = mount.log();
    let missing = "requests=\"CompleteMultipartUpload CopyObject DeleteObjects\"";
    assert!(log.contains(missing), "{log}");
    assert!(mount.keys().is_empty());
}

const MET_ANOTHER: Fault = Fault::Answer(409, "ConditionalRequestConflict");

#[test]
fn a_conditional_write_that_conflicts_is_sent_again_and_a_completion_begun_anew() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let exclusive = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    for (name, body) in [("small", pattern(10, 1)), ("long", pattern(11 * MIB, 2))] {
        proxy.fail("PutObject", MET_ANOTHER, 1);
        proxy.fail("CompleteMultipartUpload", MET_ANOTHER, 1);
        let mut file = sys::open(mount.path(name), exclusive).unwrap();
        std::io::Write::write_all(&mut file, &body).unwrap();
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object(name).unwrap(), &body, name);
        proxy.heal();
    }
    assert_eq!(proxy.seen("CreateMultipartUpload"), 2);
    wait_until(WITHIN, "no unfinished upload", || {
        mount.client().unfinished_uploads(mount.bucket()).is_empty()
    });
    // The other one was first after all.
    let file = sys::open(mount.path("lost"), exclusive).unwrap();
    file.write_all_at(b"ours", 0).unwrap();
    mount.put_object("lost", b"theirs");
    proxy.fail("PutObject", MET_ANOTHER, 1);
    assert_eq!(sys::errno(sys::close(file)), libc::EEXIST);
    assert_eq!(mount.object("lost").unwrap(), b"theirs");
}

#[test]
fn a_completion_that_goes_on_meeting_others_is_eio_and_the_bytes_are_kept() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    proxy.fail("CompleteMultipartUpload", MET_ANOTHER, ALWAYS);
    let body = pattern(6 * MIB, 2);
    let mut file = sys::open(mount.path("f"), libc::O_WRONLY | libc::O_CREAT).unwrap();
    std::io::Write::write_all(&mut file, &body).unwrap();
    assert_eq!(sys::errno(sys::close(file)), libc::EIO);
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found().len() == 1
    });
    assert_same_bytes(&mount.lost_and_found()[0], &body, "kept");
    wait_until(WITHIN, "no unfinished upload", || {
        mount.client().unfinished_uploads(mount.bucket()).is_empty()
    });
    assert!(mount.keys().is_empty());
}

#[test]
fn a_completion_whose_answer_was_lost_and_that_is_then_refused_is_known_for_our_own() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let exclusive = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let refusals = [Fault::Answer(412, "PreconditionFailed"), MET_ANOTHER];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let name = format!("f{number}");
        proxy.fail("CompleteMultipartUpload", Fault::LoseAnswer, 1);
        proxy.fail("CompleteMultipartUpload", refusal, 1);
        let body = pattern(11 * MIB, number as u64);
        let mut file = sys::open(mount.path(&name), exclusive).unwrap();
        std::io::Write::write_all(&mut file, &body).unwrap();
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object(&name).unwrap(), &body, &name);
        proxy.heal();
    }
    assert!(mount.lost_and_found().is_empty());
}
