//! Long files on their way to S3: in parts, over kills, side by side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use support::data::{MIB, assert_same_bytes};
use support::proxy::{Fault, Proxy};
use support::{Mount, MountBuilder, Server, pattern, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(30);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &proxy.endpoint);
    (plan.args(["--part-size", "5MiB"]), proxy)
}

fn uploaded(mount: &Mount, path: &str, want: &[u8]) {
    wait_until(WITHIN, path, || {
        mount.client().try_get(mount.bucket(), path) == Ok(Some(want.to_vec()))
    });
}

#[track_caller]
fn no_upload_is_left(mount: &Mount) {
    wait_until(WITHIN, "no unfinished upload", || {
        let left = mount.client().unfinished_uploads(mount.bucket());
        left.is_empty()
    });
}

/// A file of 7 parts whose close is cut off by a kill when `arrived` of them have.
fn killed_after(plan: MountBuilder, proxy: &Proxy, arrived: usize) -> (Mount, Vec<u8>) {
    let mut mount = plan.start();
    let body = pattern(33 * MIB + 5, 4);
    proxy.fail_after("UploadPart", arrived, Fault::Stall, ALWAYS);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&body).unwrap();
    let closing = std::thread::spawn(move || sys::close(file));
    let sealed = || {
        let journal = fs::read_to_string(mount.scratch().join("spool/journal"));
        journal.unwrap().contains("\"sending\"")
    };
    wait_until(WITHIN, "parts", || {
        sealed() && proxy.passed("UploadPart") == arrived && proxy.seen("UploadPart") > arrived
    });
    mount.kill9();
    // An error, or with `--durability=disk` a success.
    drop(closing.join().unwrap());
    proxy.heal();
    (mount, body)
}

#[test]
fn an_upload_that_a_kill_cut_off_goes_on_with_the_parts_that_are_missing() {
    for (option, value) in [
        ("--durability", "s3"),
        ("--durability", "disk"),
        ("--attributes", "stored"),
    ] {
        let (plan, proxy) = behind_a_proxy();
        let plan = plan.args([option, value]);
        let (mut mount, body) = killed_after(plan, &proxy, 4);
        let before = proxy.seen("UploadPart");
        mount.remount();
        uploaded(&mount, "f", &body);
        assert_eq!(proxy.seen("UploadPart") - before, 3, "of 7, 4 were there");
        assert_eq!(proxy.seen("ListParts"), 1);
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        no_upload_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_part_that_is_not_what_the_file_has_is_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, body) = killed_after(plan, &proxy, 4);
    // One is of other bytes, another of another length.
    mount
        .client()
        .put_part(mount.bucket(), "f", 2, &pattern(5 * MIB, 99));
    mount
        .client()
        .put_part(mount.bucket(), "f", 3, &pattern(6 * MIB, 4));
    let before = proxy.seen("UploadPart");
    mount.remount();
    uploaded(&mount, "f", &body);
    let missing = proxy.seen("UploadPart") - before;
    assert!((3..=5).contains(&missing), "{missing} parts sent");
    no_upload_is_left(&mount);
}

#[test]
fn an_upload_that_somebody_aborted_meanwhile_begins_anew() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, body) = killed_after(plan, &proxy, 4);
    mount.client().abort_uploads(mount.bucket());
    mount.remount();
    uploaded(&mount, "f", &body);
    assert_eq!(proxy.seen("CreateMultipartUpload"), 2);
    no_upload_is_left(&mount);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn an_upload_whose_file_was_discarded_meanwhile_is_aborted_and_no_others() {
    let (plan, proxy) = behind_a_proxy();
    let (mut mount, _) = killed_after(plan, &proxy, 4);
    mount.client().begin_upload(mount.bucket(), "theirs");
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    for stage in stages {
        fs::remove_file(stage.unwrap().path()).unwrap();
    }
    mount.remount();
    wait_until(WITHIN, "only theirs", || {
        mount.client().unfinished_uploads(mount.bucket()) == ["theirs"]
    });
    assert!(mount.keys().is_empty());
}

