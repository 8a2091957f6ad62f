//! An old directory below the bucket, until all of it is in the bucket.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::control::{done, listening, status};
use crate::support::data::MIB;
use crate::support::programs::{happens_within, said};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, MountBuilder, Server, SupervisedMount, pattern, wait_until};

const WITHIN: Duration = Duration::from_secs(90);

pub type Tree = BTreeMap<String, Vec<u8>>;

/// Files by their paths; empty directories end in `/`.
pub fn tree(root: &Path) -> Tree {
    fn enter(root: &Path, above: &str, found: &mut Tree) {
        let mut is_empty = true;
        for entry in fs::read_dir(root.join(above)).unwrap() {
            let entry = entry.unwrap();
            is_empty = false;
            let path = format!("{above}{}", entry.file_name().into_string().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => enter(root, &format!("{path}/"), found),
                false => drop(found.insert(path.clone(), fs::read(root.join(&path)).unwrap())),
            }
        }
        if is_empty && !above.is_empty() {
            found.insert(above.to_owned(), Vec::new());
        }
    }
    let mut found = Tree::new();
    enter(root, "", &mut found);
    found
}

pub fn write(root: &Path, path: &str, body: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, body).unwrap();
}

/// What an application left.
fn old_files(root: &Path) -> Tree {
    for (path, body) in [
        ("a", "old a"),
        ("a.txt", "old text"),
        ("both", "old, and hidden by the bucket's"),
        ("d/x", "old x"),
        ("d/e/y", "old y"),
        ("d/e/z", "old z"),
        ("gone/1", "1"),
        ("gone/2", "2"),
    ] {
        write(root, path, body);
    }
    fs::create_dir_all(root.join("empty/inside")).unwrap();
    tree(root)
}

/// Beside the mountpoint, so that it can be looked at.
pub fn old_directory(plan: &MountBuilder) -> PathBuf {
    let old = plan.scratch().join("old");
    fs::create_dir(&old).unwrap();
    old
}

fn over(plan: MountBuilder, old: &Path) -> MountBuilder {
    plan.arg("--overlay").arg(old)
}

/// Behind a proxy that lets no import through until it is healed.
fn held_import() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &proxy.endpoint);
    (plan, proxy)
}

pub fn of_overlay(mount: &Mount) -> Value {
    listening(mount);
    status(mount)["overlay"].clone()
}

#[track_caller]
pub fn wait_for_the_end(mount: &Mount) {
    let mut last = Value::Null;
    let ended = happens_within(WITHIN, || {
        last = of_overlay(mount);
        last["ended"] == true
    });
    assert!(ended, "{last}\n{}", mount.log());
}

/// What another client finds: files, and markers of directories that have none.
pub fn objects(mount: &Mount) -> Tree {
    let keys = mount.keys().into_iter();
    keys.map(|key| (key.clone(), mount.object(&key).unwrap()))
        .collect()
}

#[test]
fn one_tree_shows_the_bucket_and_what_the_old_directory_alone_has() {
    let plan = Mount::builder().arg("--read-only").prefix("media");
    let mut model = old_files(&plan.root);
    for (path, body) in [("both", "new"), ("d/new", "n"), ("f/g", "g")] {
        plan.client
            .put(&plan.bucket, &format!("media/{path}"), body.as_bytes());
        model.insert(path.to_owned(), body.into());
    }
    let root = plan.root.clone();
    let mount = over(plan, &root).start();
    assert_eq!(tree(&mount.root), model);
    let names: Vec<_> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 7, "each name once: {names:?}");
    let modified = fs::metadata(mount.path("a")).unwrap().modified().unwrap();
    assert!(modified.elapsed().unwrap() < WITHIN);
    // Names that are asked for without a listing.
    let fresh = ["d/e/z", "gone/2", "empty/inside"];
    for path in fresh {
        assert!(mount.path(path).exists(), "{path}");
    }
    assert!(!mount.path("d/e/none").exists());
    assert_eq!(
        mount.keys().len(),
        3,
        "nothing is sent by a mount that is read-only"
    );
}

