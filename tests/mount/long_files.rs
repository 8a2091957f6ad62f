//! Files that are longer than the spool: parts that S3 has leave it while they are
//! being written.

mod edits;
mod kills;
mod losses;
mod others;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use rustix::fs::Advice;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy, Side};
use crate::support::rule::Rule;
use crate::support::{Mount, MountBuilder, Server, pattern, sha256, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
const PART: usize = 5 * MIB;
/// Of the spool of most tests: four parts and some more.
const SPOOL: usize = 24 * MIB;

fn behind_a_proxy(durability: &str, spool: &str) -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &proxy.endpoint);
    let plan = plan
        .args(["--part-size", "5MiB", "--spool-size", spool])
        .args(["--durability", durability]);
    (plan, proxy)
}

fn new_file(mount: &Mount, name: &str) -> File {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    options.open(mount.path(name)).unwrap()
}

/// A file that is open and about twice as long as the spool.
fn long_file(mount: &Mount, name: &str, body: &[u8]) -> File {
    let mut file = new_file(mount, name);
    for piece in body.chunks(MIB) {
        file.write_all(piece).unwrap();
    }
    file
}

/// Has the kernel forget the file's pages, so that a read comes to the daemon.
fn drop_pages(file: &File) {
    rustix::fs::fadvise(file, 0, None, Advice::DontNeed).unwrap();
}

fn read(file: &File, at: usize, len: usize) -> std::io::Result<Vec<u8>> {
    drop_pages(file);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at as u64)?;
    Ok(bytes)
}

/// What the stages take of the disk.
fn spool_bytes(mount: &Mount) -> u64 {
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    let sizes = stages.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.blocks() * 512));
    sizes.sum()
}

fn nothing_is_left(mount: &Mount) {
    wait_until(WITHIN, "an empty spool and no unfinished upload", || {
        let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
        let uploads = mount.client().unfinished_uploads(mount.bucket());
        stages.count() == 0 && uploads.is_empty()
    });
}

/// The only file in lost+found: what is said of it to be there is, the rest is named.
fn kept_with_what_is_missing(mount: &Mount, body: &[u8]) {
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found().len() == 1
    });
    let sidecar: serde_json::Value = serde_json::from_str(&mount.sidecars()[0]).unwrap();
    let kept = mount.lost_and_found().remove(0);
    let ranges = |name: &str| -> Vec<(usize, usize)> {
        let ranges = sidecar[name].as_array().unwrap().iter();
        let number = |it: &serde_json::Value| it.as_u64().unwrap() as usize;
        ranges.map(|it| (number(&it[0]), number(&it[1]))).collect()
    };
    let (written, missing) = (ranges("written"), ranges("missing"));
    assert!(!missing.is_empty() && missing[0].0 >= PART, "{sidecar}");
    for (start, end) in written.iter().copied() {
        assert_same_bytes(&kept[start..end], &body[start..end], "kept");
    }
    let all: usize = written.iter().chain(&missing).map(|(a, b)| b - a).sum();
    assert_eq!(all, kept.len(), "every byte is here or said to be missing");
    assert_eq!(sidecar["whole"], false);
    let reason = sidecar["reason"].as_str().unwrap();
    assert!(reason.contains("only in an unfinished upload"), "{reason}");
}

#[test]
fn a_file_longer_than_the_spool_arrives_whole_and_each_part_is_sent_once() {
    for (durability, parts) in [("s3", 24), ("disk", 16)] {
        let (plan, proxy) = behind_a_proxy(durability, "64MiB");
        let mount = plan.start();
        let body = pattern(parts * PART, 1);
        let mut file = new_file(&mount, "f");
        for piece in body.chunks(MIB) {
            file.write_all(piece).unwrap();
            assert!(spool_bytes(&mount) <= 65 * MIB as u64);
        }
        assert!(mount.keys().is_empty(), "nothing is seen before close");
        sys::close(file).unwrap();
        // Also with durability on the disk: S3 has it all now.
        assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body));
        assert_eq!(proxy.seen("UploadPart"), parts, "{durability}");
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        assert_eq!(proxy.seen("CompleteMultipartUpload"), 1);
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
        let read = fs::read(mount.path("f")).unwrap();
        assert_same_bytes(&read, &body, "read back");
    }
}

