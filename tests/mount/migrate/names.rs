//! Names that are odd in one way or another, each counted and named by a policy.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::support::migration::Ended;
use crate::support::{Migration, Mount, Server};

#[test]
fn keys_with_the_name_of_an_unfinished_file_are_moved_as_any_other() {
    let all = Migration::new();
    let name = ".mediafs-export-0123456789abcdef";
    all.object(&format!("d/{name}"), "theirs");
    all.object(name, "theirs too");
    let told = all.ends("verify", &["--allow-empty"], 3);
    assert_eq!(told.differences().len(), 2, "{}", told.said);
    let ended = all.ends("export", &["--yes"], 0);
    assert_eq!(ended.count("fetched"), 2, "{}", ended.said);
    all.assert_equal();
    // A file of somebody is not taken for one that an export has left.
    let own = all.file(".mediafs-export-fedcba9876543210", "mine");
    all.ends("export", &["--yes"], 0);
    assert!(own.exists());
    let sent = all.ends("import", &["--yes"], 0);
    assert_eq!(sent.count("sent"), 1, "{}", sent.said);
    all.assert_equal();
    let target = format!("{}/moved", all.bucket);
    let moved = Ended::of(&mut all.move_to(&target, &["--yes", "--json"]));
    assert_eq!(
        (moved.code, moved.count("copied")),
        (0, 3),
        "{}",
        moved.said
    );
}

#[test]
fn what_an_export_has_left_is_named_and_the_next_export_removes_it() {
    let all = Migration::new();
    all.file("a", "a");
    let left = all.file("d/.mediafs-export-0123456789abcdef", "half");
    let mark = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&left, "user.mediafs.unfinished", b"1", mark).unwrap();
    let sent = all.ends("import", &["--yes"], 0);
    assert_eq!(sent.summary["odd"]["unfinished"], 1, "{}", sent.said);
    assert_eq!(all.paths(), ["a"]);
    assert!(left.exists());
    all.ends("export", &["--yes"], 0);
    assert!(!left.exists());
}

#[test]
fn names_of_one_file_are_counted_and_sent_each_or_as_a_policy_says() {
    let all = Migration::new();
    all.file("plain", "p");
    all.file("hard", "h");
    fs::create_dir(all.tree.join("d")).unwrap();
    fs::hard_link(all.tree.join("hard"), all.tree.join("d/link")).unwrap();
    let refused = all.ends("import", &["--yes", "--hard-links", "refuse"], 3);
    assert_eq!(refused.line("d/link")["symbol"], "!", "{}", refused.said);
    assert_eq!(all.paths(), ["plain"]);
    all.ends("import", &["--yes", "--hard-links", "skip"], 0);
    assert_eq!(all.paths(), ["plain"]);
    let sent = all.ends("import", &["--yes"], 0);
    assert_eq!(sent.summary["odd"]["hard-link"], 2, "{}", sent.said);
    assert!(sent.said.contains("one of 2 names"), "{}", sent.said);
    all.assert_equal();
    let text = all.command("verify", &[]).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("2 names of files that have more"), "{text}");
}

#[test]
fn bytes_that_are_no_utf8_are_told_apart() {
    // The other server takes a backslash for a slash.
    let all = Migration::on(Server::moto());
    for name in [&b"x\xfe"[..], b"x\xff"] {
        let path = all.tree.join(std::ffi::OsStr::from_bytes(name));
        fs::write(path, "x").unwrap();
    }
    // The bytes of a key that looks the same are another name.
    all.object("x\\xfe", "x");
    let told = all.ends("verify", &[], 3);
    assert_eq!(
        told.differences(),
        ["! x\\xfe", "! x\\xff", "- x\\xfe"],
        "{}",
        told.said
    );
}

#[test]
fn a_key_that_is_no_name_has_one_line_and_lies_beside_nothing() {
    let all = Migration::on(Server::moto());
    for path in ["..", "../x", "good"] {
        all.object(path, path);
    }
    let skipped = all.ends("export", &["--yes", "--bad-names", "skip"], 0);
    let lines = skipped.lines.iter().filter(|line| line["path"] == "..");
    assert_eq!(lines.count(), 1, "{}", skipped.said);
}

#[test]
fn what_is_equal_by_size_and_time_alone_is_told() {
    let all = Migration::new();
    let path = all.file("a", "ours");
    all.file("new", "n");
    all.object("a", "thei");
    let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(past).unwrap();
    let output = all
        .command("import", &["--yes", "--fast"])
        .output()
        .unwrap();
    let (text, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(said.contains("--fast: the same size and time"), "{said}");
    assert!(said.contains("by size, time"), "{said}");
    assert!(text.contains("equal by size and time"), "{text}");
    let told = all.ends("import", &["--yes", "--fast"], 0);
    assert_eq!(told.count("by_size_and_time"), 1, "{}", told.said);
    let told = all.ends("verify", &[], 3);
    assert_eq!(told.count("by_size_and_time"), 0, "{}", told.said);
}

#[test]
fn a_mount_is_not_compared_with_its_own_bucket() {
    let all = Migration::new();
    all.object("a", "a");
    let mount = Mount::builder().prefix("media").bucket(&all.bucket).start();
    let verify = |tree: &Path| Ended::of(&mut all.command_on("verify", tree, &["--json"]));
    let refused = verify(&mount.root);
    assert_eq!(refused.code, 5, "{}", refused.said);
    assert!(refused.said.contains("same bucket"), "{}", refused.said);
}
