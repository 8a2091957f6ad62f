//! Files and the objects they are.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, Worker, pattern, sys};
use libc::{O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

/// Offsets and lengths around the borders of pages, blocks and parts, not in order.
const ODD_PIECES: [(usize, usize); 12] = [
    (0, 1),
    (4095, 2),
    (MIB - 1, 2),
    (8 * MIB - 3, 7),
    (MIB - 100, 200),
    (3 * MIB + 17, 2 * MIB + 1),
    (1, 4097),
    (8 * MIB + 1, MIB),
    (5 * MIB, 131_073),
    (2 * MIB - 1, 1),
    (9 * MIB - 10, 11),
    (12_345, 77_777),
];

#[test]
fn a_file_written_is_one_object_with_its_bytes_and_its_content_type() {
    let mount = Mount::fresh();
    let kinds = [
        ("icon.png", "image/png"),
        ("flow.svg", "image/svg+xml"),
        ("theme.css", "text/css"),
        ("PHOTO.JPG", "image/jpeg"),
        ("report.csv", "text/csv"),
        ("data.json", "application/json"),
        ("no-extension", "application/octet-stream"),
    ];
    for (seed, (name, kind)) in (1..).zip(kinds) {
        let body = pattern(1000 + seed as usize, seed);
        fs::write(mount.path(name), &body).unwrap();
        assert_eq!(mount.object(name).unwrap(), body, "{name}");
        let head = mount.client().head(mount.bucket(), name).unwrap();
        let found = head.content_type.unwrap_or_default();
        assert!(found.starts_with(kind), "{name}: {found} is not {kind}");
    }
    let mut names: Vec<_> = kinds.iter().map(|(name, _)| name.to_string()).collect();
    names.sort();
    assert_eq!(mount.keys(), names);
}

#[test]
fn files_of_every_size_around_the_borders_read_back_the_same() {
    let mount = Mount::fresh();
    let around = [4096, 131_072, MIB, 8 * MIB];
    let sizes = around.iter().flat_map(|size| [size - 1, *size, size + 1]);
    for size in sizes.chain([0, 1, 2, 511]) {
        let body = pattern(size, size as u64);
        let name = format!("f{size}");
        fs::write(mount.path(&name), &body).unwrap();
        assert_eq!(fs::metadata(mount.path(&name)).unwrap().len(), size as u64);
        assert_same_bytes(&fs::read(mount.path(&name)).unwrap(), &body, &name);
        assert_same_bytes(&mount.object(&name).unwrap(), &body, &name);
    }
}

#[test]
fn an_empty_file_is_an_empty_object() {
    let mount = Mount::fresh();
    File::create(mount.path("empty.txt")).unwrap();
    mount.wait_for("empty.txt", "the object", |_| {
        mount.object("empty.txt").is_some()
    });
    assert_eq!(mount.object("empty.txt").unwrap(), b"");
    assert_eq!(fs::read(mount.path("empty.txt")).unwrap(), b"");
}

#[test]
fn an_object_put_by_another_client_is_a_file_of_exactly_its_bytes() {
    let mount = Mount::fresh();
    for key in [
        "direct.bin",
        "deep/er/than/known.bin",
        "spaces and ü +%.bin",
    ] {
        assert!(!mount.path(key).exists());
        let body = pattern(123_457, key.len() as u64);
        mount.put_object(key, &body);
        mount.wait_for(key, "a file for the object", |path| path.exists());
        assert_eq!(fs::metadata(mount.path(key)).unwrap().len(), 123_457);
        assert_same_bytes(&fs::read(mount.path(key)).unwrap(), &body, key);
    }
}

#[test]
fn a_change_and_a_removal_by_another_client_are_seen() {
    let mount = Mount::fresh();
    mount.put_object("a", b"first");
    mount.wait_for("a", "the file", |path| path.exists());
    assert_eq!(fs::read(mount.path("a")).unwrap(), b"first");
    mount.put_object("a", b"second, longer");
    mount.wait_for("a", "the new bytes", |path| {
        let seen = fs::read(path).unwrap();
        assert!(seen == b"first" || seen == b"second, longer", "{seen:?}");
        seen == b"second, longer"
    });
    mount.client().delete(mount.bucket(), "a");
    mount.wait_for("a", "its end", |path| !path.exists());
}

#[test]
fn reads_at_any_offset_give_the_bytes_of_the_object() {
    let mount = Mount::fresh();
    let body = pattern(10 * MIB + 123, 4);
    mount.put_object("big", &body);
    mount.wait_for("big", "the file", |path| path.exists());
    let file = File::open(mount.path("big")).unwrap();
    for (at, len) in ODD_PIECES {
        let mut got = vec![0; len];
        file.read_exact_at(&mut got, at as u64).unwrap();
        assert_same_bytes(&got, &body[at..at + len], &format!("{len} at {at}"));
    }
    let mut tail = vec![0; 4096];
    let near_end = body.len() - 23;
    assert_eq!(file.read_at(&mut tail, near_end as u64).unwrap(), 23);
    assert_eq!(&tail[..23], &body[near_end..]);
    assert_eq!(file.read_at(&mut tail, body.len() as u64).unwrap(), 0);
    assert_eq!(file.read_at(&mut tail, 1 << 40).unwrap(), 0);
}

#[test]
fn writes_at_any_offset_are_read_back_before_and_after_close() {
    let mount = Mount::fresh();
    let file = sys::open(mount.path("f"), O_RDWR | O_CREAT).unwrap();
    let other = File::open(mount.path("f")).unwrap();
    let mut want = Vec::new();
    for (seed, (at, len)) in (1..).zip(ODD_PIECES) {
        let piece = pattern(len, seed);
        file.write_all_at(&piece, at as u64).unwrap();
        want.resize(want.len().max(at + len), 0);
        want[at..at + len].copy_from_slice(&piece);
        let from = at.saturating_sub(5);
        let mut got = vec![1; (at + len).min(want.len()) - from];
        file.read_exact_at(&mut got, from as u64).unwrap();
        assert_same_bytes(&got, &want[from..at + len], "own handle");
        other.read_exact_at(&mut got, from as u64).unwrap();
        assert_same_bytes(&got, &want[from..at + len], "other handle");
    }
    assert_eq!(file.metadata().unwrap().len(), want.len() as u64);
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "before close");
    sys::close(file).unwrap();
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "after close");
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn writes_into_an_existing_object_keep_the_rest_of_it() {
    let mut mount = Mount::fresh();
    let mut want = pattern(9 * MIB + 5, 8);
    mount.put_object("f", &want);
    mount.wait_for("f", "the file", |path| path.exists());
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    for (at, len) in [(MIB - 2, 5), (8 * MIB - 50, 100), (0, 1), (9 * MIB + 4, 3)] {
        let piece = pattern(len, at as u64 + 99);
        file.write_all_at(&piece, at as u64).unwrap();
        want.resize(want.len().max(at + len), 0);
        want[at..at + len].copy_from_slice(&piece);
    }
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
    mount.remount();
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "after remount");
}