/// A file that is open, with these bytes, of which every full part has arrived.
fn written_ahead(mount: &Mount, proxy: &Proxy, name: &str, body: &[u8]) -> File {
    let before = proxy.passed("UploadPart");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path(name))
        .unwrap();
    file.write_all(body).unwrap();
    wait_until(WITHIN, "full parts", || {
        proxy.passed("UploadPart") - before == body.len() / (5 * MIB)
    });
    file
}

#[test]
fn full_parts_are_sent_while_the_file_is_written_and_nothing_is_seen_before_close() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let mount = plan.args(["--durability", durability]).start();
        let body = pattern(22 * MIB, 1);
        let file = written_ahead(&mount, &proxy, "f", &body);
        assert!(mount.keys().is_empty());
        assert_eq!(proxy.seen("CompleteMultipartUpload"), 0);
        sys::close(file).unwrap();
        uploaded(&mount, "f", &body);
        assert_eq!(
            proxy.seen("UploadPart"),
            5,
            "4 before close, the rest at it"
        );
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        assert_eq!(proxy.seen("CompleteMultipartUpload"), 1);
        no_upload_is_left(&mount);
    }
}

#[test]
fn a_part_that_was_sent_and_is_written_again_is_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(22 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    // Over the end of the second part.
    let again = pattern(1000, 2);
    file.write_all_at(&again, 10 * MIB as u64 - 500).unwrap();
    body[10 * MIB - 500..10 * MIB + 500].copy_from_slice(&again);
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    assert_eq!(proxy.seen("UploadPart"), 7, "5, and two again");
    no_upload_is_left(&mount);
}

#[test]
fn a_part_that_is_written_again_while_it_is_sent_counts_as_it_is_at_close() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut want = pattern(21 * MIB, 1);
    let mut file = File::create(mount.path("f")).unwrap();
    for (number, piece) in want.clone().chunks(MIB).enumerate() {
        file.write_all(piece).unwrap();
        // Parts before are on their way.
        let at = (number as u64 * 7919) % (number as u64 + 1) * MIB as u64;
        let again = pattern(10, number as u64);
        file.write_all_at(&again, at).unwrap();
        want[at as usize..at as usize + 10].copy_from_slice(&again);
    }
    sys::close(file).unwrap();
    assert!(proxy.seen("CreateMultipartUpload") > 0);
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn a_copy_of_64_mib_costs_8_parts_and_one_of_a_part_costs_one_put() {
    let proxy = Proxy::before(Server::shared());
    let mount = Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .start();
    let puts = proxy.seen("PutObject");
    let body = pattern(64 * MIB, 1);
    let source = mount.scratch().join("source");
    fs::write(&source, &body).unwrap();
    fs::copy(&source, mount.path("f")).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    let seen = [
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
    ];
    assert_eq!(seen.map(|op| proxy.seen(op)), [1, 8, 1]);
    assert_eq!(proxy.seen("PutObject"), puts);
    let body = &body[..8 * MIB];
    fs::write(mount.path("g"), body).unwrap();
    assert_same_bytes(&mount.object("g").unwrap(), body, "the object");
    assert_eq!(seen.map(|op| proxy.seen(op)), [1, 8, 1]);
    assert_eq!(proxy.seen("PutObject"), puts + 1);
    no_upload_is_left(&mount);
}

