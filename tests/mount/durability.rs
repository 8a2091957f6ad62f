//! What close(2) and fsync(2) promise, kept through kills and outages.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::{Mount, MountBuilder, Server, Worker, pattern, sys, wait_until};
use libc::{O_CREAT, O_EXCL, O_RDWR, O_WRONLY};

const WITHIN: Duration = Duration::from_secs(60);
/// What a busy server answers in, and what a frozen one is waited for.
const REQUEST_TIMEOUT: &str = "6s";

fn disk(plan: MountBuilder) -> MountBuilder {
    plan.args(["--durability", "disk"])
        .set("--ttl", "1h")
        .args(["--request-timeout", REQUEST_TIMEOUT, "--negative-ttl", "1h"])
}

fn spool_is_empty(mount: &Mount) {
    wait_until(WITHIN, "an empty spool", || {
        let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
        stages.count() == 0
    });
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn a_closed_file_is_in_the_bucket_soon_and_the_spool_is_empty_then() {
    let mount = disk(Mount::builder()).start();
    for (name, len) in [("a", 0), ("b.txt", 10), ("c.png", 20 * MIB)] {
        let body = pattern(len, len as u64);
        fs::write(mount.path(name), &body).unwrap();
        assert_same_bytes(&fs::read(mount.path(name)).unwrap(), &body, "at once");
        mount.wait_until_uploaded(name, &body);
    }
    let head = mount.client().head(mount.bucket(), "c.png").unwrap();
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    spool_is_empty(&mount);
}

#[test]
fn with_s3_down_files_are_written_read_renamed_and_removed_and_arrive_later() {
    let server = Server::private();
    let plan = disk(Mount::on(&server));
    // The first object of a bucket takes it longer than the timeout. A mount that could not
    // find out what the store can do would ask while the server is frozen, and be killed.
    plan.client.put(&plan.bucket, "first", b"x");
    plan.client.delete(&plan.bucket, "first");
    let mut mount = plan.start();
    fs::write(mount.path("edited"), b"the first version").unwrap();
    mount.wait_until_uploaded("edited", b"the first version");
    // The listing is known, the bytes are cached.
    assert_eq!(
        fs::read(mount.path("edited")).unwrap(),
        b"the first version"
    );
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 1);

    server.freeze();
    fs::write(mount.path("new"), b"1").unwrap();
    fs::write(mount.path("new"), b"22").unwrap();
    fs::write(mount.path("new"), b"new").unwrap();
    fs::write(mount.path("moved.tmp"), b"moved").unwrap();
    fs::rename(mount.path("moved.tmp"), mount.path("moved.txt")).unwrap();
    fs::write(mount.path("gone"), b"gone").unwrap();
    fs::remove_file(mount.path("gone")).unwrap();
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(mount.path("log"));
    for line in 0..50 {
        let log = log.as_mut().unwrap();
        writeln!(log, "line {line}").unwrap();
        log.sync_all().unwrap();
    }
    drop(log);
    let want: String = (0..50).map(|line| format!("line {line}\n")).collect();
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap(), want);
    assert_eq!(fs::read(mount.path("new")).unwrap(), b"new");

    // The daemon dies with all of it, and the next one has it.
    mount.kill9();
    server.thaw();
    mount.remount();
    assert_eq!(fs::read(mount.path("new")).unwrap(), b"new");
    assert_eq!(fs::read(mount.path("moved.txt")).unwrap(), b"moved");
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap(), want);
    assert!(!mount.path("gone").exists());
    assert!(!mount.path("moved.tmp").exists());
    mount.wait_until_uploaded("new", b"new");
    mount.wait_until_uploaded("moved.txt", b"moved");
    mount.wait_until_uploaded("log", want.as_bytes());
    spool_is_empty(&mount);
    mount.wait_for_keys("what is left", |keys| {
        keys == ["edited", "log", "moved.txt", "new"]
    });
}

#[test]
fn an_edit_that_was_acknowledged_before_a_kill_is_in_the_bucket_after_the_next_start() {
    let mut mount = disk(Mount::builder()).start();
    let mut want = pattern(9 * MIB, 1);
    fs::write(mount.path("f"), &want).unwrap();
    mount.wait_until_uploaded("f", &want);
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    file.write_all_at(b"edited", 5 * MIB as u64).unwrap();
    want[5 * MIB..5 * MIB + 6].copy_from_slice(b"edited");
    sys::close(file).unwrap();
    mount.kill9();
    mount.remount();
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &want, "after the kill");
    mount.wait_until_uploaded("f", &want);
    spool_is_empty(&mount);
}