#[test]
fn a_directory_of_more_names_than_a_page_is_listed_whole() {
    let plan = Mount::builder().arg("--read-only");
    let root = plan.root.clone();
    let mut want = Vec::new();
    for number in 0..2500 {
        let name = format!("d/{number:04}");
        match number % 5 {
            0 => plan.client.put(&plan.bucket, &name, b"above"),
            _ => write(&root, &name, "below"),
        }
        want.push(name);
    }
    write(&root, "d/0000", "hidden");
    for name in ["d/sub/1", "d/0500-dir/x"] {
        write(&root, name, "y");
        want.push(name.to_owned());
    }
    let mount = over(plan, &root).start();
    let found = tree(&mount.root);
    want.sort();
    assert_eq!(found.keys().cloned().collect::<Vec<_>>(), want);
    assert_eq!(found["d/0000"], b"above");
}

#[test]
fn a_write_copies_up_and_leaves_the_old_file_as_it_is() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let before = old_files(&old);
    let mount = over(plan, &old).start();
    // An edit of a few bytes, an append, a new whole, a shorter one.
    let edited = File::options().write(true).open(mount.path("d/x")).unwrap();
    edited.write_all_at(b"NEW", 0).unwrap();
    drop(edited);
    let mut appended = File::options()
        .append(true)
        .open(mount.path("d/e/y"))
        .unwrap();
    appended.write_all(b" and more").unwrap();
    drop(appended);
    fs::write(mount.path("a"), "whole").unwrap();
    let cut = File::options()
        .write(true)
        .open(mount.path("a.txt"))
        .unwrap();
    cut.set_len(3).unwrap();
    drop(cut);
    let changed = [
        ("d/x", "NEW x"),
        ("d/e/y", "old y and more"),
        ("a", "whole"),
        ("a.txt", "old"),
    ];
    for (path, want) in changed {
        assert_eq!(fs::read_to_string(mount.path(path)).unwrap(), want);
        assert_eq!(mount.object(path).unwrap(), want.as_bytes(), "{path}");
    }
    assert_eq!(tree(&old), before, "the old directory is never changed");
    wait_for_the_end(&mount);
    let mut model = before;
    model.extend(changed.map(|(path, body)| (path.to_owned(), body.into())));
    assert_eq!(tree(&mount.root), model);
    drop(proxy);
}

#[test]
fn what_is_removed_or_renamed_is_hidden_through_a_kill_and_never_sent() {
    for durability in crate::support::DURABILITIES {
        let (plan, proxy) = held_import();
        let old = old_directory(&plan);
        let before = old_files(&old);
        let mut mount = over(plan.durability(durability), &old).start();
        proxy.rule(
            Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
                .key("d/e/*")
                .always(),
        );
        fs::remove_file(mount.path("a")).unwrap();
        fs::rename(mount.path("a.txt"), mount.path("d/b.txt")).unwrap();
        fs::rename(mount.path("gone"), mount.path("moved")).unwrap();
        fs::remove_file(mount.path("both")).unwrap();
        fs::write(mount.path("both"), "again").unwrap();
        fs::remove_dir_all(mount.path("empty")).unwrap();
        let mut model = before.clone();
        model.remove("a");
        model.remove("empty/inside/");
        let renamed = [
            ("a.txt", "d/b.txt"),
            ("gone/1", "moved/1"),
            ("gone/2", "moved/2"),
        ];
        for (from, to) in renamed {
            let body = model.remove(from).unwrap();
            model.insert(to.to_owned(), body);
        }
        model.insert("both".to_owned(), b"again".into());
        assert_eq!(tree(&mount.root), model, "{durability}");
        mount.kill9();
        mount.remount();
        assert_eq!(tree(&mount.root), model, "{durability} after a kill");
        proxy.heal();
        wait_for_the_end(&mount);
        assert_eq!(tree(&mount.root), model, "{durability} after the end");
        assert_eq!(tree(&old), before, "the old directory is never changed");
        mount.wait_for_keys("the bucket", |keys| keys.len() == model.len());
        assert_eq!(objects(&mount), model);
    }
}

