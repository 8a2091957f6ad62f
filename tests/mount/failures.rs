//! What applications see when S3 says no, or says nothing.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::control::{status, wait_for_health};
use crate::support::data::MIB;
use crate::support::proxy::{Fault, Rule};
use crate::support::servers::READER;
use crate::support::{Mount, Server, Worker, pattern, python, sys, wait_until};

/// Longer than the request timeout with its retries, shorter than for ever.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_refused_upload_fails_the_close_and_the_old_object_stays() {
    let plan = Mount::on(Server::seaweedfs());
    plan.client.put(&plan.bucket, "f", b"old");
    let mount = plan.credentials(&READER).start();
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(sys::errno(sys::close(file)), libc::EACCES);
    assert_eq!(mount.object("f").unwrap(), b"old");
}

#[test]
fn a_refused_upload_fails_the_fsync() {
    let plan = Mount::on(Server::seaweedfs());
    let mount = plan.credentials(&READER).start();
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"new").unwrap();
    assert_eq!(sys::errno(file.sync_all()), libc::EACCES);
    // The handle goes on to tell it.
    assert_eq!(sys::errno(sys::close(file)), libc::EACCES);
    assert_eq!(mount.keys(), Vec::<String>::new());
}

#[test]
fn a_refused_big_upload_fails_a_write_or_the_close() {
    let plan = Mount::on(Server::seaweedfs());
    let mount = plan.credentials(&READER).start();
    let mut file = File::create(mount.path("f")).unwrap();
    let written = file.write_all(&pattern(20 * MIB, 1));
    let closed = sys::close(file);
    assert_eq!(sys::errno(written.and(closed)), libc::EACCES);
}

#[test]
fn with_the_server_gone_close_and_fsync_fail_in_time_and_the_bytes_are_kept() {
    let server = Server::private();
    let mount = Mount::on(&server).args(["--request-timeout", "6s"]).start();
    let (mut syncing, mut closing) = (Worker::at(&mount.root), Worker::at(&mount.root));
    syncing.write_new("synced", "kept by fsync");
    closing.write_new("closed", "kept by close");
    server.kill();
    let start = Instant::now();
    assert_eq!(syncing.run("os.fsync(fd)"), Err(libc::EIO));
    assert_eq!(closing.run("os.close(fd)"), Err(libc::EIO));
    assert!(start.elapsed() < ANSWERED_WITHIN, "{:?}", start.elapsed());
    // Whatever becomes of the handle, it has been told.
    drop(syncing);
    let kept = [&b"kept by close"[..], b"kept by fsync"];
    wait_until(ANSWERED_WITHIN, "the bytes in lost+found", || {
        let mut found = mount.lost_and_found();
        found.sort();
        found == kept
    });
}

#[test]
fn a_server_that_never_answers_ends_in_an_error_and_all_is_well_when_it_does() {
    let server = Server::private();
    let plan = Mount::on(&server).args(["--request-timeout", "9s"]);
    plan.client.put(&plan.bucket, "unread", &pattern(MIB, 1));
    let mount = plan.start();
    let unread = mount.path("unread");
    assert_eq!(fs::metadata(&unread).unwrap().len(), MIB as u64);
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "bytes");
    server.freeze();
    let start = Instant::now();
    assert_eq!(worker.run("os.close(fd)"), Err(libc::EIO));
    let read = sys::errno(fs::read(&unread));
    assert!([libc::EIO, libc::ETIMEDOUT].contains(&read), "{read}");
    assert!(start.elapsed() < ANSWERED_WITHIN, "{:?}", start.elapsed());
    server.thaw();
    wait_until(ANSWERED_WITHIN, "reads work again", || {
        fs::read(&unread).is_ok()
    });
    wait_until(ANSWERED_WITHIN, "writes work again", || {
        fs::write(mount.path("g"), b"bytes").is_ok()
    });
    assert_eq!(mount.object("g").unwrap(), b"bytes");
}

#[test]
fn an_application_that_waits_for_s3_can_be_killed() {
    let server = Server::private();
    let plan = Mount::on(&server).args(["--request-timeout", "150s"]);
    plan.client.put(&plan.bucket, "f", &pattern(MIB, 1));
    let mount = plan.start();
    assert!(mount.path("f").exists());
    server.freeze();
    let mut reader = Command::new(python())
        .args([
            "-c",
            "import sys; print('go', flush=True); open(sys.argv[1],'rb').read()",
        ])
        .arg(mount.path("f"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    let mut output = reader.stdout.take().unwrap();
    std::io::Read::read_exact(&mut output, &mut said).unwrap();
    let wchan = format!("/proc/{}/wchan", reader.id());
    wait_until(ANSWERED_WITHIN, "the reader waits in FUSE", || {
        let place = fs::read_to_string(&wchan).unwrap();
        place.contains("fuse") || place.contains("request_wait") || place.contains("folio")
    });
    reader.kill().unwrap();
    wait_until(ANSWERED_WITHIN, "the reader's end", || {
        reader.try_wait().unwrap().is_some()
    });
    server.thaw();
    assert!(fs::metadata(&mount.root).unwrap().is_dir());
}

#[test]
fn names_that_cannot_be_keys_are_refused_with_their_own_error() {
    use std::os::unix::ffi::OsStrExt;
    let mount = Mount::fresh();
    let latin = std::ffi::OsStr::from_bytes(b"caf\xe9");
    assert_eq!(sys::errno(File::create(mount.path(latin))), libc::EILSEQ);
    let long = "x".repeat(256);
    assert_eq!(
        sys::errno(File::create(mount.path(long))),
        libc::ENAMETOOLONG
    );
    let mut deep = mount.root.clone();
    for _ in 0..5 {
        deep.push("d".repeat(200));
    }
    fs::create_dir_all(&deep).unwrap();
    let too_deep = File::create(deep.join("f".repeat(100)));
    assert_eq!(sys::errno(too_deep), libc::ENAMETOOLONG);
}

#[test]
fn keys_that_cannot_be_names_are_hidden_and_harm_nothing() {
    let plan = Mount::on(Server::moto());
    for key in ["good", "a//b", "./dot", "../up", "x", "x/y"] {
        plan.client.put(&plan.bucket, key, key.as_bytes());
    }
    plan.client.put(&plan.bucket, &"n".repeat(300), b"long");
    let mount = plan.start();
    let mut names: Vec<String> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    // The directory `a` is there for the sake of a key that it cannot show.
    names.retain(|name| name != "a");
    assert_eq!(names, ["good", "x"]);
    assert!(
        fs::metadata(mount.path("x")).unwrap().is_dir(),
        "the directory wins"
    );
    assert_eq!(fs::read(mount.path("x/y")).unwrap(), b"x/y");
}

#[test]
fn a_store_that_fails_at_writes_alone_is_told_by_status_and_health() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = plan.args(["--request-timeout", "6s"]).start();
    wait_for_health(&mount, "alive");
    let broken = Fault::Answer(500, "InternalError");
    proxy.rule(Rule::on("PutObject", broken).always());
    let mut file = File::create(mount.path("f")).unwrap();
    file.write_all(b"bytes").unwrap();
    assert_eq!(sys::errno(sys::close(file)), libc::EIO);
    wait_for_health(&mount, "degraded");
    let told = status(&mount);
    assert!(
        told["reasons"][0]
            .as_str()
            .unwrap()
            .contains("changes in a row failed"),
        "{told:#}"
    );
    assert!(!told["s3"]["last_failure"].is_null(), "{told:#}");
    proxy.heal();
    fs::write(mount.path("f"), b"bytes").unwrap();
    wait_for_health(&mount, "alive");
}
