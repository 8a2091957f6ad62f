//! What an application does with old files, and what of it is in the bucket.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::{WITHIN, held_import, old_directory, old_files, over, tree, wait_for_the_end, write};
use crate::support::data::MIB;
use crate::support::{Mount, pattern};

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
