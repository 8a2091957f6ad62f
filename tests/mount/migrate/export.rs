//! `mediafs export` on a real server.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::proxy::{Fault, Rule, Side};
use crate::support::{DiskKind, Migration, Server, SmallDisk, pattern};

/// Every name below a folder, of whatever kind.
fn names(folder: &Path) -> Vec<String> {
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    found
}

#[test]
fn what_was_sent_comes_back_with_the_owner_mode_and_time_that_are_asked_for() {
    let all = Migration::new();
    for number in 0..40 {
        all.file(&format!("d{}/{number}", number % 3), format!("{number}"));
    }
    all.file("long", pattern(37 * MIB, 1));
    all.file("empty", "");
    fs::create_dir(all.tree.join("nothing")).unwrap();
    all.ends("import", &["--yes"], 0);
    let back = all.scratch.path().join("back");
    let export = |args: &[&str]| {
        let common = ["--yes", "--json", "--uid", "1234", "--file-mode", "0600"];
        Ended::of(all.command_on("export", &back, &common).args(args))
    };
    let dry = export(&["--dry-run"]);
    assert_eq!((dry.code, names(&back).len()), (3, 0), "{}", dry.said);
    let first = export(&[]);
    assert_eq!(first.code, 0, "{}", first.said);
    assert_eq!(first.count("fetched"), 42);
    assert_eq!(first.line("long")["proof"], "md5-of-parts");
    let same = std::process::Command::new("diff")
        .arg("-r")
        .arg(&all.tree)
        .arg(&back)
        .output();
    assert!(same.unwrap().status.success());
    let shown = fs::metadata(back.join("d1/1")).unwrap();
    assert_eq!((shown.mode() & 0o7777, shown.uid()), (0o600, 1234));
    assert_eq!(fs::metadata(back.join("d1")).unwrap().uid(), 1234);
    let head = all.client.head(&all.bucket, "media/d1/1").unwrap();
    assert_eq!(shown.mtime(), head.last_modified);
    let before = all.proxy.seen_in_all();
    let again = export(&[]);
    assert_eq!(
        (again.code, again.count("equal")),
        (0, 42),
        "{}",
        again.said
    );
    assert_eq!(all.proxy.seen_in_all() - before, 1);
    // A file that changes here after the plan is kept.
    fs::write(back.join("d1/1"), "other").unwrap();
    fs::write(back.join("stray"), "x").unwrap();
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("GetObject", Fault::Pass).always(),
    );
    std::thread::scope(|scope| {
        let running = scope.spawn(|| export(&["--delete"]));
        held.wait_for(1);
        fs::write(back.join("d1/1"), "newer").unwrap();
        held.open();
        let ended = running.join().unwrap();
        assert_eq!(ended.code, 3, "{}", ended.said);
        assert_eq!(ended.line("d1/1")["symbol"], "!");
    });
    assert_eq!(fs::read(back.join("d1/1")).unwrap(), b"newer");
    assert!(back.join("stray").exists());
    all.proxy.heal();
    let last = export(&["--delete"]);
    assert_eq!((last.code, last.count("deleted")), (0, 1), "{}", last.said);
    assert!(!back.join("stray").exists());
    assert_eq!(names(&back.join("d1")).len(), 13);
}