#[test]
fn holes_read_as_zeros() {
    let mount = Mount::fresh();
    let file = sys::open(mount.path("sparse"), O_RDWR | O_CREAT).unwrap();
    file.write_all_at(b"end", 9 * MIB as u64 + 1).unwrap();
    let mut want = vec![0; 9 * MIB + 1];
    want.extend_from_slice(b"end");
    assert_same_bytes(
        &fs::read(mount.path("sparse")).unwrap(),
        &want,
        "before close",
    );
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("sparse").unwrap(), &want, "the object");
}

#[test]
fn appends_go_to_the_end_whatever_happened_before() {
    let mount = Mount::fresh();
    fs::write(mount.path("log"), b"one\n").unwrap();
    for line in ["two\n", "three\n"] {
        let mut file = sys::open(mount.path("log"), O_WRONLY | O_APPEND).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        sys::close(file).unwrap();
    }
    assert_eq!(mount.object("log").unwrap(), b"one\ntwo\nthree\n");
    let mut first = sys::open(mount.path("log"), O_WRONLY | O_APPEND).unwrap();
    let mut second = sys::open(mount.path("log"), O_WRONLY | O_APPEND).unwrap();
    first.write_all(b"four\n").unwrap();
    second.write_all(b"five\n").unwrap();
    first.write_all(b"six\n").unwrap();
    sys::close(first).unwrap();
    sys::close(second).unwrap();
    assert_eq!(
        mount.object("log").unwrap(),
        b"one\ntwo\nthree\nfour\nfive\nsix\n"
    );
}

