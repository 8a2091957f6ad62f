//! `mediafs import`, `verify`, `export` and `move` on a real server.

mod directories;
mod export;
mod faults;
mod in_the_way;
mod materialize;
mod moves;
mod names;
mod replaced;
mod reports;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use crate::support::data::MIB;
use crate::support::migration::Ended;
use crate::support::programs::{has_all, said};
use crate::support::{Migration, Mount, pattern};

#[test]
fn a_tree_is_sent_once_and_compared_by_its_listing_alone() {
    let all = Migration::new();
    // Another program has sent most of it.
    let sent = (0..1_050).map(|number| {
        let (path, text) = (format!("d{}/{number}.png", number % 7), format!("{number}"));
        all.file(&path, &text);
        (format!("media/{path}"), text.into_bytes())
    });
    let sent: Vec<_> = sent.skip(10).collect();
    all.client.put_many(&all.bucket, sent);
    all.file("long", pattern(17 * MIB, 1));
    all.file("empty", "");
    fs::create_dir(all.tree.join("nothing")).unwrap();
    let first = all.ends("import", &["--yes"], 0);
    assert_eq!(first.count("sent"), 13, "{}", first.said);
    // One more tells whether the store heeds conditions.
    assert_eq!(all.proxy.seen("PutObject"), 12 + 1);
    assert!(all.stored("nothing/").is_some());
    let head = all.client.head(&all.bucket, "media/d0/0.png").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    // What no run remembers is proved by ETags; what a run remembers is not even read.
    for (command, proof) in [("verify", "md5"), ("import", "checkpoint")] {
        let before = all.proxy.seen_in_all();
        let lists = all.proxy.seen("ListObjectsV2");
        let again = all.ends(command, &[], 0);
        assert_eq!(again.count("equal"), 1_052, "{}", again.said);
        assert_eq!(all.proxy.seen("ListObjectsV2") - lists, 2);
        assert_eq!(all.proxy.seen_in_all() - before, 2, "{}", again.summary);
        assert_eq!(again.line("d1/1.png")["proof"], proof);
        assert_eq!(again.count("sent"), 0);
    }
    fs::remove_dir(all.tree.join("nothing")).unwrap();
    all.client.delete(&all.bucket, "media/nothing/");
    all.assert_equal();
}

#[test]
fn differences_are_named_by_symbols_and_a_digest_is_of_all_lines() {
    let all = Migration::new();
    for (path, here, there) in [
        ("same", Some("x"), Some("x")),
        ("bytes", Some("x"), Some("y")),
        ("length", Some("x"), Some("yy")),
        ("here", Some("x"), None),
        ("a/there", None, Some("y")),
        ("skipped.tmp", Some("x"), None),
        ("cache/skipped", None, Some("y")),
    ] {
        here.inspect(|here| drop(all.file(path, here)));
        there.inspect(|there| all.object(path, there));
    }
    let without = ["--exclude", "*.tmp", "--exclude", "cache/"];
    let told = all.ends("verify", &without, 3);
    assert_eq!(
        told.differences(),
        ["* bytes", "* length", "+ here", "- a/there"]
    );
    let one_way = all.ends("verify", &[&without[..], &["--one-way"]].concat(), 3);
    assert_eq!(one_way.differences(), ["* bytes", "* length", "+ here"]);
    let some = all.ends("verify", &["--include", "same"], 0);
    assert_eq!(some.count("equal"), 1);
    // Only bytes tell these two apart, and they are read where the times are not the same.
    let fast = ["--fast", "--include", "bytes"];
    let told = all.ends("verify", &fast, 3);
    assert_eq!(told.differences(), ["* bytes"]);
    let stored = all.client.head(&all.bucket, "media/bytes").unwrap();
    let stored = u64::try_from(stored.last_modified).unwrap();
    let stored = std::time::UNIX_EPOCH + std::time::Duration::from_secs(stored);
    let file = fs::File::options().write(true).open(all.tree.join("bytes"));
    file.unwrap().set_modified(stored).unwrap();
    let told = all.ends("verify", &fast, 0);
    assert_eq!(told.line("bytes")["proof"], "size-and-time");
    let report = all.scratch.path().join("report");
    let args = ["--report", report.to_str().unwrap()];
    let output = all.command("verify", &args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\n+ here\n") && text.contains("digest"),
        "{text}"
    );
    let written = fs::read_to_string(report).unwrap();
    let (lines, summary) = written.trim_end().rsplit_once('\n').unwrap();
    let digest = crate::support::sha256(format!("{lines}\n").as_bytes());
    assert!(summary.contains(&digest), "{summary}");
}

