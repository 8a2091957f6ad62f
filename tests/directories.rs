//! Directories, through a real mount against a real S3 server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, DirEntry, File};
use std::path::Path;
use std::process::Command;

use support::mount::{output, shell};
use support::{Bucket, Mount, Server, mounted, mounted_with, random_bytes, wait_until};

fn names(dir: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = fs::read_dir(dir).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn an_empty_directory_persists_and_leaves_no_stray_key_once_it_has_a_file() {
    let mut mount = mounted();
    fs::create_dir_all(mount.path("media/public/icons")).unwrap();
    assert_eq!(
        mount.bucket.keys(),
        ["media/public/icons/"],
        "one marker for the only empty directory"
    );
    mount.remount();
    assert!(mount.path("media/public/icons").is_dir());
    fs::write(mount.path("media/public/icons/x.png"), b"x").unwrap();
    assert_eq!(mount.bucket.keys(), ["media/public/icons/x.png"]);
    fs::remove_file(mount.path("media/public/icons/x.png")).unwrap();
    assert_eq!(
        mount.bucket.keys(),
        ["media/public/icons/"],
        "the directory was not removed"
    );
    mount.remount();
    assert_eq!(names(&mount.dir), ["media"]);
    fs::remove_dir(mount.path("media/public/icons")).unwrap();
    fs::remove_dir(mount.path("media/public")).unwrap();
    fs::remove_dir(mount.path("media")).unwrap();
    assert_eq!(mount.bucket.keys(), [""; 0]);
}

#[test]
fn markers_always_or_never_follow_the_option() {
    let always = mounted_with(&["--dir-markers", "always"]);
    shell(&always.dir, "mkdir -p a/b && echo x > a/b/f && rm a/b/f");
    assert_eq!(always.bucket.keys(), ["a/", "a/b/"]);
    shell(&always.dir, "rmdir a/b a");
    // SeaweedFS keeps an emptied directory for a while, whether there is a marker or not.
    let mut never = Mount::new(
        &Bucket::new(Server::shared_moto()),
        &["--dir-markers", "never"],
    );
    shell(
        &never.dir,
        "mkdir -p a/b && echo x > a/b/f && rm a/b/f && test -d a/b",
    );
    assert_eq!(never.bucket.keys(), [""; 0]);
    never.remount();
    assert_eq!(names(&never.dir), [""; 0]);
}

#[test]
fn a_directory_that_is_not_empty_is_not_removed_whoever_filled_it() {
    let mount = mounted();
    shell(&mount.dir, "mkdir -p full empty && echo x > full/f");
    let refused = fs::remove_dir(mount.path("full")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    mount.bucket.put("empty/theirs", b"x");
    let refused = fs::remove_dir(mount.path("empty")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
    let refused = fs::remove_dir(mount.path("full/f")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTDIR));
    let refused = fs::remove_file(mount.path("full")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EISDIR));
}

#[test]
fn listings_tell_types_and_attributes() {
    let mount = mounted();
    mount.bucket.put("dir/file", b"12345");
    mount.bucket.put("file", b"123");
    wait_until("both are listed", || names(&mount.dir).len() == 2);
    for entry in fs::read_dir(&mount.dir).unwrap() {
        let entry = entry.unwrap();
        let is_dir = entry.file_name() == "dir";
        assert_eq!(entry.file_type().unwrap().is_dir(), is_dir);
        assert_eq!(entry.metadata().unwrap().len(), if is_dir { 0 } else { 3 });
    }
    let listing = shell(&mount.dir, "ls -ln file");
    assert!(
        listing.starts_with("-rw-r--r-- 1 1000 1000 3 "),
        "{listing}"
    );
}

#[test]
fn a_listing_of_many_pages_has_each_entry_once() {
    let mount = mounted();
    let expected: BTreeSet<String> = (0..2500).map(|i| format!("file-{i:05}.txt")).collect();
    std::thread::scope(|scope| {
        let all: Vec<_> = expected.iter().collect();
        for chunk in all.chunks(320) {
            let bucket = &mount.bucket;
            let chunk = chunk.to_vec();
            scope.spawn(move || {
                chunk
                    .iter()
                    .for_each(|name| bucket.put(&format!("many/{name}"), b"x"))
            });
        }
    });
    let lists = mount.requests("ListObjectsV2");
    let listed = names(&mount.path("many"));
    assert_eq!(listed.len(), 2500);
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    // Looking the directory up, then its three pages.
    assert!(
        mount.requests("ListObjectsV2") - lists <= 5,
        "{}",
        mount.log()
    );
    assert_eq!(mount.requests("HeadObject"), 0);
}

#[test]
fn offsets_of_a_listing_stay_good_while_the_directory_changes() {
    let mount = mounted();
    for i in 0..300 {
        mount.bucket.put(&format!("d/f{i:03}"), b"x");
    }
    let program = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.POINTER(Dirent)
libc.telldir.restype = ctypes.c_long
for f in (libc.readdir, libc.telldir, libc.rewinddir, libc.closedir): f.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
d = libc.opendir(b"d")
def rest():
    names = []
    while True:
        e = libc.readdir(d)
        if not e: return names
        names.append(e.contents.name.decode())
first = [libc.readdir(d).contents.name.decode() for _ in range(100)]
at = libc.telldir(d)
tail = rest()
assert len(first + tail) == 302, len(first + tail)
assert sorted(first + tail)[2:] == ["f%03d" % i for i in range(300)]
os.unlink("d/f000"); os.unlink("d/f150"); open("d/new", "w").close()
libc.seekdir(d, at)
again = rest()
gone = {"f000", "f150"}
assert [n for n in again if n not in gone | {"new"}] == [n for n in tail if n not in gone], "an offset moved"
libc.rewinddir(d)
fresh = rest()
assert sorted(fresh) == sorted([".", "..", "new"] + ["f%03d" % i for i in range(300) if i not in (0, 150)])
libc.closedir(d)
"#;
    let mut python = Command::new("python3");
    let (status, text) = output(python.args(["-c", program]).current_dir(&mount.dir));
    assert!(status.success(), "{text}");
}

#[test]
fn two_thousand_small_files_compare_equal_in_and_out_and_after_a_remount() {
    let mut mount = mounted();
    let source = mount.scratch.path().join("source");
    for i in 0..2000 {
        let dir = source.join(format!("d{}/e{}/f{}", i % 4, i % 10, i % 20));
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join(format!("{i}.bin")),
            random_bytes(i, 100 + (i as usize * 37) % 9000),
        )
        .unwrap();
    }
    shell(
        mount.scratch.path(),
        "cp -r source mnt/copy && diff -r source mnt/copy && cp -r mnt/copy out && diff -r source out",
    );
    assert_eq!(
        mount.bucket.keys().len(),
        2000,
        "one object a file and no marker"
    );
    mount.remount();
    shell(mount.scratch.path(), "diff -r source mnt/copy");
    let key = "copy/d3/e7/f7/1987.bin";
    assert_eq!(
        mount.bucket.get(key),
        fs::read(source.join("d3/e7/f7/1987.bin")).unwrap()
    );
}