#[test]
fn the_old_object_stays_whole_until_the_close_that_replaces_it() {
    let mount = Mount::fresh();
    let old = pattern(2 * MIB, 7);
    fs::write(mount.path("f"), &old).unwrap();
    let mut worker = Worker::at(&mount.root);
    worker
        .run("fd = os.open('f', os.O_WRONLY | os.O_TRUNC)")
        .unwrap();
    assert_eq!(
        fs::metadata(mount.path("f")).unwrap().len(),
        0,
        "the mount sees it cut"
    );
    assert_same_bytes(&mount.object("f").unwrap(), &old, "after the open");
    worker.run("os.write(fd, b'n' * (9 << 20))").unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &old, "after the write");
    worker.run("os.close(fd)").unwrap();
    assert_same_bytes(
        &mount.object("f").unwrap(),
        &[b'n'; 9 * MIB],
        "after the close",
    );
    fs::write(mount.path("f"), b"short").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"short");
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"short");
}

#[test]
fn an_opened_and_cut_file_that_gets_no_bytes_is_empty_after_close() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"old").unwrap();
    sys::close(sys::open(mount.path("f"), O_WRONLY | O_TRUNC).unwrap()).unwrap();
    assert_eq!(mount.object("f").unwrap(), b"");
}

#[test]
fn fsync_returns_when_s3_has_the_bytes() {
    let mount = Mount::fresh();
    for len in [10, 9 * MIB] {
        let mut file = File::create(mount.path("f")).unwrap();
        let body = pattern(len, len as u64);
        file.write_all(&body).unwrap();
        file.sync_all().unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, "fsync");
        file.write_all(b"more").unwrap();
        file.sync_data().unwrap();
        let want = [&body[..], b"more"].concat();
        assert_same_bytes(&mount.object("f").unwrap(), &want, "fdatasync");
        file.write_all(b"!").unwrap();
        sys::close(file).unwrap();
        let want = [&want[..], b"!"].concat();
        assert_same_bytes(&mount.object("f").unwrap(), &want, "close");
    }
}

#[test]
fn a_close_of_a_duplicated_descriptor_stores_what_was_written() {
    let mount = Mount::fresh();
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"one").unwrap();
    sys::close(file.try_clone().unwrap()).unwrap();
    assert_eq!(mount.object("f").unwrap(), b"one");
    file.write_all(b" two").unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("f").unwrap(), b"one two");
}

#[test]
fn a_removed_file_leaves_no_object() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"x").unwrap();
    fs::remove_file(mount.path("f")).unwrap();
    assert!(!mount.path("f").exists());
    assert_eq!(mount.keys(), Vec::<String>::new());
    assert_eq!(sys::errno(fs::remove_file(mount.path("f"))), libc::ENOENT);
    assert_eq!(
        sys::errno(sys::open(mount.path("f"), O_RDONLY)),
        libc::ENOENT
    );
}

#[test]
fn a_file_removed_while_open_is_usable_and_does_not_come_back() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("f"), b"before").unwrap();
    let mut file = sys::open(mount.path("f"), O_RDWR).unwrap();
    fs::remove_file(mount.path("f")).unwrap();
    let mut seen = String::new();
    file.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "before");
    file.write_all(b" after").unwrap();
    sys::close(file).unwrap();
    mount.unmount();
    assert_eq!(mount.keys(), Vec::<String>::new());
}

#[test]
fn a_child_that_closes_its_copy_does_not_publish_half_a_file() {
    let mount = Mount::fresh();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("half", "one half");
    worker
        .run("os.fork() == 0 and os._exit(0); os.wait()")
        .unwrap();
    assert_eq!(mount.object("half"), None);
    worker.run("os.write(fd, b' and the other')").unwrap();
    // A child that wrote, and a parent that did not since.
    worker
        .run("os.fork() == 0 and (os.write(fd, b'.'), os._exit(0)); os.wait()")
        .unwrap();
    assert_eq!(mount.object("half").unwrap(), b"one half and the other.");
    worker.run("os.close(fd)").unwrap();
    assert_eq!(mount.object("half").unwrap(), b"one half and the other.");
}

#[test]
fn a_file_created_through_a_descriptor_that_only_reads_is_an_empty_object() {
    let mut mount = Mount::fresh();
    sys::close(sys::open(mount.path("f"), O_RDONLY | libc::O_CREAT).unwrap()).unwrap();
    assert_eq!(mount.object("f").unwrap(), b"");
    mount.remount();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"");
}
