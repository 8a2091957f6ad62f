//! `mediafs import` and `export` where a file became a directory, or a directory a file.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::migration::Ended;
use crate::support::proxy::{Fault, Rule};
use crate::support::{Migration, Server};

#[test]
fn an_export_removes_what_is_in_the_way_only_to_have_all_else_in_its_place() {
    let all = Migration::new();
    for path in ["a", "d/x", "d/y/z", "stays"] {
        all.object(path, path);
    }
    all.ends("export", &["--yes"], 0);
    for path in ["a", "d/x", "d/y/z"] {
        all.client.delete(&all.bucket, &format!("media/{path}"));
    }
    for path in ["a/b", "a/c", "d", "new"] {
        all.object(path, path);
    }
    // Nothing is removed that nobody asked for, and another run would not help.
    let told = all.ends("export", &["--yes"], 3);
    for path in ["a/b", "a/c", "d"] {
        assert_eq!(told.line(path)["odd"], "beside-directory", "{}", told.said);
    }
    assert!(told.said.contains("--delete removes"), "{}", told.said);
    assert!(all.tree.join("new").exists() && all.tree.join("d/y/z").exists());
    all.ends("export", &["--yes", "--beside", "skip"], 0);
    let delete = ["--yes", "--delete", "--force"];
    let dry = all.ends("export", &["--dry-run", "--delete", "--force"], 3);
    assert_eq!(
        dry.differences(),
        [
            "+ a", "+ d/", "+ d/x", "+ d/y/", "+ d/y/z", "- a/b", "- a/c", "- d"
        ]
    );
    // Another one cannot be fetched.
    all.object("late", "late");
    let refused = Fault::Answer(403, "AccessDenied");
    let rule = || Rule::on("GetObject", refused).key("media/late").always();
    all.proxy.rule(rule());
    let kept = all.ends("export", &delete, 4);
    assert_eq!(kept.count("deleted"), 0, "{}", kept.said);
    assert_eq!(fs::read(all.tree.join("a")).unwrap(), b"a");
    assert_eq!(fs::read(all.tree.join("d/x")).unwrap(), b"d/x");
    all.proxy.heal();
    let brought = all.ends("export", &delete, 0);
    assert_eq!(brought.count("deleted"), 3, "{}", brought.said);
    all.assert_equal();
}

#[test]
fn a_directory_of_which_something_stays_is_no_reason_to_run_again() {
    let all = Migration::new();
    all.object("d", "d");
    all.object("linked/f", "f");
    all.object("file/f", "f");
    all.object("stays", "s");
    all.file("d/kept.tmp", "k");
    all.file("file", "f");
    symlink("nowhere", all.tree.join("linked")).unwrap();
    let args = ["--yes", "--delete", "--force", "--exclude", "*.tmp"];
    let told = all.ends("export", &args, 3);
    assert_eq!(told.line("linked/f")["odd"], "symlink", "{}", told.said);
    assert!(all.tree.join("d/kept.tmp").exists());
    fs::remove_dir_all(all.tree.join("d")).unwrap();
    all.ends("export", &[&args[..], &["--symlinks", "skip"]].concat(), 0);
    assert_eq!(fs::read(all.tree.join("file/f")).unwrap(), b"f");
    assert_eq!(fs::read(all.tree.join("d")).unwrap(), b"d");
}

#[test]
fn an_import_removes_what_is_in_the_way_on_every_store() {
    for server in [Server::shared(), Server::moto()] {
        let all = Migration::on(server);
        for path in ["a/b", "a/c", "d", "stays"] {
            all.object(path, path);
        }
        for path in ["a", "d/x", "stays"] {
            all.file(path, path);
        }
        let told = all.ends("import", &["--yes"], 3);
        assert_eq!(told.line("a")["odd"], "beside-directory", "{}", told.said);
        all.ends("import", &["--yes", "--beside", "skip"], 0);
        let ended = all.ends("import", &["--yes", "--delete", "--force"], 0);
        assert_eq!(ended.count("deleted"), 3, "{}", ended.said);
        all.assert_equal();
        let again = all.ends("import", &["--yes", "--delete"], 0);
        assert_eq!(again.count("equal"), 3, "{}", again.said);
    }
}

#[test]
fn what_a_store_refuses_for_good_is_no_reason_to_run_again() {
    let all = Migration::new();
    for path in ["refused", "taken"] {
        all.file(path, path);
    }
    all.object("stray", "s");
    let refused = Fault::Answer(400, "InvalidObjectName");
    let rule = Rule::on("PutObject", refused).key("media/refused").always();
    all.proxy.rule(rule);
    let args = ["--yes", "--delete", "--force"];
    let ended = all.ends("import", &args, 3);
    assert_eq!(ended.line("refused")["symbol"], "!", "{}", ended.said);
    // A transfer failed.
    assert_eq!(ended.count("deleted"), 0);
    let mut paths = all.paths();
    paths.sort();
    assert_eq!(paths, ["stray", "taken"]);
    // The same of a move.
    let rule = |op| Rule::on(op, refused).key("moved/taken").always();
    all.proxy.rule(rule("CopyObject"));
    all.proxy.rule(rule("PutObject"));
    let target = format!("{}/moved", all.bucket);
    let moved = Ended::of(&mut all.move_to(&target, &["--yes", "--json"]));
    assert_eq!(moved.code, 3, "{}", moved.said);
    assert_eq!(moved.line("taken")["symbol"], "!");
    assert!(all.client.get(&all.bucket, "moved/stray").is_some());
}