#[test]
fn the_import_ends_and_a_mount_without_the_overlay_shows_the_same_tree() {
    let plan = Mount::builder().args(["--part-size", "5MiB"]);
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let long = pattern(12 * MIB, 3);
    write(&old, "long.bin", &long);
    write(&old, "page.html", "<p>");
    model.insert("long.bin".to_owned(), long);
    model.insert("page.html".to_owned(), b"<p>".into());
    let mut mount = over(plan, &old).start();
    wait_for_the_end(&mount);
    assert!(
        mount
            .log()
            .contains("the old directory is not needed any more")
    );
    let shown = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(
        shown.contains("is not needed any more: every object was verified"),
        "{shown}"
    );
    assert_eq!(objects(&mount), model);
    let head = mount.client().head(mount.bucket(), "page.html").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("text/html"));
    fs::rename(&old, old.with_extension("away")).unwrap();
    assert_eq!(tree(&mount.root), model);
    // With the option: it does nothing any more.
    mount.unmount();
    mount.remount();
    assert_eq!(tree(&mount.root), model);
    assert!(of_overlay(&mount).is_null());
    assert!(mount.client().unfinished_uploads(mount.bucket()).is_empty());
}

#[test]
fn an_import_overwrites_nothing_that_was_put_meanwhile() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let gate = proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("d/*").always(),
    );
    let mount = over(plan, &old).start();
    gate.wait_for(1);
    mount.put_object("d/x", b"another client's");
    mount.put_object("d/e/y", b"this one's too");
    gate.open();
    proxy.heal();
    wait_for_the_end(&mount);
    model.insert("d/x".to_owned(), b"another client's".into());
    model.insert("d/e/y".to_owned(), b"this one's too".into());
    assert_eq!(objects(&mount), model);
    wait_until(WITHIN, "the other client's version", || {
        tree(&mount.root) == model
    });
}

#[test]
fn a_removal_while_the_file_is_on_its_way_leaves_nothing_in_the_bucket() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    write(&old, "d/f", "on its way");
    write(&old, "kept", "kept");
    let gate = proxy.hold(
        Side::BeforeServer,
        Rule::on("PutObject", Fault::Pass).key("d/f"),
    );
    let mount = over(plan, &old).start();
    gate.wait_for(1);
    let path = mount.path("d/f");
    let removal = std::thread::spawn(move || fs::remove_file(path));
    gate.open();
    removal.join().unwrap().unwrap();
    assert!(!mount.path("d/f").exists());
    wait_for_the_end(&mount);
    assert!(mount.object("d/f").is_none());
    assert_eq!(mount.object("kept").unwrap(), b"kept");
}

#[test]
fn an_open_old_file_is_read_to_its_end_whatever_becomes_of_its_name() {
    let plan = Mount::builder();
    let old = old_directory(&plan);
    let body = pattern(3 * MIB, 5);
    for name in ["removed", "renamed", "replaced", "imported"] {
        write(&old, name, &body);
    }
    let mount = over(plan, &old).start();
    let mut open: Vec<File> = ["removed", "renamed", "replaced", "imported"]
        .map(|name| File::open(mount.path(name)).unwrap())
        .into();
    fs::remove_file(mount.path("removed")).unwrap();
    fs::rename(mount.path("renamed"), mount.path("other")).unwrap();
    write(&mount.root, "new", "new");
    fs::rename(mount.path("new"), mount.path("replaced")).unwrap();
    wait_for_the_end(&mount);
    for file in &mut open {
        let mut found = Vec::new();
        file.seek(SeekFrom::Start(1)).unwrap();
        file.read_to_end(&mut found).unwrap();
        assert!(found == body[1..], "other bytes");
    }
    assert_eq!(fs::read(mount.path("replaced")).unwrap(), b"new");
    assert!(fs::read(mount.path("other")).unwrap() == body);
}