#[test]
fn what_has_left_the_spool_is_neither_read_nor_changed_before_close_and_never_zeros() {
    for durability in ["s3", "disk"] {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.start();
        let mut body = pattern(2 * SPOOL, 1);
        let file = long_file(&mount, "f", &body);
        // Its first part and its last bytes are here.
        assert_same_bytes(&read(&file, 0, MIB).unwrap(), &body[..MIB], "the first");
        let last = body.len() - MIB;
        assert_same_bytes(&read(&file, last, MIB).unwrap(), &body[last..], "the last");
        assert_eq!(sys::errno(read(&file, 6 * MIB, 10)), libc::ENOSPC);
        assert_eq!(
            sys::errno(file.write_at(b"x", 6 * MIB as u64)),
            libc::ENOSPC
        );
        assert_eq!(sys::errno(file.set_len(7 * MIB as u64)), libc::ENOSPC);
        let other = sys::open(mount.path("f"), libc::O_RDONLY).unwrap();
        assert_eq!(sys::errno(read(&other, 6 * MIB, 10)), libc::ENOSPC);
        // As a program that writes the beginning of its file last.
        file.write_all_at(b"header", 0).unwrap();
        body[..6].copy_from_slice(b"header");
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
        assert_same_bytes(
            &read(&other, 6 * MIB, 10).unwrap(),
            &body[6 * MIB..6 * MIB + 10],
            "now",
        );
        nothing_is_left(&mount);
    }
}

#[test]
fn a_file_of_which_parts_have_left_the_spool_keeps_its_name_until_it_is_closed() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let body = pattern(2 * SPOOL, 1);
    fs::create_dir(mount.path("d")).unwrap();
    let file = long_file(&mount, "d/f", &body);
    let moved = |from: &str, to: &str| fs::rename(mount.path(from), mount.path(to));
    assert_eq!(sys::errno(moved("d/f", "g")), libc::ENOSPC);
    assert_eq!(sys::errno(moved("d", "e")), libc::ENOSPC);
    sys::close(file).unwrap();
    moved("d/f", "d/g").unwrap();
    moved("d", "e").unwrap();
    assert_same_bytes(&mount.object("e/g").unwrap(), &body, "the object");
    // Removed while it is written, it leaves nothing.
    let file = long_file(&mount, "removed", &body);
    fs::remove_file(mount.path("removed")).unwrap();
    assert_eq!(sys::errno(read(&file, 6 * MIB, 10)), libc::ENOSPC);
    assert_same_bytes(&read(&file, 0, MIB).unwrap(), &body[..MIB], "the first");
    sys::close(file).unwrap();
    nothing_is_left(&mount);
    assert_eq!(mount.keys(), ["e/g"]);
}

#[test]
fn a_file_is_cut_between_parts_that_have_left_the_spool_and_written_on() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let mut body = pattern(2 * SPOOL, 1);
    let file = long_file(&mount, "f", &body);
    file.set_len(2 * PART as u64).unwrap();
    let more = pattern(2 * SPOOL, 2);
    for (at, piece) in more.chunks(MIB).enumerate() {
        file.write_all_at(piece, (2 * PART + at * MIB) as u64)
            .unwrap();
    }
    // A hole, so that the parts at its start are cut another way.
    let end = 2 * PART + more.len() + 100 * MIB;
    file.write_all_at(b"end", end as u64).unwrap();
    sys::close(file).unwrap();
    body.truncate(2 * PART);
    body.extend(&more);
    body.resize(end, 0);
    body.extend(b"end");
    assert_eq!(sha256(&mount.object("f").unwrap()), sha256(&body));
    // And started again.
    let file = long_file(&mount, "g", &body[..2 * SPOOL]);
    file.set_len(0).unwrap();
    file.write_all_at(b"short", 0).unwrap();
    sys::close(file).unwrap();
    assert_eq!(mount.object("g").unwrap(), b"short");
    nothing_is_left(&mount);
}

#[test]
fn an_fsync_makes_what_is_written_an_object() {
    for durability in ["s3", "disk"] {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.start();
        let mut body = pattern(2 * SPOOL, 1);
        let mut file = long_file(&mount, "f", &body);
        file.sync_all().unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, "after fsync");
        assert_same_bytes(
            &read(&file, 6 * MIB, 10).unwrap(),
            &body[6 * MIB..6 * MIB + 10],
            "read",
        );
        file.write_all(b"and on").unwrap();
        body.extend(b"and on");
        sys::close(file).unwrap();
        wait_until(WITHIN, "the rest", || mount.object("f").unwrap() == body);
        nothing_is_left(&mount);
    }
}