#[test]
fn a_bucket_is_compared_with_a_manifest_without_the_files() {
    let all = Migration::new();
    let manifest = all.scratch.path().join("manifest");
    let manifest = manifest.to_str().unwrap();
    let verify = |args: &[&str]| Ended::of(all.verify_manifest(manifest, args).arg("--json"));
    // Nothing that is compared with nothing proves nothing.
    let empty = ["--yes", "--allow-empty", "--manifest", manifest];
    all.ends("import", &empty, 0);
    assert_eq!(verify(&[]).code, 5);
    assert_eq!(verify(&["--allow-empty"]).code, 0);
    for path in ["a", "d/b", "d-c"] {
        all.file(path, path);
    }
    all.file("long", pattern(9 * MIB, 1));
    all.ends("import", &["--yes", "--manifest", manifest], 0);
    fs::remove_dir_all(&all.tree).unwrap();
    let same = verify(&[]);
    assert_eq!((same.code, same.count("equal")), (0, 4), "{}", same.said);
    all.object("d/b", "x/b");
    all.object("more", "x");
    all.client.delete(&all.bucket, "media/a");
    let told = verify(&[]);
    assert_eq!(told.code, 3);
    assert_eq!(told.differences(), ["* d/b", "+ a", "- more"]);
    // One that is cut off behind a line.
    let text = fs::read_to_string(manifest).unwrap();
    let end = text.trim_end().rfind('\n').unwrap();
    fs::write(manifest, &text[..=end]).unwrap();
    let cut = verify(&[]);
    assert_eq!(cut.code, 1);
    assert!(cut.said.contains("cut off"), "{}", cut.said);
    fs::write(manifest, "{}\n").unwrap();
    assert_eq!(verify(&[]).code, 1);
}

#[test]
fn nothing_is_done_that_a_guard_refuses() {
    let fstab = tempfile::NamedTempFile::new().unwrap();
    let all = Migration::new().env("LIBMOUNT_FSTAB", fstab.path());
    all.ends("verify", &[], 5);
    all.ends("verify", &["--allow-empty"], 0);
    all.ends("import", &["--yes"], 5);
    all.file("a", "a");
    // There is no terminal to ask at.
    let asked = all.ends("import", &[], 5);
    assert!(asked.said.contains("--yes"), "{}", asked.said);
    let dry = all.ends("import", &["--dry-run"], 3);
    assert_eq!(dry.differences(), ["+ a"]);
    assert_eq!(all.paths(), Vec::<String>::new());
    fs::write(&fstab, format!("UUID=1 {} ext4\n", all.tree.display())).unwrap();
    let unmounted = all.ends("import", &["--yes"], 5);
    assert!(unmounted.said.contains("not mounted"), "{}", unmounted.said);
    fs::write(&fstab, "").unwrap();
    for path in ["b", "c", "d"] {
        all.object(path, path);
    }
    let much = all.ends("import", &["--yes", "--delete"], 5);
    assert!(much.said.contains("--force"), "{}", much.said);
    assert_eq!(all.paths(), ["b", "c", "d"]);
    for wrong in [["--nonsense", ""], ["--include", "["], ["--ttl", "x"]] {
        all.ends("import", &wrong, 2);
    }
    for option in ["--report", "--manifest"] {
        let inside = all.tree.join("inside/x");
        let refused = all.ends("import", &["--yes", option, inside.to_str().unwrap()], 5);
        assert!(refused.said.contains("lies in"), "{}", refused.said);
    }
    assert!(!all.tree.join("inside").exists());
    let nowhere = all.scratch.path().join("nowhere");
    let mut command = all.command_on("import", &nowhere, &["--yes"]);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
    all.ends("import", &["--yes", "--delete", "--force"], 0);
    all.assert_equal();
}

#[test]
fn a_word_that_is_no_mounts_name_and_no_bucket_is_told_to_be_neither() {
    let all = Migration::new();
    all.file("a", "a");
    let word = format!("{}-mistyped", all.bucket);
    for name in ["import", "verify", "export"] {
        let output = all.command_between(name, &all.tree, &word, &[]).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let file = format!("/etc/mediafs/{word}.toml");
        has_all(&said(&output), &["no mount", &file, "no bucket"]);
    }
}

