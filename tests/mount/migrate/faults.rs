//! `mediafs import` while S3, other clients and the files' owners do what they may do.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::sys::ends_by_hangup;
use crate::support::{Migration, pattern};

/// Runs `mediafs import --yes` beside what the test does meanwhile.
#[track_caller]
fn beside<T>(all: &Migration, code: i32, meanwhile: impl FnOnce() -> T) -> (Ended, T) {
    std::thread::scope(|scope| {
        let import = scope.spawn(|| all.run("import", &["--yes"]));
        let done = meanwhile();
        let ended = import.join().unwrap();
        assert_eq!(ended.code, code, "{}", ended.said);
        (ended, done)
    })
}

#[test]
fn what_another_client_writes_meanwhile_is_kept_and_named() {
    let all = Migration::new();
    all.file("new", "ours");
    all.file("changed", "ours");
    all.object("changed", "theirs");
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("*").always(),
    );
    let (ended, ()) = beside(&all, 3, || {
        held.wait_for(1);
        all.object("new", "newer");
        all.object("changed", "newer still");
        held.open();
    });
    assert_eq!(ended.differences(), ["! changed", "! new"]);
    assert!(ended.said.contains("would replace it"), "{}", ended.said);
    assert_eq!(all.stored("new").unwrap(), b"newer");
    assert_eq!(all.stored("changed").unwrap(), b"newer still");
    all.proxy.heal();
    // What was looked at is replaced, since it is asked for once more.
    all.ends("import", &["--yes"], 0);
    all.assert_equal();
}

#[test]
fn requests_that_are_lost_doubled_late_or_damaged_end_in_the_same_objects() {
    let late = Duration::from_millis(1_500);
    let faults = [
        Fault::Reset,
        Fault::LoseAnswer,
        Fault::Twice,
        Fault::CutAnswer,
        Fault::FlipRequest,
        Fault::ApplyLate(late),
        Fault::Answer(503, "SlowDown"),
        Fault::Answer(500, "InternalError"),
    ];
    std::thread::scope(|scope| {
        for fault in faults {
            scope.spawn(move || ends_in_the_same_objects(fault));
        }
    });
}

#[track_caller]
fn ends_in_the_same_objects(fault: Fault) {
    let all = Migration::new();
    for number in 0..4 {
        all.file(&format!("f{number}"), format!("{number}"));
    }
    all.file("long", pattern(9 * MIB, 3));
    let ops = [
        "PutObject",
        "UploadPart",
        "CompleteMultipartUpload",
        "ListObjectsV2",
    ];
    // A listing has no body that could be damaged.
    let count = match fault {
        Fault::FlipRequest => 2,
        _ => ops.len(),
    };
    for op in ops.into_iter().take(count) {
        all.proxy.rule(Rule::on(op, fault).times(1));
    }
    let ended = all.run("import", &["--yes"]);
    assert_eq!(ended.code, 0, "{fault:?}: {}", ended.said);
    all.proxy.wait_until_idle();
    all.assert_equal();
}

#[test]
fn a_file_that_is_written_while_it_is_sent_is_stored_as_it_was_or_as_it_became() {
    // With one part at a time the others are read after the write, and else before.
    for at_once in ["1", "8"] {
        let all = Migration::new()
            .option("--upload-concurrency")
            .option(at_once);
        let was = pattern(17 * MIB, 5);
        let path = all.file("long", &was);
        let held = all.proxy.hold(
            Side::BeforeServer,
            Rule::on("UploadPart", Fault::Pass).always(),
        );
        let (ended, ()) = beside(&all, 4, || {
            held.wait_for(1);
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all(b"less").unwrap();
            file.set_len(16 * MIB as u64 + 5).unwrap();
            drop(file);
            held.open();
        });
        assert!(
            ended.said.contains("changed while it was sent"),
            "{}",
            ended.said
        );
        let stored = all.stored("long").unwrap();
        assert!(
            stored == was || stored == fs::read(&path).unwrap(),
            "{at_once}"
        );
        all.ends("import", &["--yes"], 0);
        all.assert_equal();
    }
}