#[test]
fn a_file_that_is_removed_cut_or_renamed_while_it_is_written_leaves_no_upload() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let removed = written_ahead(&mount, &proxy, "removed", &body);
    fs::remove_file(mount.path("removed")).unwrap();
    no_upload_is_left(&mount);
    let mut seen = vec![0; body.len()];
    removed.read_exact_at(&mut seen, 0).unwrap();
    assert_same_bytes(&seen, &body, "removed");
    (&removed).write_all(&body).unwrap();
    sys::close(removed).unwrap();

    let cut = written_ahead(&mount, &proxy, "cut", &body);
    cut.set_len(7).unwrap();
    sys::close(cut).unwrap();
    assert_eq!(mount.object("cut").unwrap(), &body[..7]);
    no_upload_is_left(&mount);

    let shorter = written_ahead(&mount, &proxy, "shorter", &body);
    shorter.set_len(12 * MIB as u64).unwrap();
    shorter.set_len(16 * MIB as u64).unwrap();
    sys::close(shorter).unwrap();
    let mut want = body[..12 * MIB].to_vec();
    want.resize(16 * MIB, 0);
    assert_same_bytes(&mount.object("shorter").unwrap(), &want, "shorter");
    no_upload_is_left(&mount);

    let renamed = written_ahead(&mount, &proxy, "renamed", &body);
    fs::rename(mount.path("renamed"), mount.path("other")).unwrap();
    sys::close(renamed).unwrap();
    assert_same_bytes(&mount.object("other").unwrap(), &body, "other");
    no_upload_is_left(&mount);
    assert_eq!(mount.keys(), ["cut", "other", "shorter"]);
}

#[test]
fn a_file_that_was_being_written_at_a_kill_is_kept_and_its_upload_aborted() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    mount.client().begin_upload(mount.bucket(), "theirs");
    mount.kill9();
    drop(file);
    assert_eq!(mount.client().unfinished_uploads(mount.bucket()).len(), 2);
    mount.remount();
    wait_until(WITHIN, "only theirs", || {
        mount.client().unfinished_uploads(mount.bucket()) == ["theirs"]
    });
    assert_same_bytes(&mount.lost_and_found()[0], &body, "kept");
    assert!(mount.keys().is_empty());
}

#[test]
fn parts_that_are_refused_before_close_fail_the_close_and_leave_no_upload() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    proxy.fail("UploadPart", Fault::Answer(403, "AccessDenied"), ALWAYS);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&pattern(17 * MIB, 1)).unwrap();
    wait_until(WITHIN, "a refusal", || proxy.seen("UploadPart") > 0);
    assert_eq!(sys::errno(sys::close(file)), libc::EACCES);
    no_upload_is_left(&mount);
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found().len() == 1
    });
}

#[test]
fn an_append_an_edit_and_a_cut_send_a_few_mib_whatever_the_part_size() {
    let proxy = Proxy::before(Server::shared());
    let mount = Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .args(["--part-size", "16MiB"])
        .start();
    let mut body = pattern(50 * MIB + 4321, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let change = |change: &dyn Fn(&File)| {
        let before = proxy.lengths("UploadPart").len();
        let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
        change(&file);
        sys::close(file).unwrap();
        proxy.lengths("UploadPart").split_off(before)
    };

    let end = body.len() as u64;
    let sent = change(&|file| file.write_all_at(b"appended", end).unwrap());
    body.extend(b"appended");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "appended");
    assert_eq!(sent.len(), 1);
    assert!(sent[0] < MIB, "{sent:?}");

    // Near the start, near each other, and near the end.
    let edits = [MIB, 20 * MIB, 23 * MIB, body.len() - 100];
    let sent = change(&|file| {
        for at in edits {
            file.write_all_at(b"edited", at as u64).unwrap();
        }
    });
    for at in edits {
        body[at..at + 6].copy_from_slice(b"edited");
    }
    assert_same_bytes(&mount.object("f").unwrap(), &body, "edited");
    assert!(sent.iter().sum::<usize>() < 20 * MIB, "{sent:?}");

    let sent = change(&|file| file.set_len(33 * MIB as u64 + 7).unwrap());
    body.truncate(33 * MIB + 7);
    assert_same_bytes(&mount.object("f").unwrap(), &body, "cut");
    assert_eq!(sent, Vec::<usize>::new());
    no_upload_is_left(&mount);
}