#[test]
fn what_cannot_be_an_object_is_named_by_a_policy_and_the_rest_is_sent() {
    let all = Migration::new();
    all.file("plain", "x");
    all.file("hard", "h");
    fs::hard_link(all.tree.join("hard"), all.tree.join("link")).unwrap();
    let outside = all.scratch.path().join("outside");
    fs::write(&outside, "o").unwrap();
    symlink("plain", all.tree.join("inside")).unwrap();
    symlink(&outside, all.tree.join("out")).unwrap();
    symlink("nowhere", all.tree.join("dangling")).unwrap();
    symlink("loop", all.tree.join("loop")).unwrap();
    let _socket = UnixListener::bind(all.tree.join("socket")).unwrap();
    let fifo = all.tree.join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    let not_utf8: &std::ffi::OsStr = bytes;
    fs::write(all.tree.join(not_utf8), "x").unwrap();
    let deep = "d/".repeat(520);
    let folder = all.tree.join(&deep);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("too-long"), "x").unwrap();
    all.file("both", "x");
    all.object("both/below", "y");
    let told = all.ends("import", &["--yes"], 3);
    let odd = &told.summary["odd"];
    assert_eq!(odd["symlink"], 4, "{}", told.said);
    assert_eq!(odd["special"], 2);
    assert_eq!(odd["bad-name"], 2);
    assert_eq!(odd["beside-directory"], 1);
    assert_eq!(told.line("socket")["symbol"], "!");
    let mut sent: Vec<_> = all.paths();
    sent.sort();
    assert_eq!(sent, ["both/below", "hard", "link", "plain"]);
    fs::remove_file(all.tree.join("both")).unwrap();
    all.file("both/below", "y");
    let skip = [
        "--symlinks",
        "skip",
        "--special",
        "skip",
        "--bad-names",
        "skip",
    ];
    let skipped = all.ends("import", &[&["--yes"], &skip[..]].concat(), 0);
    assert_eq!(skipped.summary["odd"]["symlink"], 4, "{}", skipped.said);
    let odd = ["--special", "skip", "--bad-names", "skip"];
    let inside = [&["--yes", "--symlinks", "inside"], &odd[..]].concat();
    let followed = all.ends("import", &inside, 3);
    assert_eq!(followed.count("sent"), 1, "{}", followed.said);
    assert_eq!(all.stored("inside").unwrap(), b"x");
    assert!(all.stored("out").is_none());
    let all_of_them = [&["--yes", "--symlinks", "follow"], &odd[..]].concat();
    all.ends("import", &all_of_them, 3);
    assert_eq!(all.stored("out").unwrap(), b"o");
}

#[test]
fn files_that_a_mount_hides_are_sent_and_replace_nothing_that_is_stored() {
    let all = Migration::new();
    let plan = Mount::builder().arg("--allow-non-empty").prefix("media");
    fs::create_dir(plan.root.join("d")).unwrap();
    fs::create_dir(plan.root.join("file")).unwrap();
    for (path, text) in [
        ("d/stray", "stray"),
        ("both", "hidden"),
        ("same", "same"),
        ("file/below", "it would hide the file"),
    ] {
        fs::write(plan.root.join(path), text).unwrap();
    }
    all.object("both", "stored");
    all.object("same", "same");
    all.object("file", "shown");
    let mount = plan.bucket(&all.bucket).start();
    let import = |args: &[&str]| {
        let mut command = all.command_on("import", &mount.root, &["--yes", "--json"]);
        Ended::of(command.args(args))
    };
    // Without it, the source is a mount of its own target.
    assert_eq!(import(&[]).code, 5);
    let sent = import(&["--hidden"]);
    assert_eq!(sent.code, 3, "{}", sent.said);
    let told = sent.differences();
    assert_eq!(told, ["! file/", "! file/below", "* both", "- file"]);
    assert_eq!(fs::read(mount.path("file")).unwrap(), b"shown");
    assert_eq!((sent.count("sent"), sent.count("equal")), (1, 2));
    assert_eq!(fs::read(mount.path("d/stray")).unwrap(), b"stray");
    assert_eq!(fs::read(mount.path("both")).unwrap(), b"stored");
}