#[test]
fn two_shells_write_while_a_third_lists() {
    let mount = mounted();
    let script = |name: &str| {
        format!(
            "mkdir -p {name}; for i in $(seq 60); do echo {name}-$i > {name}/$i; cat {name}/$i > /dev/null; done"
        )
    };
    std::thread::scope(|scope| {
        let writers = ["one", "two"].map(|name| {
            scope.spawn({
                let dir = &mount.dir;
                move || shell(dir, &script(name))
            })
        });
        let lister = scope.spawn(|| {
            shell(
                &mount.dir,
                "for i in $(seq 30); do ls -lR . > /dev/null; done",
            )
        });
        writers
            .into_iter()
            .for_each(|writer| drop(writer.join().unwrap()));
        lister.join().unwrap();
    });
    assert_eq!(mount.bucket.keys().len(), 120);
    assert_eq!(mount.bucket.get("two/60"), b"two-60\n");
}

#[test]
fn a_prefix_shows_only_its_part() {
    let bucket = Bucket::new(Server::shared());
    bucket.put("media/public/a", b"a");
    bucket.put("other/b", b"b");
    let mount = Mount::with_prefix(&bucket, "media", &[]);
    assert_eq!(names(&mount.dir), ["public"]);
    fs::write(mount.path("c"), b"c").unwrap();
    assert_eq!(bucket.keys(), ["media/c", "media/public/a", "other/b"]);
}

#[test]
fn a_directory_wins_over_an_object_of_its_name_and_hidden_keys_harm_nothing() {
    // SeaweedFS refuses such keys.
    let mount = Mount::new(&Bucket::new(Server::shared_moto()), &[]);
    for key in ["a", "a/b", "x//y", "/z", "d/../e", "d/./f", "d/g"] {
        mount.bucket.put(key, b"bytes");
    }
    wait_until("all are listed", || names(&mount.dir).len() == 3);
    assert_eq!(names(&mount.dir), ["a", "d", "x"]);
    assert!(mount.path("a").is_dir());
    assert_eq!(names(&mount.path("d")), ["g"]);
    assert_eq!(names(&mount.path("x")), [""; 0]);
}

#[test]
fn renaming_moves_files_and_whole_directories() {
    let mount = mounted();
    shell(
        &mount.dir,
        "mkdir -p old/sub old/empty to && echo 1 > old/a.txt && echo 2 > old/sub/b.png && echo 3 > c",
    );
    let reader = File::open(mount.path("old/sub/b.png")).unwrap();
    shell(
        &mount.dir,
        "mv old new && mv new/a.txt to/a.html && mv c new/sub/b.png && ls -R",
    );
    assert_eq!(
        mount.bucket.keys(),
        ["new/empty/", "new/sub/b.png", "to/a.html"]
    );
    assert_eq!(mount.bucket.content_type("to/a.html"), "text/html");
    assert_eq!(mount.bucket.get("new/sub/b.png"), b"3\n");
    assert_eq!(
        std::io::read_to_string(reader).unwrap(),
        "2\n",
        "the replaced file's reader keeps its bytes"
    );
    let refused = fs::rename(mount.path("new"), mount.path("new/sub/deeper")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    let refused = fs::rename(mount.path("to"), mount.path("new")).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTEMPTY));
}

#[test]
fn a_rename_before_the_close_takes_the_pending_bytes_along() {
    use std::io::Write;
    let mount = mounted();
    mount.bucket.put("final", b"old");
    let mut file = File::create_new(mount.path("tmp")).unwrap();
    file.write_all(b"new bytes").unwrap();
    fs::rename(mount.path("tmp"), mount.path("final")).unwrap();
    assert_eq!(
        mount.requests("CopyObject"),
        0,
        "nothing was uploaded, so nothing is copied"
    );
    drop(file);
    assert_eq!(mount.bucket.keys(), ["final"]);
    assert_eq!(mount.bucket.get("final"), b"new bytes");
}