#[test]
fn a_short_file_has_room_beside_a_long_one() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let body = pattern(2 * SPOOL, 1);
    let file = long_file(&mount, "long", &body);
    for number in 0..8 {
        let short = pattern(MIB, number);
        fs::write(mount.path(format!("short-{number}")), &short).unwrap();
        let object = mount.object(&format!("short-{number}"));
        assert_same_bytes(&object.unwrap(), &short, "short");
    }
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("long").unwrap(), &body, "long");
}

#[test]
fn while_s3_refuses_parts_a_writer_waits_or_gets_enospc_in_time() {
    let (plan, proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.args(["--request-timeout", "10s"]).start();
    let body = pattern(4 * SPOOL, 1);
    let mut file = long_file(&mount, "f", &body[..2 * SPOOL]);
    // For a while.
    let refusing = Rule::on("UploadPart", Fault::Answer(503, "SlowDown"));
    proxy.rule(refusing.times(15));
    for piece in body[2 * SPOOL..].chunks(MIB) {
        file.write_all(piece).unwrap();
    }
    // For good.
    proxy.rule(Rule::on("UploadPart", Fault::Answer(503, "SlowDown")).always());
    let began = Instant::now();
    let refused = loop {
        if let Err(error) = file.write_all(&body[..MIB]) {
            break error;
        }
    };
    assert_eq!(refused.raw_os_error(), Some(libc::ENOSPC));
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "{:?}",
        began.elapsed()
    );
    // What was written before is there as soon as S3 takes it.
    proxy.heal();
    sys::close(file).unwrap();
    let object = mount.object("f").unwrap();
    assert_same_bytes(&object[..body.len()], &body, "the object");
    nothing_is_left(&mount);
}

#[test]
fn a_part_whose_request_hangs_keeps_no_other_part_in_the_spool() {
    let (plan, proxy) = behind_a_proxy("s3", "24MiB");
    // A writer waits for room as long as that; the other parts may take their time.
    let mount = plan.args(["--request-timeout", "120s"]).start();
    let second = Rule::on("UploadPart", Fault::Pass).after(1);
    let gate = proxy.hold(Side::BeforeServer, second);
    // No other part is there when the spool is full again.
    let slow = Fault::AnswerLate(Duration::from_secs(1));
    proxy.rule(Rule::on("UploadPart", slow).always());
    let body = pattern(4 * SPOOL, 1);
    let file = long_file(&mount, "f", &body);
    gate.open();
    proxy.heal();
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
    nothing_is_left(&mount);
}

#[test]
fn a_whole_replacement_longer_than_the_spool_takes_the_place_of_what_is_there_by_then() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    fs::write(mount.path("f"), b"before").unwrap();
    let mut file = sys::open(mount.path("f"), libc::O_WRONLY | libc::O_TRUNC).unwrap();
    let body = pattern(2 * SPOOL, 1);
    body.chunks(MIB)
        .for_each(|piece| file.write_all(piece).unwrap());
    mount.put_object("f", b"theirs");
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "the last close wins");
    nothing_is_left(&mount);
}

/// Its parts so far are of the old name, and of no use.
#[test]
fn a_file_that_was_renamed_before_the_spool_was_full_leaves_it_under_its_new_name() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let body = pattern(3 * SPOOL, 1);
    let mut file = long_file(&mount, "f", &body[..SPOOL - 8 * MIB]);
    fs::rename(mount.path("f"), mount.path("g")).unwrap();
    body[SPOOL - 8 * MIB..]
        .chunks(MIB)
        .for_each(|piece| file.write_all(piece).unwrap());
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("g").unwrap(), &body, "the object");
    nothing_is_left(&mount);
    assert_eq!(mount.keys(), ["g"]);
}

#[test]
fn what_cannot_leave_the_spool_is_enospc_as_before() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let mut body = pattern(4 * SPOOL, 1);
    mount.put_object("f", &body);
    mount.wait_for("f", "their object", |path| path.exists());
    let file = sys::open(mount.path("f"), libc::O_RDWR).unwrap();
    let edit = pattern(4 * SPOOL, 2);
    // Half of each part: none is whole here.
    let mut places = (0..4 * SPOOL).step_by(2 * MIB);
    let refused = places.find_map(|at| {
        let piece = &edit[at..at + MIB];
        let written = file.write_all_at(piece, at as u64);
        if written.is_ok() {
            body[at..at + MIB].copy_from_slice(piece);
        }
        written.err()
    });
    assert_eq!(refused.unwrap().raw_os_error(), Some(libc::ENOSPC));
    sys::close(file).unwrap();
    assert_same_bytes(&mount.object("f").unwrap(), &body, "what was taken");
}
