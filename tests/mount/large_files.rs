//! Files of many blocks and parts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, pattern, programs, sha256, sys};

#[test]
fn a_multipart_file_equals_the_object_by_digest() {
    let mut mount = Mount::fresh();
    let body = pattern(40 * MIB + 4321, 1);
    let mut file = File::create(mount.path("big.bin")).unwrap();
    for piece in body.chunks(MIB + 7) {
        file.write_all(piece).unwrap();
    }
    sys::close(file).unwrap();
    let digest = sha256(&body);
    assert_eq!(sha256(&mount.object("big.bin").unwrap()), digest);
    assert_eq!(sha256(&fs::read(mount.path("big.bin")).unwrap()), digest);
    mount.remount();
    let printed = programs::run_shell("sha256sum < \"$1\"", &[&mount.path("big.bin")]);
    assert_eq!(printed.split_whitespace().next().unwrap(), digest);
    let unfinished = mount.client().unfinished_uploads(mount.bucket());
    assert_eq!(unfinished, Vec::<String>::new());
    assert_eq!(mount.keys(), ["big.bin"]);
}

#[test]
fn a_big_object_of_another_client_is_read_whole_by_readers_at_once() {
    let mount = Mount::fresh();
    let body = pattern(33 * MIB + 1, 2);
    mount.put_object("big.bin", &body);
    mount.wait_for("big.bin", "the file", |path| path.exists());
    std::thread::scope(|scope| {
        for reader in 0..3_usize {
            let (mount, body) = (&mount, &body);
            scope.spawn(move || {
                let file = File::open(mount.path("big.bin")).unwrap();
                let mut got = vec![0; 700_001];
                // Forwards, backwards, and every third piece.
                let mut starts: Vec<usize> = (0..body.len()).step_by(got.len()).collect();
                match reader {
                    0 => {}
                    1 => starts.reverse(),
                    _ => starts.retain(|start| (start / 700_001) % 3 == 0),
                }
                for start in starts {
                    let want = &body[start..(start + got.len()).min(body.len())];
                    let got = &mut got[..want.len()];
                    file.read_exact_at(got, start as u64).unwrap();
                    assert_same_bytes(got, want, &format!("reader {reader} at {start}"));
                }
            });
        }
    });
}

#[test]
fn a_part_written_again_late_is_the_one_that_counts() {
    let mount = Mount::fresh();
    let mut want = pattern(30 * MIB, 3);
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(&want).unwrap();
    for at in [0, 8 * MIB - 1, 17 * MIB] {
        let piece = pattern(3, at as u64 + 50);
        file.write_all_at(&piece, at as u64).unwrap();
        want[at..at + 3].copy_from_slice(&piece);
    }
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
}

#[test]
fn a_big_file_is_read_back_while_it_is_being_written() {
    let mount = Mount::fresh();
    let body = pattern(20 * MIB, 4);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(mount.path("f"))
        .unwrap();
    for (index, piece) in body.chunks(3 * MIB).enumerate() {
        file.write_all(piece).unwrap();
        let mut got = vec![0; piece.len()];
        file.read_exact_at(&mut got, (index * 3 * MIB) as u64)
            .unwrap();
        assert_same_bytes(&got, piece, "just written");
    }
    let mut first = vec![0; 9 * MIB];
    file.read_exact_at(&mut first, 0).unwrap();
    assert_same_bytes(&first, &body[..9 * MIB], "from the start");
    sys::close(file).unwrap();
    let mut seen = Vec::new();
    File::open(mount.path("f"))
        .unwrap()
        .read_to_end(&mut seen)
        .unwrap();
    assert_same_bytes(&seen, &body, "after close");
}

#[test]
fn an_append_to_a_big_object_keeps_all_of_it() {
    let mount = Mount::fresh();
    let mut want = pattern(21 * MIB, 5);
    mount.put_object("f", &want);
    mount.wait_for("f", "the file", |path| path.exists());
    let mut file = File::options().append(true).open(mount.path("f")).unwrap();
    file.write_all(b"the end").unwrap();
    sys::close(file).unwrap();
    want.extend_from_slice(b"the end");
    assert_same_bytes(&mount.object("f").unwrap(), &want, "the object");
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "the file");
}

#[test]
fn an_edit_of_a_long_object_sends_the_parts_that_changed_and_copies_the_rest() {
    let mount = Mount::builder()
        .args(["--part-size", "5MiB", "--log", "info,mediafs=debug"])
        .start();
    let mut body = pattern(42 * MIB, 5);
    mount.put_object("f", &body);
    mount.wait_for("f", "the file", |path| path.exists());
    let requests = || ["UploadPart", "UploadPartCopy", "GetObject"].map(|op| mount.requests(op));

    let mut appended = File::options().append(true).open(mount.path("f"));
    appended.as_mut().unwrap().write_all(b"appended").unwrap();
    sys::close(appended.unwrap()).unwrap();
    body.extend(b"appended");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "appended");
    let [sent, copied, read] = requests();
    assert_eq!(
        (sent, copied),
        (1, 1),
        "the last part, and the others at once"
    );
    assert!(read <= 2, "{read} reads for the rest of a part");

    let edited = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    edited.write_all_at(b"edited", 21 * MIB as u64).unwrap();
    sys::close(edited).unwrap();
    body[21 * MIB..21 * MIB + 6].copy_from_slice(b"edited");
    assert_same_bytes(&mount.object("f").unwrap(), &body, "edited");
    let [sent, copied, _] = requests();
    assert_eq!(
        (sent, copied),
        (2, 3),
        "one part, and those before and behind it"
    );

    let before = requests();
    let cut = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    cut.set_len(33 * MIB as u64 + 7).unwrap();
    sys::close(cut).unwrap();
    body.truncate(33 * MIB + 7);
    assert_same_bytes(&mount.object("f").unwrap(), &body, "cut");
    let [sent, copied, read] = requests();
    assert_eq!((sent, copied, read), (before[0], before[1] + 1, before[2]));
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "read");
}

#[test]
fn a_long_object_that_another_client_replaces_during_an_edit_is_not_mixed_with_it() {
    let mount = Mount::builder().args(["--part-size", "5MiB"]).start();
    mount.put_object("f", &pattern(22 * MIB, 5));
    mount.wait_for("f", "the file", |path| path.exists());
    let edited = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    edited.write_all_at(b"edited", 11 * MIB as u64).unwrap();
    let theirs = pattern(22 * MIB, 6);
    mount.put_object("f", &theirs);
    assert_eq!(sys::errno(sys::close(edited)), libc::ESTALE);
    assert_same_bytes(&mount.object("f").unwrap(), &theirs, "theirs");
}