#[test]
fn a_run_that_s3_did_not_answer_goes_on_where_it_was() {
    let all = Migration::new();
    all.file("long", pattern(40 * MIB, 7));
    for number in 0..50 {
        all.file(&format!("z{number}"), "x");
    }
    let down = Rule::on("UploadPart", Fault::Answer(503, "SlowDown"));
    all.proxy.rule(down.after(3).always());
    let ended = all.run("import", &["--yes", "--request-timeout", "4s"]);
    assert_eq!(ended.code, 4, "{}", ended.said);
    assert_eq!(ended.line("long")["symbol"], "!");
    assert_eq!(all.client.unfinished_uploads(&all.bucket), ["media/long"]);
    all.proxy.heal();
    let before = all.proxy.lengths("UploadPart").len();
    all.ends("import", &["--yes"], 0);
    let sent: usize = all.proxy.lengths("UploadPart")[before..].iter().sum();
    assert_eq!(sent, 40 * MIB - 3 * 8 * MIB);
    all.assert_equal();
}

#[test]
fn a_delete_waits_for_every_transfer_and_spares_what_others_replaced() {
    let all = Migration::new();
    for path in ["a", "b", "c", "d"] {
        all.file(path, path);
    }
    all.object("stray", "x");
    all.object("replaced", "x");
    all.proxy
        .fail("PutObject", Fault::Answer(403, "AccessDenied"), 1);
    let ended = all.ends("import", &["--yes", "--delete", "--force"], 4);
    assert_eq!(ended.count("deleted"), 0, "{}", ended.said);
    assert!(all.stored("stray").is_some());
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).always(),
    );
    std::thread::scope(|scope| {
        let import = scope.spawn(|| all.run("import", &["--yes", "--delete", "--force"]));
        held.wait_for(1);
        all.object("replaced", "newer");
        held.open();
        let ended = import.join().unwrap();
        assert_eq!(ended.code, 3, "{}", ended.said);
        assert_eq!(ended.line("replaced")["symbol"], "!");
        assert_eq!(ended.count("deleted"), 1);
    });
    assert!(all.stored("stray").is_none());
    assert_eq!(all.stored("replaced").unwrap(), b"newer");
}

#[test]
fn a_delete_spares_what_a_name_that_cannot_be_looked_below_may_stand_for() {
    let all = Migration::new();
    // Told with a character that comes after the next name, though its bytes come before.
    let bad = std::ffi::OsStr::from_bytes(b"\xc4rger.png");
    fs::write(all.tree.join(bad), "bad").unwrap();
    // Beside a directory whose name goes on below the slash.
    let bad = std::ffi::OsStr::from_bytes(b"M\xfcller.jpg");
    fs::write(all.tree.join(bad), "bad").unwrap();
    let hidden = all.tree.join(std::ffi::OsStr::from_bytes(b"M\xfcller"));
    fs::create_dir(&hidden).unwrap();
    all.file("\u{444}.png", "x");
    all.object("\u{444}.png", "x");
    all.object("avatars/1", "a");
    symlink("nowhere", all.tree.join("avatars")).unwrap();
    all.object("avatars-2", "stray");
    let delete = |symlinks: &'static str| {
        let common = ["--yes", "--delete", "--force", "--bad-names", "skip"];
        [&common[..], &["--symlinks", symlinks]].concat()
    };
    // Another run would keep them too: nothing failed that it could mend.
    for symlinks in ["inside", "skip"] {
        let kept = all.ends("import", &delete(symlinks), 3);
        assert_eq!(kept.count("deleted"), 0, "{}", kept.said);
    }
    fs::remove_dir(hidden).unwrap();
    let kept = all.ends("import", &delete("inside"), 3);
    assert_eq!(kept.count("deleted"), 0, "{}", kept.said);
    let mut left = all.paths();
    left.sort();
    assert_eq!(left, ["avatars-2", "avatars/1", "\u{444}.png"]);
    // What is skipped by choice keeps what may be of it, and nothing else.
    let skipped = all.ends("import", &delete("skip"), 0);
    assert_eq!(skipped.count("deleted"), 1, "{}", skipped.said);
    assert_eq!(all.paths(), ["avatars/1", "\u{444}.png"]);
    fs::remove_file(all.tree.join("avatars")).unwrap();
    let gone = all.ends("import", &delete("inside"), 0);
    assert_eq!(gone.count("deleted"), 1, "{}", gone.said);
    assert_eq!(all.paths(), ["\u{444}.png"]);
}