#[test]
fn what_was_closed_is_exact_after_kills_at_any_time() {
    let mut mount = disk(Mount::builder()).start();
    fs::create_dir(mount.path("d")).unwrap();
    for round in 0..6_u64 {
        let mut worker = Worker::at(&mount.root);
        let mut closed = Vec::new();
        for number in 0..5 {
            let name = format!("d/{round}-{number}");
            worker.write_new(&name, &format!("body of {name}"));
            worker.run("os.close(fd)").unwrap();
            closed.push(name);
        }
        worker.write_new(&format!("d/{round}-open"), "half a");
        // Uploads are under way, some done, some not begun.
        std::thread::sleep(Duration::from_millis(round * 7));
        mount.kill9();
        drop(worker);
        mount.remount();
        for name in &closed {
            let want = format!("body of {name}");
            assert_eq!(fs::read_to_string(mount.path(name)).unwrap(), want);
        }
        for name in &closed {
            mount.wait_until_uploaded(name, format!("body of {name}").as_bytes());
        }
    }
    assert_eq!(mount.lost_and_found().len(), 6, "one open file a kill");
    assert!(
        mount
            .lost_and_found()
            .iter()
            .all(|bytes| bytes == b"half a")
    );
    assert!(mount.sidecars().iter().all(|text| text.contains("-open\"")));
    assert!(mount.keys().iter().all(|key| !key.contains("open")));
}

#[test]
fn an_exclusive_create_whose_answer_was_lost_in_a_kill_is_known_for_our_own() {
    let mut mount = disk(Mount::builder()).start();
    let mut file = sys::open(mount.path("lock"), O_WRONLY | O_CREAT | O_EXCL).unwrap();
    file.write_all(b"mine").unwrap();
    sys::close(file).unwrap();
    mount.wait_until_uploaded("lock", b"mine");
    // As after a kill between the upload and the journal's line: the journal
    // of before it, and the stage.
    mount.unmount();
    let spool = mount.scratch().join("spool");
    fs::write(spool.join("stage/0000000000000001"), b"mine").unwrap();
    let record = concat!(
        r#"{"record":"sealed","stage":1,"key":"lock","headers":{"content_type":null,"#,
        r#""cache_control":null,"content_disposition":null,"content_encoding":null,"#,
        r#""content_language":null,"user_metadata":{}},"condition":"IfAbsent","len":4,"#,
        r#""base_len":0,"written":[{"start":0,"end":4}],"base":"empty"}"#
    );
    let crc = crc32fast::hash(record.as_bytes());
    let journal = format!("mediafs-journal 1\n{crc:08x} {record}\n");
    fs::write(spool.join("journal"), journal).unwrap();
    mount.remount();
    assert_eq!(fs::read(mount.path("lock")).unwrap(), b"mine");
    spool_is_empty(&mount);
    assert_eq!(mount.object("lock").unwrap(), b"mine");
}

#[test]
fn a_lost_race_that_shows_after_close_leaves_the_winner_and_keeps_the_bytes() {
    let server = Server::private();
    let mount = disk(Mount::on(&server)).start();
    fs::write(mount.path("f"), b"the first version").unwrap();
    mount.wait_until_uploaded("f", b"the first version");
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    file.write_all_at(b"EDITED", 0).unwrap();
    mount.put_object("f", b"another client's");
    sys::close(file).unwrap();
    wait_until(WITHIN, "the bytes in lost+found", || {
        !mount.lost_and_found().is_empty()
    });
    assert_eq!(mount.object("f").unwrap(), b"another client's");
    mount.wait_for("f", "the winner", |path| {
        fs::read(path).is_ok_and(|bytes| bytes == b"another client's")
    });
    assert!(mount.sidecars()[0].contains("changed by another client"));
}

#[test]
fn a_stop_with_s3_down_leaves_the_rest_to_the_next_mount() {
    let server = Server::private();
    let mut mount = disk(Mount::on(&server))
        .args(["--drain-timeout", "2s"])
        .start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    server.freeze();
    fs::write(mount.path("f"), b"bytes").unwrap();
    mount.unmount();
    server.thaw();
    mount.remount();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
    mount.wait_until_uploaded("f", b"bytes");
    spool_is_empty(&mount);
}

#[test]
fn a_file_sealed_when_the_daemon_was_killed_is_uploaded_by_its_successor() {
    let server = Server::private();
    let mut mount = Mount::on(&server).start();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "whole");
    server.freeze();
    let closing = std::thread::spawn(move || worker.run("os.close(fd)"));
    wait_until(WITHIN, "the journal's line", || {
        let journal = fs::read(mount.scratch().join("spool/journal")).unwrap();
        String::from_utf8_lossy(&journal).contains("sealed")
    });
    mount.kill9();
    assert!(closing.join().unwrap().is_err(), "nothing was acknowledged");
    server.thaw();
    mount.remount();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"whole");
    mount.wait_until_uploaded("f", b"whole");
    spool_is_empty(&mount);
}

