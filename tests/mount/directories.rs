//! Directories and the keys that make them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::sys::DirStream;
use crate::support::{Mount, Server, run_python, sys};

/// The names in a directory, each counted.
fn names(path: &Path) -> Vec<String> {
    let mut names = DirStream::open(path).unwrap().rest();
    names.sort();
    names
}

#[test]
fn entries_have_their_kind_and_the_inode_that_stat_gives() {
    use std::os::unix::fs::MetadataExt;
    let mount = Mount::fresh();
    mount.put_object("dir/below", b"x");
    mount.put_object("file", b"x");
    mount.wait_for("file", "the file", |path| path.exists());
    let mut stream = DirStream::open(&mount.root).unwrap();
    let mut seen = BTreeSet::new();
    while let Some(entry) = stream.next() {
        let name = entry.name.to_str().unwrap();
        let kind = if name == "file" {
            libc::DT_REG
        } else {
            libc::DT_DIR
        };
        assert_eq!(entry.kind, kind, "{name}");
        if name != "." && name != ".." {
            assert_eq!(
                entry.ino,
                fs::metadata(mount.path(name)).unwrap().ino(),
                "{name}"
            );
        }
        assert!(seen.insert(name.to_owned()), "{name} twice");
    }
    assert_eq!(Vec::from_iter(&seen), [".", "..", "dir", "file"]);
}

#[test]
fn a_directory_that_was_empty_shows_what_came_since_when_it_is_read_again() {
    let mount = Mount::fresh();
    fs::create_dir(mount.path("d")).unwrap();
    let mut stream = DirStream::open(&mount.path("d")).unwrap();
    assert!(stream.rest().is_empty());
    fs::write(mount.path("d/f"), b"x").unwrap();
    stream.rewind();
    assert_eq!(stream.rest(), ["f"]);
    fs::remove_file(mount.path("d/f")).unwrap();
    stream.rewind();
    assert!(stream.rest().is_empty());
}