#[test]
fn content_types_are_looked_at_where_asked_and_mended_by_one_copy_each() {
    let all = Migration::new();
    all.file("a.png", "x");
    all.file("b.png", "y");
    let put = |path: &str, body: &str, kind: &str| {
        let key = format!("media/{path}");
        let metadata = [("owner", "app")];
        let client = &all.client;
        client.put_with(&all.bucket, &key, body.as_bytes(), Some(kind), &metadata);
    };
    put("a.png", "x", "binary/octet-stream");
    put("b.png", "y", "image/png");
    all.ends("verify", &[], 0);
    let told = all.ends("verify", &["--content-types"], 3);
    assert_eq!(told.differences(), ["* a.png"]);
    let mended = all.ends("verify", &["--fix-content-type"], 0);
    assert_eq!(mended.count("mended"), 1);
    assert_eq!(all.proxy.seen("CopyObject"), 1);
    let head = all.client.head(&all.bucket, "media/a.png").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    assert_eq!(head.metadata["owner"], "app");
    all.ends("verify", &["--content-types"], 0);
}

#[test]
fn attributes_are_stored_in_the_names_of_s3fs_and_a_mount_shows_them() {
    let plan = Mount::builder()
        .args(["--attributes", "stored"])
        .prefix("media");
    let all = Migration::new().option("--attributes=stored");
    let path = all.file("d/f", "x");
    let times = fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 500_000_000));
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_times(times)
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(&path, mode).unwrap();
    std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    rustix::fs::setxattr(&path, "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    all.ends("import", &["--yes"], 0);
    let head = all.client.head(&all.bucket, "media/d/f").unwrap();
    assert_eq!(head.metadata["mode"], (0o100_640).to_string());
    assert_eq!(head.metadata["mtime"], "1000000.500000000");
    let mount = plan.bucket(&all.bucket).start();
    let shown = fs::metadata(mount.path("d/f")).unwrap();
    use std::os::unix::fs::MetadataExt;
    let owner = (shown.mode(), shown.uid(), shown.gid(), shown.mtime());
    assert_eq!(owner, (0o100_640, 1234, 4321, 1_000_000));
    let value = |path: &std::path::Path| {
        let mut value = [0; 8];
        let len = rustix::fs::getxattr(path, "user.k", &mut value[..]).unwrap();
        value[..len].to_vec()
    };
    assert_eq!(value(&mount.path("d/f")), b"v");
    all.ends("verify", &[], 0);
    // What has the same bytes and another mode is brought over as well.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&path, mode).unwrap();
    let told = all.ends("verify", &[], 3);
    assert!(
        told.said.contains("mode 0600 here, 0640 there"),
        "{}",
        told.said
    );
    let again = all.ends("import", &["--yes"], 0);
    assert_eq!(again.count("sent"), 1);
    all.ends("verify", &[], 0);
    let back = all.scratch.path().join("back");
    let export = || Ended::of(&mut all.command_on("export", &back, &["--yes", "--json"]));
    assert_eq!(export().code, 0);
    let made = back.join("d/f");
    let shown = fs::metadata(&made).unwrap();
    assert_eq!((shown.mode(), shown.uid()), (0o100_600, 1234));
    assert_eq!(value(&made), b"v");
    rustix::fs::removexattr(&made, "user.k").unwrap();
    let mended = export();
    assert_eq!(
        (mended.code, mended.count("fetched")),
        (0, 1),
        "{}",
        mended.said
    );
    assert_eq!(value(&made), b"v");
    // What is imported from its own mount would be itself.
    let own = Ended::of(&mut all.command_on("import", &mount.root, &["--yes", "--json"]));
    assert_eq!(own.code, 5, "{}", own.said);
}

#[test]
fn a_delete_takes_an_object_that_stands_in_the_place_of_a_directory() {
    let all = Migration::new();
    all.file("a/b", "b");
    all.file("c", "c");
    all.object("a", "a");
    all.object("a/b", "b");
    // A mount would show the directory alone: without --delete that is told.
    let told = all.ends("import", &["--yes"], 3);
    assert_eq!(told.line("a")["symbol"], "!");
    let deleted = all.ends("import", &["--yes", "--delete"], 0);
    assert_eq!(deleted.count("deleted"), 1, "{}", deleted.said);
    assert_eq!(deleted.line("a")["done"], "deleted");
    all.assert_equal();
}
