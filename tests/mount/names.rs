//! Keys and names: what other clients may call their objects, and what a mount
//! may call its files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::support::{Mount, Server, sys};

/// moto takes any key; SeaweedFS, whose keys are paths, refuses the odd ones.
fn mount_with(keys: &[&str]) -> Mount {
    let plan = Mount::on(Server::moto());
    for key in keys {
        plan.client.put(&plan.bucket, key, key.as_bytes());
    }
    plan.start()
}

/// Every path below the mountpoint, in order.
fn tree(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let shown = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.push(shown.to_owned());
            if entry.file_type().unwrap().is_dir() {
                left.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn keys_that_are_no_file_names_are_hidden_and_lead_nowhere_outside() {
    let long = format!("d/{}", "x".repeat(300));
    let odd = [
        "/x",
        "a//b",
        "../x",
        "d/../../x",
        ".",
        "..",
        "./y",
        "d/.",
        "d/..",
        &long,
    ];
    // SeaweedFS makes a slash of a backslash.
    let plain = ["plain", "d/plain", "back\\slash"];
    let mount = mount_with(&[&odd[..], &plain[..]].concat());
    let shown = tree(&mount.root);
    assert_eq!(shown, ["a", "back\\slash", "d", "d/plain", "plain"]);
    for name in plain {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
    }
    let outside = mount.root.parent().unwrap().join("x");
    assert!(!outside.exists(), "../x is outside of the mount");
    // Nobody has touched them.
    for key in odd {
        assert_eq!(mount.object(key).as_deref(), Some(key.as_bytes()), "{key}");
    }
}

#[test]
fn a_directory_with_hidden_keys_only_is_not_empty_and_rm_r_leaves_them() {
    let mount = mount_with(&["a//b", "e/..", "e/plain"]);
    assert_eq!(
        sys::errno(fs::remove_dir(mount.path("a"))),
        libc::ENOTEMPTY,
        "rmdir"
    );
    fs::remove_dir_all(mount.path("e")).unwrap_err();
    mount.wait_for_keys("what a file cannot be called", |keys| {
        let left = keys.iter().filter(|key| *key != "e/");
        left.eq(["a//b", "e/.."])
    });
}

#[test]
fn hidden_keys_go_along_when_their_directory_is_renamed() {
    let mount = mount_with(&["a//b", "a/plain"]);
    fs::rename(mount.path("a"), mount.path("c")).unwrap();
    mount.wait_for_keys("all in the new place", |keys| keys == ["c//b", "c/plain"]);
    assert_eq!(fs::read(mount.path("c/plain")).unwrap(), b"a/plain");
}

#[test]
fn a_directory_wins_over_an_object_of_its_name_until_it_is_gone() {
    let mount = mount_with(&["a", "a/b", "dir/", "dir/with/content"]);
    assert!(fs::metadata(mount.path("a")).unwrap().is_dir());
    assert_eq!(fs::read(mount.path("a/b")).unwrap(), b"a/b");
    assert_eq!(
        tree(&mount.root),
        ["a", "a/b", "dir", "dir/with", "dir/with/content"]
    );
    // What stands under the directory's name is hidden, not lost.
    fs::write(mount.path("a/c"), b"new").unwrap();
    fs::remove_file(mount.path("a/b")).unwrap();
    assert_eq!(mount.object("a").unwrap(), b"a");
    mount.client().delete(mount.bucket(), "a/c");
    for key in mount.keys() {
        if key.starts_with("a/") {
            mount.client().delete(mount.bucket(), &key);
        }
    }
    mount.wait_for("a", "the file", |path| path.is_file());
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"a");
}

#[test]
fn a_marker_with_bytes_in_it_is_a_directory_and_keeps_its_bytes() {
    let plan = Mount::on(Server::moto());
    plan.client.put(&plan.bucket, "dir/", b"somebody's bytes");
    let mount = plan.start();
    assert!(fs::metadata(mount.path("dir")).unwrap().is_dir());
    fs::write(mount.path("dir/f"), b"f").unwrap();
    assert_eq!(mount.object("dir/").unwrap(), b"somebody's bytes");
    fs::remove_file(mount.path("dir/f")).unwrap();
    assert_eq!(
        sys::errno(fs::remove_dir(mount.path("dir"))),
        libc::ENOTEMPTY,
        "its bytes would be lost"
    );
    assert_eq!(mount.object("dir/").unwrap(), b"somebody's bytes");
}

/// A path of `bytes` bytes in all, in segments that fit a file name.
fn path_of(bytes: usize) -> String {
    let segment = "s".repeat(99);
    let mut path = vec![segment; bytes / 100].join("/");
    while path.len() < bytes {
        path.push(if path.len() % 100 == 99 { '/' } else { 'e' });
    }
    path
}

#[test]
fn a_key_may_have_1024_bytes_and_a_name_255() {
    let longest = path_of(1024);
    let mount = mount_with(&[&longest]);
    assert_eq!(fs::read(mount.path(&longest)).unwrap(), longest.as_bytes());
    let beyond = mount.path(format!("{}e", path_of(1024)));
    assert_eq!(sys::errno(File::create(beyond)), libc::ENAMETOOLONG);
    let beyond = mount.path(format!("{}ee", path_of(1023)));
    assert_eq!(sys::errno(fs::create_dir(beyond)), libc::ENAMETOOLONG);

    fs::write(mount.path("n".repeat(255)), b"255").unwrap();
    assert_eq!(mount.object(&"n".repeat(255)).unwrap(), b"255");
    let long = mount.path("n".repeat(256));
    assert_eq!(sys::errno(File::create(&long)), libc::ENAMETOOLONG);
    assert_eq!(sys::errno(fs::metadata(&long)), libc::ENAMETOOLONG);
    let to = fs::rename(mount.path("n".repeat(255)), long);
    assert_eq!(sys::errno(to), libc::ENAMETOOLONG);
    // Each half would fit, the key would not.
    fs::write(mount.path("short"), b"short").unwrap();
    let to = path_of(1024 - 4);
    let parent = mount.path(&to);
    let parent = parent.parent().unwrap();
    fs::create_dir_all(parent).unwrap();
    let to = parent.join("x".repeat(200));
    let renamed = fs::rename(mount.path("short"), to);
    assert_eq!(sys::errno(renamed), libc::ENAMETOOLONG);
    assert_eq!(fs::read(mount.path("short")).unwrap(), b"short");
}

fn bytes_path(mount: &Mount, name: &[u8]) -> PathBuf {
    mount.path(Path::new(OsStr::from_bytes(name)))
}

#[test]
fn a_name_that_is_not_utf8_is_refused_and_leaves_no_object() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"f").unwrap();
    for bad in [&b"\xff"[..], b"latin\xe9", b"cut\xc3", b"\xed\xa0\x80"] {
        let path = bytes_path(&mount, bad);
        let errno = |result: io::Result<()>| sys::errno(result);
        assert_eq!(errno(fs::write(&path, b"")), libc::EILSEQ, "{bad:?}");
        assert_eq!(errno(fs::create_dir(&path)), libc::EILSEQ, "{bad:?}");
        assert_eq!(errno(fs::rename(mount.path("f"), &path)), libc::EILSEQ);
        assert_eq!(errno(fs::metadata(&path).map(drop)), libc::EILSEQ);
    }
    assert_eq!(mount.keys(), ["f"]);
}

