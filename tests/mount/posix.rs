//! Calls that applications make of a local directory, beyond reading and writing.

use std::fs;

use crate::support::data::assert_same_bytes;
use crate::support::{Mount, pattern, run_python};

/// Runs with `path` and `other` set to two files of the mount.
fn python(mount: &Mount, program: &str) {
    let program = format!("import os, sys\npath, other = sys.argv[1:]\n{program}");
    run_python(&program, &[&mount.path("f"), &mount.path("g")]);
}

#[test]
fn flock_and_fcntl_locks_keep_processes_apart_and_end_with_their_holder() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"0").unwrap();
    python(
        &mount,
        r#"
import fcntl, errno

def refused(call, *args):
    try:
        call(*args)
    except OSError as error:
        assert error.errno in (errno.EAGAIN, errno.EACCES), error
        return True
    return False

def in_child(check):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if check() else 2
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0

def try_flock():
    mine = open(path, "r+b")
    return refused(fcntl.flock, mine, fcntl.LOCK_EX | fcntl.LOCK_NB)

def try_range(start):
    mine = open(path, "r+b")
    return refused(fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, start)

held = open(path, "r+b")
fcntl.flock(held, fcntl.LOCK_EX)
assert in_child(try_flock), "flock held elsewhere"
fcntl.flock(held, fcntl.LOCK_UN)
assert not in_child(try_flock), "flock given back"

fcntl.lockf(held, fcntl.LOCK_EX, 10, 0)
assert in_child(lambda: try_range(5)), "the range overlaps"
assert not in_child(lambda: try_range(10)), "the range is beside it"
held.close()
assert not in_child(lambda: try_range(0)), "a close gives back"
"#,
    );
}

#[test]
fn counting_under_a_lock_by_many_processes_loses_no_step() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"0").unwrap();
    for lock in ["fcntl.flock", "fcntl.lockf"] {
        fs::write(mount.path("f"), b"0").unwrap();
        let program = r#"
import fcntl

def count():
    for _ in range(20):
        with open(path, "r+") as file:
            LOCK(file, fcntl.LOCK_EX)
            number = int(file.read())
            file.seek(0)
            file.write(str(number + 1))
            file.flush()
            os.fsync(file.fileno())

children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            count()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
"#;
        python(
            &mount,
            &program.replace("LOCK(file", &format!("{lock}(file")),
        );
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"80", "{lock}");
    }
}

#[test]
fn a_seek_for_data_or_a_hole_answers_as_for_a_file_without_holes() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), pattern(10_000, 1)).unwrap();
    python(
        &mount,
        r#"
import errno
fd = os.open(path, os.O_RDWR)
os.pwrite(fd, b"x", 20_000)
for _ in range(2):
    assert os.lseek(fd, 5, os.SEEK_DATA) == 5
    assert os.lseek(fd, 5, os.SEEK_HOLE) == 20_001
    try:
        os.lseek(fd, 20_001, os.SEEK_DATA)
        raise SystemExit("data after the end")
    except OSError as error:
        assert error.errno == errno.ENXIO, error
    os.fsync(fd)
"#,
    );
}

#[test]
fn sendfile_splice_and_vectors_move_the_bytes() {
    let mount = Mount::fresh();
    let body = pattern(300_000, 2);
    fs::write(mount.path("f"), &body).unwrap();
    python(
        &mount,
        r#"
source = os.open(path, os.O_RDONLY)
target = os.open(other, os.O_RDWR | os.O_CREAT)
sent = 0
while sent < 100_000:
    sent += os.sendfile(target, source, sent, 100_000 - sent)
back, front = os.pipe()
while sent < 200_000:
    piped = os.splice(source, front, min(65536, 200_000 - sent), offset_src=sent)
    left = piped
    while left:
        left -= os.splice(back, target, left, offset_dst=sent + piped - left)
    sent += piped
views = [bytearray(7), bytearray(99_993)]
assert os.preadv(source, views, sent) == 100_000
assert os.pwritev(target, views, sent) == 100_000
os.close(target)
"#,
    );
    assert_same_bytes(&fs::read(mount.path("g")).unwrap(), &body, "read");
    assert_same_bytes(&mount.object("g").unwrap(), &body, "object");
}

#[test]
fn a_mapping_and_a_descriptor_see_each_others_bytes_and_msync_stores_them() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), pattern(50_000, 3)).unwrap();
    python(
        &mount,
        r#"
import mmap
fd = os.open(path, os.O_RDWR)
mapping = mmap.mmap(fd, 0)
mapping[10:15] = b"mmap1"
assert os.pread(fd, 5, 10) == b"mmap1"
os.pwrite(fd, b"write", 20_000)
assert mapping[20_000:20_005] == b"write"
mapping.flush()
os.fsync(fd)
"#,
    );
    let mut want = pattern(50_000, 3);
    want[10..15].copy_from_slice(b"mmap1");
    want[20_000..20_005].copy_from_slice(b"write");
    assert_same_bytes(&mount.object("f").unwrap(), &want, "object");
}