/// The two kinds of holes that rclone had: keys that climb out of the directory
/// (CVE-2026-54572), and symlinks that a bucket has planted before a key below them
/// (CVE-2026-71313).
#[test]
fn no_key_leads_out_of_the_directory_and_no_symlink_of_the_bucket_or_of_the_directory() {
    let all = Migration::on(Server::moto()).option("--attributes=stored");
    let outside = all.scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let up = outside.to_str().unwrap().trim_start_matches('/').to_owned();
    for path in [
        "../outside/a",
        "d/../../outside/a",
        &format!("/{up}/a"),
        "d//a",
        "d/./a",
        "..",
        "linked/a",
        "linked-file",
    ] {
        all.object(path, "planted");
    }
    let plant = |path: &str, target: &str| {
        let key = format!("media/{path}");
        let mode = [("mode", "41471")];
        let client = &all.client;
        client.put_with(&all.bucket, &key, target.as_bytes(), None, &mode);
    };
    plant("to-outside", outside.to_str().unwrap());
    plant("planted", "../outside");
    all.object("planted/a", "planted");
    all.object("good/a", "good");
    plant("good/inside", "a");
    symlink(&outside, all.tree.join("linked")).unwrap();
    symlink(outside.join("new"), all.tree.join("linked-file")).unwrap();
    for symlinks in ["refuse", "skip", "inside"] {
        let args = ["--yes", "--symlinks", symlinks];
        let ended = all.run("export", &args);
        assert!([3, 4].contains(&ended.code), "{}", ended.said);
        assert_eq!(names(&outside), [""; 0], "{symlinks}");
        assert_eq!(fs::read(all.tree.join("good/a")).unwrap(), b"good");
        assert_eq!(ended.line("../outside/a")["odd"], "bad-name");
    }
    assert_eq!(
        fs::read_link(all.tree.join("good/inside")).unwrap(),
        Path::new("a")
    );
    // Who asks for it gets the symlink, and still nothing through it.
    all.run("export", &["--yes", "--symlinks", "follow"]);
    assert_eq!(fs::read_link(all.tree.join("to-outside")).unwrap(), outside);
    all.client.delete(&all.bucket, "media/planted/a");
    all.object("to-outside/a", "planted");
    all.run("export", &["--yes", "--symlinks", "follow"]);
    assert_eq!(names(&outside), [""; 0]);
    assert!(!all.scratch.path().join("a").exists());
}

#[test]
fn a_full_disk_and_a_kill_leave_no_half_file_and_the_next_run_goes_on() {
    let all = Migration::new();
    let disk = SmallDisk::new(all.scratch.path(), DiskKind::Tmpfs, 40 << 20);
    for number in 0..4 {
        all.object(&format!("f{number}"), pattern(9 * MIB, number));
    }
    let target = disk.path("target");
    let export = || {
        let args = ["--yes", "--json"];
        all.command_on("export", &target, &args)
    };
    fs::create_dir(&target).unwrap();
    disk.fill();
    let full = Ended::of(&mut export());
    assert_eq!(full.code, 4, "{}", full.said);
    assert_eq!(names(&target), [""; 0]);
    disk.free();
    let held = all.proxy.hold(
        Side::AfterServer,
        Rule::on("GetObject", Fault::Pass).after(3).always(),
    );
    let mut killed = export().spawn().unwrap();
    held.wait_for(3);
    killed.kill().unwrap();
    killed.wait().unwrap();
    held.open();
    all.proxy.heal();
    let is_left = |name: &String| name.starts_with(".mediafs-export-");
    let half = names(&target);
    assert!(half.iter().any(is_left));
    // One of those that were not fetched whole.
    let is_half = |number: &u64| !half.contains(&format!("f{number}"));
    let gone = (0..4).rev().find(is_half).unwrap();
    all.client.delete(&all.bucket, &format!("media/f{gone}"));
    let ended = Ended::of(&mut export());
    assert_eq!(ended.code, 0, "{}", ended.said);
    let left: Vec<u64> = (0..4).filter(|number| *number != gone).collect();
    let wanted: Vec<_> = left.iter().map(|number| format!("f{number}")).collect();
    assert_eq!(names(&target), wanted);
    for number in left {
        let bytes = fs::read(target.join(format!("f{number}"))).unwrap();
        assert!(bytes == pattern(9 * MIB, number));
    }
}