#[test]
fn an_interrupted_run_says_so_and_can_be_resumed() {
    use rustix::process::Signal;
    let all = Migration::new();
    for (seed, signal) in [(1, Signal::TERM), (2, Signal::INT), (3, Signal::HUP)] {
        all.file("long", pattern(24 * MIB, seed));
        let held = all.proxy.hold(
            Side::BeforeServer,
            Rule::on("UploadPart", Fault::Pass).after(1).always(),
        );
        let mut import = all.command("import", &["--yes"]);
        let mut import = ends_by_hangup(&mut import).spawn().unwrap();
        held.wait_for(1);
        // There is one checkpoint of both places.
        let second = all.ends("import", &["--yes"], 5);
        assert!(second.said.contains("is running"), "{}", second.said);
        let pid = rustix::process::Pid::from_child(&import);
        rustix::process::kill_process(pid, signal).unwrap();
        assert_eq!(import.wait().unwrap().code(), Some(6), "{signal:?}");
        held.open();
        all.proxy.wait_until_idle();
        all.proxy.heal();
    }
    all.ends("import", &["--yes"], 0);
    all.assert_equal();
}

#[test]
fn uploads_of_a_file_that_is_gone_are_aborted_by_the_next_run() {
    let all = Migration::new();
    let path = all.file("long", pattern(24 * MIB, 11));
    all.file("other", "x");
    // Killed before it knows the name of its upload, and after.
    for point in ["part_begins", "part_answered"] {
        let mut import = all.command("import", &["--yes"]);
        import.env("FAILPOINTS", format!("{point}=return"));
        assert_eq!(import.output().unwrap().status.code(), None);
    }
    let mut import = all.command("import", &["--yes"]);
    let held = all.proxy.hold(
        Side::AfterServer,
        Rule::on("CreateMultipartUpload", Fault::Pass).always(),
    );
    fs::write(&path, pattern(23 * MIB, 12)).unwrap();
    let mut import = import.spawn().unwrap();
    held.wait_for(1);
    import.kill().unwrap();
    import.wait().unwrap();
    held.open();
    all.proxy.wait_until_idle();
    all.proxy.heal();
    assert!(!all.client.unfinished_uploads(&all.bucket).is_empty());
    fs::remove_file(path).unwrap();
    all.ends("import", &["--yes"], 0);
    all.assert_equal();
}

#[test]
fn an_upload_in_parts_is_aborted_where_another_client_has_put_the_same_bytes() {
    let all = Migration::new();
    let bytes = pattern(24 * MIB, 13);
    all.file("long", &bytes);
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("CompleteMultipartUpload", Fault::Pass).always(),
    );
    let (ended, ()) = beside(&all, 0, || {
        held.wait_for(1);
        all.object("long", &bytes);
        held.open();
    });
    assert_eq!(ended.count("equal"), 1, "{}", ended.said);
    all.assert_equal();
    // What could not be aborted is known to the next run.
    all.proxy.heal();
    all.client.delete(&all.bucket, "media/long");
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("CompleteMultipartUpload", Fault::Pass).always(),
    );
    all.proxy
        .rule(Rule::on("AbortMultipartUpload", Fault::Answer(403, "AccessDenied")).always());
    beside(&all, 4, || {
        held.wait_for(1);
        all.object("long", &bytes);
        held.open();
    });
    assert_eq!(all.client.unfinished_uploads(&all.bucket), ["media/long"]);
    all.proxy.heal();
    all.ends("import", &["--yes"], 0);
    all.assert_equal();
}