#[test]
fn who_still_writes_to_the_old_directory_is_noticed_and_told() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    old_files(&old);
    symlink("a", old.join("link")).unwrap();
    // One file keeps the overlay from ending meanwhile.
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("a.txt")
            .always(),
    );
    let mount = over(plan, &old).start();
    wait_until(WITHIN, "a walk", || of_overlay(&mount)["counted"] == true);
    wait_until(WITHIN, "an object", || mount.object("d/x").is_some());
    write(&old, "d/late", "late");
    wait_until(WITHIN, "the kernel's word", || {
        of_overlay(&mount)["outside_names"]
            .to_string()
            .contains("d/late")
    });
    assert!(
        mount
            .log()
            .contains("somebody still changes the old directory")
    );
    wait_until(WITHIN, "the new file", || mount.path("d/late").exists());
    write(&old, "d/x", "changed after it was sent");
    proxy.heal();
    wait_until(WITHIN, "the walk's word", || {
        of_overlay(&mount)["changed"] == 1
    });
    let told = of_overlay(&mount);
    assert_eq!(told["changed_names"][0], "d/x", "{told}");
    assert_eq!(told["odd_names"][0], "link", "{told}");
    assert_eq!(told["ended"], false);
    let shown = done(&mount, &["status", mount.root.to_str().unwrap()]);
    assert!(
        shown.contains("changed there after it was sent: d/x"),
        "{shown}"
    );
    wait_until(WITHIN, "the new file's object", || {
        mount.object("d/late").is_some()
    });
}

#[test]
fn a_successor_goes_on_with_a_directory_that_the_mount_covers() {
    let (plan, proxy) = held_import();
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("d/*")
            .always(),
    );
    let mut model = old_files(&plan.root);
    let root = plan.root.clone();
    let mount = SupervisedMount::start(over(plan, &root));
    let mut open = File::open(mount.path("d/x")).unwrap();
    fs::remove_file(mount.path("a")).unwrap();
    model.remove("a");
    mount.kill_daemon();
    assert_eq!(tree(&mount.root), model);
    let mut found = String::new();
    open.read_to_string(&mut found).unwrap();
    assert_eq!(found, "old x");
    drop(open);
    proxy.heal();
    fs::write(mount.path("d/x"), "new x").unwrap();
    model.insert("d/x".to_owned(), b"new x".into());
    mount.kill_daemon();
    wait_for_the_end(&mount);
    assert_eq!(tree(&mount.root), model);
    mount.kill_daemon();
    assert_eq!(tree(&mount.root), model);
    assert_eq!(objects(&mount), model);
    mount.unmount();
    assert_eq!(fs::read(root.join("a")).unwrap(), b"old a");
}

#[test]
fn s3_may_be_away_for_a_while() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    let mut model = old_files(&old);
    let plan = plan.durability("disk").args(["--request-timeout", "3s"]);
    let mount = over(plan, &old).start();
    assert_eq!(tree(&mount.root), model);
    proxy.rule(Rule::on("*", Fault::Answer(503, "SlowDown")).always());
    assert_eq!(fs::read(mount.path("d/x")).unwrap(), b"old x");
    fs::write(mount.path("d/x"), "written meanwhile").unwrap();
    fs::remove_file(mount.path("d/e/y")).unwrap();
    model.insert("d/x".to_owned(), b"written meanwhile".into());
    model.remove("d/e/y");
    assert_eq!(fs::read(mount.path("d/x")).unwrap(), b"written meanwhile");
    assert!(!mount.path("d/e/y").exists());
    proxy.heal();
    wait_for_the_end(&mount);
    assert_eq!(tree(&mount.root), model);
    mount.wait_for_keys("the bucket", |keys| keys.len() == model.len());
    assert_eq!(objects(&mount), model);
}

#[test]
fn an_overlay_that_has_not_ended_is_not_left_out_by_mistake() {
    let (plan, proxy) = held_import();
    let old = old_directory(&plan);
    old_files(&old);
    proxy.rule(
        Rule::on("PutObject", Fault::Answer(503, "SlowDown"))
            .key("d/*")
            .always(),
    );
    let mut mount = over(plan, &old).start();
    mount.unmount();
    let other = mount.scratch().join("other");
    fs::create_dir(&other).unwrap();
    mount.change_arg("--overlay", &other);
    let refused = mount.run_again();
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("mount with --overlay"),
        "{}",
        said(&refused)
    );
    mount.change_arg("--overlay", &old);
    proxy.heal();
    mount.remount();
    wait_for_the_end(&mount);
}