#[test]
fn a_full_spool_is_enospc_at_write_and_has_room_again_once_uploads_end() {
    let server = Server::private();
    let mount = disk(Mount::on(&server))
        .args(["--spool-size", "4MiB"])
        .start();
    fs::write(mount.path("before"), b"x").unwrap();
    mount.wait_until_uploaded("before", b"x");
    assert_eq!(fs::read(mount.path("before")).unwrap(), b"x");
    server.freeze();
    let body = pattern(3 * MIB, 1);
    fs::write(mount.path("first"), &body).unwrap();
    let mut second = File::create(mount.path("second")).unwrap();
    second.write_all(&pattern(MIB, 2)).unwrap();
    let refused = second.write_all(&pattern(MIB, 3));
    assert_eq!(sys::errno(refused), libc::ENOSPC);
    // All else goes on; what is written already may be written again.
    second.write_all_at(b"again", 0).unwrap();
    assert_eq!(fs::read(mount.path("before")).unwrap(), b"x");
    assert_same_bytes(&fs::read(mount.path("first")).unwrap(), &body, "queued");

    server.thaw();
    mount.wait_until_uploaded("first", &body);
    wait_until(WITHIN, "room", || {
        second.write_all_at(&pattern(2 * MIB, 4), 0).is_ok()
    });
    sys::close(second).unwrap();
    mount.wait_until_uploaded("second", &pattern(2 * MIB, 4));
    spool_is_empty(&mount);
}

/// Flips one bit of the only stage in the spool, as a bad disk does.
#[track_caller]
fn flip_a_bit(mount: &Mount, at: u64) {
    let stages = fs::read_dir(mount.scratch().join("spool/stage")).unwrap();
    let paths: Vec<_> = stages.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 1);
    let stage = File::options()
        .read(true)
        .write(true)
        .open(&paths[0])
        .unwrap();
    let mut byte = [0];
    stage.read_exact_at(&mut byte, at).unwrap();
    stage.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

#[test]
fn a_flipped_bit_in_the_spool_is_never_uploaded_nor_served() {
    let server = Server::private();
    let mut mount = disk(Mount::on(&server)).start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    server.freeze();
    let body = pattern(3 * MIB, 5);
    fs::write(mount.path("f"), &body).unwrap();
    flip_a_bit(&mount, MIB as u64 + 5);
    mount.kill9();
    // What the journal says of the bytes is enough to find it.
    server.thaw();
    mount.remount();
    wait_until(WITHIN, "the bytes in lost+found", || {
        // They come there once their sidecar is written.
        mount.lost_and_found().len() == 1
    });
    assert!(mount.sidecars()[0].contains("do not match their checksum"));
    // The daemon may have sent them before the bit flipped, all of them, to a server
    // that carries it out now.
    for key in mount.keys() {
        assert_eq!(key, "f");
        assert!(
            mount.object("f").unwrap() == body,
            "other bytes in the bucket"
        );
    }
    let log = mount.log();
    assert!(log.contains("stage damaged on disk"), "{log}");
    assert_eq!(mount.lost_and_found()[0].len(), body.len());
}

#[test]
fn a_flipped_bit_under_an_open_file_is_eio_to_reader_and_close() {
    let mount = Mount::builder().start();
    let body = pattern(MIB, 5);
    let mut file = sys::open(mount.path("f"), O_RDWR | O_CREAT).unwrap();
    file.write_all(&body).unwrap();
    flip_a_bit(&mount, 300_000);
    let mut part = [0; 100];
    // Past the kernel's cache.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let outcome = file.read_exact_at(&mut part, 299_990);
    assert_eq!(sys::errno(outcome), libc::EIO);
    file.read_exact_at(&mut part, 700_000).unwrap();
    assert_eq!(part, body[700_000..700_100]);
    assert_eq!(sys::errno(sys::close(file)), libc::EIO);
    assert!(mount.keys().is_empty());
}

#[test]
fn a_file_that_took_a_stored_ones_name_and_was_removed_does_not_leave_the_old_one() {
    let server = Server::private();
    let mut mount = disk(Mount::on(&server)).start();
    fs::write(mount.path("f"), b"the old one").unwrap();
    mount.wait_until_uploaded("f", b"the old one");
    server.freeze();
    // Their uploads keep the next one waiting.
    for number in 0..20 {
        fs::write(mount.path(format!("before-{number}")), b"x").unwrap();
    }
    fs::write(mount.path("f.tmp"), b"the new one").unwrap();
    fs::rename(mount.path("f.tmp"), mount.path("f")).unwrap();
    fs::remove_file(mount.path("f")).unwrap();
    server.thaw();
    // Each that got no answer waits for what the store may still do.
    wait_until(Duration::from_secs(120), "the others", || {
        let keys = mount.keys();
        keys.len() == 20 && !keys.contains(&"f".to_owned())
    });
    mount.remount();
    assert!(!mount.path("f").exists());
}