#[test]
fn a_part_longer_than_the_part_size_is_sent_as_it_is_read() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(40 * MIB, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    // Cut in two, one of them would be below 5 MiB.
    let mut edit = pattern(9 * MIB + 5, 2);
    for fault in [None, Some(Fault::LoseAnswer), Some(Fault::FlipRequest)] {
        let before = proxy.lengths("UploadPart").len();
        if let Some(fault) = fault {
            proxy.fail("UploadPart", fault, 1);
        }
        edit.reverse();
        let mut want = body.clone();
        want[11 * MIB..20 * MIB + 5].copy_from_slice(&edit);
        let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
        file.write_all_at(&edit, 11 * MIB as u64).unwrap();
        match sys::close(file) {
            Ok(()) => body = want,
            // The server has compared the checksum.
            outcome => {
                assert_eq!(fault, Some(Fault::FlipRequest));
                assert_eq!(sys::errno(outcome), libc::EIO);
            }
        }
        assert_same_bytes(&mount.object("f").unwrap(), &body, "edited");
        let sent = proxy.lengths("UploadPart").split_off(before);
        assert!(sent.iter().all(|len| *len == edit.len()), "{sent:?}");
    }
}

/// A file of 22 MiB, closed in the background.
fn closing(mount: &Mount, name: &str, body: &[u8]) -> std::thread::JoinHandle<()> {
    let mut file = File::create(mount.path(name)).unwrap();
    file.write_all(body).unwrap();
    // What comes of it is no matter.
    std::thread::spawn(move || drop(sys::close(file)))
}

#[test]
fn an_upload_that_is_stuck_does_not_hold_up_others() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let mut mount = plan.args(["--durability", durability]).start();
        let body = pattern(22 * MIB, 1);
        // All that one file may have under way.
        proxy.fail("UploadPart", Fault::Stall, 4);
        let stuck = closing(&mount, "stuck", &body);
        wait_until(WITHIN, "4 parts stuck", || proxy.seen("UploadPart") >= 4);
        let others: Vec<_> = ["a", "b"]
            .map(|name| (name, closing(&mount, name, &body)))
            .into();
        for number in 0..20 {
            fs::write(mount.path(format!("small-{number}")), b"small").unwrap();
        }
        for (name, closing) in others {
            closing.join().unwrap();
            uploaded(&mount, name, &body);
        }
        mount.wait_for_keys("the small ones", |keys| keys.len() == 22);
        assert_eq!(mount.object("stuck"), None);
        mount.kill9();
        stuck.join().unwrap();
    }
}

#[test]
fn small_files_are_closed_while_a_huge_one_has_all_that_it_can_have_under_way() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.start();
    proxy.fail_after("UploadPart", 8, Fault::Stall, ALWAYS);
    let huge = closing(&mount, "huge", &pattern(256 * MIB, 1));
    wait_until(WITHIN, "parts stuck", || proxy.seen("UploadPart") >= 12);
    for number in 0..20 {
        let name = format!("small-{number}");
        let body = pattern(MIB, number);
        fs::write(mount.path(&name), &body).unwrap();
        assert_same_bytes(&mount.object(&name).unwrap(), &body, &name);
    }
    assert_eq!(proxy.seen("UploadPart"), 12, "the huge one had no turn");
    mount.kill9();
    huge.join().unwrap();
}

#[test]
fn an_upload_that_somebody_aborts_while_the_file_is_written_begins_anew_at_close() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(17 * MIB, 1);
    let file = written_ahead(&mount, &proxy, "f", &body);
    mount.client().abort_uploads(mount.bucket());
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    no_upload_is_left(&mount);
}

#[test]
fn a_lost_answer_to_a_completion_is_decided_by_what_is_there() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let mut body = pattern(17 * MIB, 1);
    proxy.fail("CompleteMultipartUpload", Fault::LoseAnswer, 1);
    fs::write(mount.path("f"), &body).unwrap();
    // An edit is conditional: what our own attempt made is not another client's.
    proxy.fail("CompleteMultipartUpload", Fault::LoseAnswer, 1);
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    file.write_all_at(b"edited", 3 * MIB as u64).unwrap();
    sys::close(file).unwrap();
    body[3 * MIB..3 * MIB + 6].copy_from_slice(b"edited");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    assert_eq!(
        proxy.seen("CreateMultipartUpload"),
        2,
        "nothing is sent twice"
    );
    no_upload_is_left(&mount);
    assert!(mount.lost_and_found().is_empty());
}