#[test]
fn bytes_that_are_damaged_on_their_way_are_fetched_again_or_not_at_all() {
    let all = Migration::new();
    all.object("small", "small");
    all.object("long", pattern(9 * MIB, 1));
    for fault in [
        Fault::FlipAnswer,
        Fault::CutAnswer,
        Fault::Reset,
        Fault::Answer(503, "SlowDown"),
    ] {
        all.proxy
            .rule(Rule::on("GetObject", fault).key("media/small").always());
        let args = ["--yes", "--request-timeout", "4s"];
        let ended = all.ends("export", &args, 4);
        assert_eq!(ended.line("small")["symbol"], "!", "{fault:?}");
        all.proxy.heal();
        assert!(!all.tree.join("small").exists());
        assert!(names(&all.tree).iter().all(|name| name == "long"));
        all.proxy.rule(Rule::on("GetObject", fault).times(1));
        all.ends("export", &["--yes"], 0);
        all.assert_equal();
        all.proxy.heal();
        fs::remove_file(all.tree.join("small")).unwrap();
        fs::remove_file(all.tree.join("long")).unwrap();
    }
}

#[test]
fn a_symlink_that_was_brought_is_equal_in_the_next_run_and_another_is_named() {
    let all = Migration::new().option("--attributes=stored");
    all.object("d/a", "x");
    let mode = [("mode", "41471")];
    let client = &all.client;
    client.put_with(&all.bucket, "media/d/link", b"a", None, &mode);
    let args = ["--yes", "--symlinks", "inside"];
    let first = all.ends("export", &args, 0);
    assert_eq!(first.count("fetched"), 2, "{}", first.said);
    let again = all.ends("export", &args, 0);
    assert_eq!(again.count("equal"), 2, "{}", again.said);
    assert_eq!(again.count("fetched"), 0);
    fs::remove_file(all.tree.join("d/link")).unwrap();
    symlink("b", all.tree.join("d/link")).unwrap();
    let other = all.ends("export", &args, 3);
    assert_eq!(other.line("d/link")["odd"], "symlink");
}

#[test]
fn a_directory_gets_what_is_stored_with_its_marker_and_is_private_all_the_while() {
    // The other server keeps no metadata of a marker.
    let all = Migration::on(Server::moto()).option("--attributes=stored");
    let marker = |path: &str, mode: &str, mtime: &str| {
        let metadata = [
            ("mode", mode),
            ("uid", "33"),
            ("gid", "33"),
            ("mtime", mtime),
        ];
        let key = format!("media/{path}");
        all.client.put_with(&all.bucket, &key, b"", None, &metadata);
    };
    marker("private/", "16832", "1000000");
    marker("private/in/", "16877", "2000000");
    all.object("private/in/f", "f");
    all.object("plain/f", "f");
    let held = all.proxy.hold(
        Side::BeforeServer,
        Rule::on("GetObject", Fault::Pass).always(),
    );
    let shown = |path: &str| {
        let found = fs::metadata(all.tree.join(path)).unwrap();
        (found.mode() & 0o7777, found.uid(), found.mtime())
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| all.ends("export", &["--yes"], 0));
        held.wait_for(2);
        assert_eq!(shown("private").0, 0o700);
        held.open();
        running.join().unwrap();
    });
    let is_as_stored = || {
        assert_eq!(shown("private"), (0o700, 33, 1_000_000));
        assert_eq!(shown("private/in"), (0o755, 33, 2_000_000));
    };
    is_as_stored();
    all.proxy.heal();
    // A file that comes changes the time of its directory, which is set again.
    all.object("private/in/g", "g");
    all.ends("export", &["--yes"], 0);
    is_as_stored();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(all.tree.join("private"), mode).unwrap();
    all.ends("export", &["--yes"], 0);
    is_as_stored();
}

#[test]
fn a_fifo_of_the_bucket_is_refused_by_its_policy() {
    let all = Migration::new().option("--attributes=stored");
    all.object("f", "f");
    let mode = [("mode", "4516")];
    let client = &all.client;
    client.put_with(&all.bucket, "media/fifo", b"", None, &mode);
    let told = all.ends("export", &["--yes"], 3);
    assert_eq!(told.line("fifo")["odd"], "special", "{}", told.said);
    all.ends("export", &["--yes", "--special", "skip"], 0);
    assert!(!all.tree.join("fifo").exists());
}