#[test]
fn positions_of_a_directory_stream_lead_back_to_the_same_entries() {
    let mount = Mount::fresh();
    let objects = (0..300).map(|i| (format!("d/f{i:03}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("d/f299", "the files", |path| path.exists());
    let mut stream = DirStream::open(&mount.path("d")).unwrap();
    let mut order = Vec::new();
    loop {
        let position = stream.tell();
        let Some(entry) = stream.next() else { break };
        order.push((position, entry));
    }
    assert_eq!(order.len(), 302);
    for index in [301, 0, 150, 2, 299, 1, 77] {
        let (position, entry) = &order[index];
        stream.seek(*position);
        assert_eq!(&stream.next().unwrap(), entry, "at {index}");
        let next = order.get(index + 1).map(|(_, entry)| entry);
        assert_eq!(stream.next().as_ref(), next, "after {index}");
    }
    stream.rewind();
    let again: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
    let first: Vec<_> = order.into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(again, first);
}

#[test]
fn a_rewound_stream_shows_what_was_made_and_removed_meanwhile() {
    let mount = Mount::fresh();
    fs::write(mount.path("stays"), b"x").unwrap();
    fs::write(mount.path("goes"), b"x").unwrap();
    let mut stream = DirStream::open(&mount.root).unwrap();
    assert_eq!(stream.rest().len(), 2);
    fs::remove_file(mount.path("goes")).unwrap();
    fs::write(mount.path("comes"), b"x").unwrap();
    stream.rewind();
    let mut seen = stream.rest();
    seen.sort();
    assert_eq!(seen, ["comes", "stays"]);
}

#[test]
fn removing_entries_while_reading_skips_and_repeats_none() {
    let mount = Mount::fresh();
    let objects = (0..400).map(|i| (format!("d/f{i:03}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("d/f399", "the files", |path| path.exists());
    let mut stream = DirStream::open(&mount.path("d")).unwrap();
    let mut seen = BTreeSet::new();
    let mut made = 0;
    while let Some(entry) = stream.next() {
        let name = entry.name.into_string().unwrap();
        if !name.starts_with('f') {
            continue;
        }
        assert!(seen.insert(name.clone()), "{name} twice");
        fs::remove_file(mount.path("d").join(&name)).unwrap();
        if made < 20 {
            fs::write(mount.path(format!("d/new{made}")), b"x").unwrap();
            made += 1;
        }
    }
    assert_eq!(seen.len(), 400, "every file that was there all along");
    assert_eq!(names(&mount.path("d")).len(), 20);
}

#[test]
fn rm_r_and_mv_of_a_tree_work_with_the_usual_tools() {
    let mount = Mount::fresh();
    let script = "cd \"$1\"; mkdir -p a/b/c; for i in 1 2 3 4 5; do echo $i > a/b/$i; echo $i > a/b/c/$i; done; \
                  mv a/b/c a/moved; rm -r a/b; ls a; cat a/moved/3";
    let said = crate::support::programs::run_shell(script, &[&mount.root]);
    assert_eq!(said, "moved\n3\n");
    let want: Vec<_> = (1..=5).map(|i| format!("a/moved/{i}")).collect();
    mount.wait_for_keys("the files alone", |keys| keys == want);
}

#[test]
fn nested_directories_are_made_in_an_empty_bucket_and_survive_a_remount() {
    let mut mount = Mount::fresh();
    fs::create_dir_all(mount.path("media/public/application-icons")).unwrap();
    assert_eq!(names(&mount.root), ["media"]);
    assert_eq!(names(&mount.path("media/public")), ["application-icons"]);
    mount.remount();
    assert_eq!(names(&mount.path("media/public")), ["application-icons"]);
    assert_eq!(
        names(&mount.path("media/public/application-icons")),
        [""; 0]
    );
    assert!(mount.path("media/public/application-icons").is_dir());
}

#[test]
fn the_bucket_holds_no_key_but_the_files_once_a_directory_has_one() {
    let mount = Mount::fresh();
    fs::create_dir_all(mount.path("a/b")).unwrap();
    fs::write(mount.path("a/b/file"), b"x").unwrap();
    mount.wait_for("a/b", "no marker", |_| mount.keys() == ["a/b/file"]);
}

#[test]
fn a_directory_that_loses_its_last_file_stays() {
    let mut mount = Mount::fresh();
    mount.put_object("by-others/file", b"x");
    fs::create_dir(mount.path("own")).unwrap();
    fs::write(mount.path("own/file"), b"x").unwrap();
    mount.wait_for("by-others/file", "the file", |path| path.exists());
    fs::remove_file(mount.path("own/file")).unwrap();
    fs::remove_file(mount.path("by-others/file")).unwrap();
    assert_eq!(names(&mount.root), ["by-others", "own"]);
    mount.remount();
    assert_eq!(names(&mount.root), ["by-others", "own"]);
    assert_eq!(names(&mount.path("own")), [""; 0]);
    assert_eq!(mount.keys(), ["by-others/", "own/"]);
}

/// A store with directories of its own tells of them also without a marker.
#[test]
fn a_directory_that_was_walked_over_and_loses_its_last_entry_stays() {
    for attributes in ["fixed", "stored"] {
        let plan = Mount::on(Server::seaweedfs()).args(["--attributes", attributes]);
        let mut mount = plan.set("--ttl", "1h").start();
        let dirs: Vec<String> = (0..8).map(|n| format!("d{n}")).collect();
        for dir in &dirs {
            mount.put_object(&format!("{dir}/file/f"), b"x");
            mount.put_object(&format!("{dir}/dir/sub/"), b"");
        }
        let walked = Command::new("ls").arg("-lR").arg(&mount.root).output();
        assert!(walked.unwrap().status.success());
        for dir in &dirs {
            fs::remove_file(mount.path(dir).join("file/f")).unwrap();
            fs::remove_dir(mount.path(dir).join("dir/sub")).unwrap();
        }
        let want: Vec<String> = dirs
            .iter()
            .flat_map(|dir| ["dir", "file"].map(|sub| format!("{dir}/{sub}/")))
            .collect();
        mount.wait_for_keys(attributes, |keys| keys == want);
        mount.remount();
        for dir in &dirs {
            assert_eq!(names(&mount.path(dir)), ["dir", "file"], "{attributes}");
        }
    }
}

#[test]
fn rmdir_takes_an_empty_directory_only() {
    let mut mount = Mount::fresh();
    fs::create_dir_all(mount.path("full/inner")).unwrap();
    fs::write(mount.path("full/inner/file"), b"x").unwrap();
    for path in ["full", "full/inner"] {
        let refused = sys::errno(fs::remove_dir(mount.path(path)));
        assert_eq!(refused, libc::ENOTEMPTY, "{path}");
    }
    let refused = sys::errno(fs::remove_dir(mount.path("full/inner/file")));
    assert_eq!(refused, libc::ENOTDIR);
    fs::remove_file(mount.path("full/inner/file")).unwrap();
    fs::remove_dir(mount.path("full/inner")).unwrap();
    fs::remove_dir(mount.path("full")).unwrap();
    assert_eq!(sys::errno(fs::remove_dir(mount.path("full"))), libc::ENOENT);
    assert_eq!(names(&mount.root), [""; 0]);
    mount.remount();
    assert_eq!(names(&mount.root), [""; 0]);
    assert_eq!(mount.keys(), Vec::<String>::new());
}

#[test]
fn rmdir_sees_what_another_client_has_put_there() {
    let mount = Mount::fresh();
    fs::create_dir(mount.path("d")).unwrap();
    mount.put_object("d/theirs", b"x");
    assert_eq!(sys::errno(fs::remove_dir(mount.path("d"))), libc::ENOTEMPTY);
    assert_eq!(mount.object("d/theirs").unwrap(), b"x");
}

#[test]
fn making_what_exists_and_entering_a_file_fail_as_posix_says() {
    let mount = Mount::fresh();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("f"), b"x").unwrap();
    assert_eq!(sys::errno(fs::create_dir(mount.path("d"))), libc::EEXIST);
    assert_eq!(sys::errno(fs::create_dir(mount.path("f"))), libc::EEXIST);
    assert_eq!(
        sys::errno(fs::create_dir(mount.path("none/d"))),
        libc::ENOENT
    );
    assert_eq!(sys::errno(fs::create_dir(mount.path("f/d"))), libc::ENOTDIR);
    assert_eq!(sys::errno(fs::write(mount.path("d"), b"x")), libc::EISDIR);
    assert_eq!(sys::errno(fs::remove_file(mount.path("d"))), libc::EISDIR);
    assert_eq!(sys::errno(fs::read_dir(mount.path("f"))), libc::ENOTDIR);
}

#[test]
fn a_marker_of_another_client_is_an_empty_directory() {
    let mount = Mount::fresh();
    mount.put_object("console/", b"");
    mount.wait_for("console", "the directory", |path| path.is_dir());
    assert_eq!(names(&mount.root), ["console"]);
    assert_eq!(names(&mount.path("console")), [""; 0]);
}

#[test]
fn a_directory_whose_keys_another_client_removes_goes_away() {
    // SeaweedFS lists an emptied directory for a while: moto does not.
    let mount = Mount::on(Server::moto()).start();
    mount.put_object("d/f", b"x");
    mount.wait_for("d/f", "the file", |path| path.exists());
    mount.client().delete(mount.bucket(), "d/f");
    mount.wait_for("d", "its end", |path| !path.exists());
    mount.wait_for("", "its end in the root", |root| names(root).is_empty());
}

#[test]
fn os_walk_finds_every_file_below() {
    let mount = Mount::fresh();
    for key in ["a/1", "a/b/2", "a/b/c/3", "z/4"] {
        mount.put_object(key, b"x");
    }
    mount.wait_for("z/4", "the files", |path| path.exists());
    let program = "import os, sys\n\
                   root = sys.argv[1]\n\
                   for top, dirs, files in sorted(os.walk(root)):\n    \
                       print(os.path.relpath(top, root), sorted(dirs), sorted(files))";
    let printed = run_python(program, &[&mount.root]);
    let want = ". ['a', 'z'] []\na ['b'] ['1']\na/b ['c'] ['2']\na/b/c [] ['3']\nz [] ['4']\n";
    assert_eq!(printed, want);
}

#[test]
fn markers_are_always_or_never_there_where_the_option_says_so() {
    let always = Mount::builder().args(["--dir-markers", "always"]).start();
    fs::create_dir_all(always.path("a/b")).unwrap();
    fs::write(always.path("a/b/f"), b"x").unwrap();
    assert_eq!(always.keys(), ["a/", "a/b/", "a/b/f"]);
    // SeaweedFS keeps an emptied directory for a while, marker or not: moto does not.
    let plan = Mount::on(Server::moto());
    let mut never = plan.args(["--dir-markers", "never"]).start();
    fs::create_dir_all(never.path("a/b")).unwrap();
    assert!(never.path("a/b").is_dir());
    assert_eq!(never.keys(), Vec::<String>::new());
    never.remount();
    assert_eq!(names(&never.root), [""; 0]);
}

/// No marker tells of `a` either, which has no key of its own.
#[test]
fn without_markers_a_directory_that_loses_its_last_file_stays_and_so_does_the_one_above() {
    let plan = Mount::on(Server::moto()).set("--ttl", "0s");
    let mount = plan.args(["--dir-markers", "never"]).start();
    mount.put_object("a/b/f", b"x");
    fs::remove_file(mount.path("a/b/f")).unwrap();
    assert_eq!(mount.all_keys(), Vec::<String>::new());
    assert!(fs::metadata(mount.path("a/b")).unwrap().is_dir());
    assert_eq!(names(&mount.root), ["a"]);
    fs::write(mount.path("a/b/g"), b"y").unwrap();
    fs::remove_dir_all(mount.path("a/b")).unwrap();
    fs::remove_dir(mount.path("a")).unwrap();
    assert_eq!(names(&mount.root), [""; 0]);
}

#[test]
fn a_position_stays_good_while_the_directory_changes() {
    let mount = Mount::fresh();
    let objects = (0..300).map(|i| (format!("d/f{i:03}"), b"x".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("d/f299", "the files", |path| path.exists());
    let mut stream = DirStream::open(&mount.path("d")).unwrap();
    for _ in 0..100 {
        stream.next().unwrap();
    }
    let position = stream.tell();
    let mut rest = stream.rest();
    fs::remove_file(mount.path("d/f000")).unwrap();
    fs::remove_file(mount.path("d/f150")).unwrap();
    fs::write(mount.path("d/new"), b"x").unwrap();
    stream.seek(position);
    let mut again = stream.rest();
    again.retain(|name| !["f000", "f150", "new"].contains(&name.as_str()));
    rest.retain(|name| !["f000", "f150"].contains(&name.as_str()));
    assert_eq!(again, rest);
}