#[test]
fn names_that_differ_in_unicode_form_or_case_are_different_files() {
    let mount = Mount::fresh();
    let names = ["\u{e9}", "e\u{301}", "E", "e"];
    for name in names {
        fs::write(mount.path(name), name).unwrap();
    }
    for name in names {
        assert_eq!(fs::read(mount.path(name)).unwrap(), name.as_bytes());
        assert_eq!(mount.object(name).unwrap(), name.as_bytes());
    }
    assert_eq!(mount.keys().len(), names.len());
}

#[test]
fn odd_but_possible_names_work_in_every_call() {
    let mut mount = Mount::fresh();
    let names = [
        "new\nline",
        "100%",
        "%2F",
        "a+b",
        "a b",
        "#",
        "?",
        "q?x=1&y",
        "*",
        "\"",
        "'",
        "<&>",
        "emoji 🎈",
        "-",
        "~",
        "...",
        " lead",
        "trail ",
        "\u{1}",
        "\u{7f}",
        "ä/ö",
    ];
    for name in names {
        let dir = mount.path(format!("dir {name}"));
        fs::create_dir_all(dir.parent().unwrap()).unwrap();
        fs::create_dir(&dir).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        let first = dir.join("first");
        fs::write(&first, name).unwrap();
        fs::create_dir_all(mount.path(name).parent().unwrap()).unwrap();
        fs::rename(&first, mount.path(name)).unwrap_or_else(|error| panic!("{name:?}: {error}"));
        fs::remove_dir(&dir).unwrap();
        assert_eq!(mount.object(name).unwrap(), name.as_bytes(), "{name:?}");
    }
    mount.remount();
    let shown = tree(&mount.root);
    for name in names {
        let bytes = fs::read(mount.path(name));
        let bytes = bytes.unwrap_or_else(|error| panic!("{name:?}: {error}, of {shown:?}"));
        assert_eq!(bytes, name.as_bytes());
        assert!(
            shown.iter().any(|path| path == name),
            "{name:?} in {shown:?}"
        );
        fs::remove_file(mount.path(name)).unwrap();
    }
    mount.wait_for_keys("no key but markers", |keys| {
        keys.iter().all(|key| key.ends_with('/'))
    });
}
