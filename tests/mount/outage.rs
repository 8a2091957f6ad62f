//! While S3 does not serve, and after.

mod end;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::notify::NotifySocket;
use crate::support::programs::said;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::servers::{Credentials, OWNER, SUCCESSOR};
use crate::support::{Mount, MountBuilder, Server, Worker, pattern, sys, wait_until};
use rustix::process::Signal;

const WITHIN: Duration = Duration::from_secs(60);
/// Of many calls, each of which would take the request timeout if it waited for S3.
const AT_ONCE: Duration = Duration::from_secs(25);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;
const TTL: Duration = Duration::from_secs(1);

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::seaweedfs());
    let plan = Mount::on(Server::seaweedfs()).set("--endpoint-url", &proxy.endpoint);
    (plan, proxy)
}

fn names(mount: &Mount, path: &str) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(mount.path(path))? {
        names.push(entry?.file_name().into_string().unwrap());
    }
    names.sort();
    Ok(names)
}

/// Waits until what S3 said is older than the ttl.
fn expire() {
    let began = Instant::now();
    wait_until(WITHIN, "the ttl", || began.elapsed() > 2 * TTL);
}

#[track_caller]
fn told_once(mount: &Mount, what: &str) {
    wait_until(WITHIN, what, || mount.log().contains(what));
    let log = mount.log();
    assert_eq!(log.matches(what).count(), 1, "{log}");
}

/// A directory that has been listed and whose file has been read.
fn known_files(plan: MountBuilder) -> (Mount, Vec<u8>) {
    let body = pattern(3 * MIB, 1);
    plan.client.put(&plan.bucket, "d/read", &body);
    plan.client.put(&plan.bucket, "d/listed", b"never read");
    plan.client.put(&plan.bucket, "e/f", b"never seen");
    let mount = plan.start();
    assert_eq!(names(&mount, "").unwrap(), ["d", "e"]);
    assert_eq!(names(&mount, "d").unwrap(), ["listed", "read"]);
    assert_same_bytes(&fs::read(mount.path("d/read")).unwrap(), &body, "before");
    (mount, body)
}

#[track_caller]
fn what_is_known_goes_on(mount: &Mount, body: &[u8]) {
    for _ in 0..3 {
        assert_eq!(names(mount, "").unwrap(), ["d", "e"]);
        assert_eq!(names(mount, "d").unwrap(), ["listed", "read"]);
        let listed = fs::metadata(mount.path("d/listed")).unwrap();
        assert_eq!(listed.len(), 10);
        let read = fs::read(mount.path("d/read")).unwrap();
        assert_same_bytes(&read, body, "in the outage");
    }
}

#[test]
fn with_s3_gone_known_names_and_cached_bytes_go_on_and_all_works_again_after() {
    let (plan, proxy) = behind_a_proxy();
    let (mount, body) = known_files(plan.args(["--request-timeout", "6s"]));
    proxy.all_down();
    expire();
    what_is_known_goes_on(&mount, &body);
    let began = Instant::now();
    what_is_known_goes_on(&mount, &body);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    // What is not known is not taken for absent, nor are bytes for empty.
    let unread = sys::errno(fs::read(mount.path("d/listed")));
    assert_eq!(unread, libc::EIO);
    let unknown = sys::errno(fs::metadata(mount.path("e/f")));
    assert_eq!(unknown, libc::ETIMEDOUT);
    let mut worker = Worker::at(&mount.root);
    worker.write_new("d/new", "bytes");
    assert_eq!(worker.run("os.close(fd)"), Err(libc::EIO));
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found() == [b"bytes"]
    });
    assert!(mount.sidecars()[0].contains("upload failed"));
    let replace = libc::O_WRONLY | libc::O_TRUNC;
    let mut file = sys::open(mount.path("d/read"), replace).unwrap();
    file.write_all(b"other bytes").unwrap();
    assert_eq!(sys::errno(sys::close(file)), libc::EIO);
    wait_until(WITHIN, "the bytes in lost+found", || {
        mount.lost_and_found().len() == 2
    });
    // Whatever S3 may have of them, what it said of all else goes on.
    what_is_known_goes_on(&mount, &body);
    told_once(&mount, "S3 unreachable since");

    mount
        .client()
        .put(mount.bucket(), "d/since", b"another client's");
    proxy.heal();
    told_once(&mount, "S3 serves again");
    mount.wait_for("d/since", "what came meanwhile", |path| path.exists());
    assert_eq!(fs::read(mount.path("d/listed")).unwrap(), b"never read");
    fs::write(mount.path("d/new"), b"again").unwrap();
    assert_eq!(mount.object("d/new").unwrap(), b"again");
    assert_eq!(
        names(&mount, "d").unwrap(),
        ["listed", "new", "read", "since"]
    );
}

#[test]
fn with_s3_silent_known_names_and_cached_bytes_go_on_until_the_stale_ttl() {
    let server = Server::private();
    let plan = Mount::on(&server).args(["--request-timeout", "6s", "--stale-ttl", "25s"]);
    let (mount, body) = known_files(plan);
    server.freeze();
    let frozen = Instant::now();
    expire();
    what_is_known_goes_on(&mount, &body);
    wait_until(WITHIN, "the stale ttl", || {
        frozen.elapsed() > Duration::from_secs(27)
    });
    let late = sys::errno(fs::metadata(mount.path("d/read")));
    assert_eq!(late, libc::ETIMEDOUT, "not known, and not absent");
    server.thaw();
    wait_until(WITHIN, "all works again", || {
        fs::read(mount.path("d/read")).is_ok()
    });
    what_is_known_goes_on(&mount, &body);
}

/// Long copies may take S3 minutes, and that of a short file no longer than any request.
#[test]
fn a_copy_or_completion_of_a_short_file_that_hangs_is_given_up_soon() {
    let (plan, proxy) = behind_a_proxy();
    let plan = plan.args(["--attributes", "stored", "--part-size", "5MiB"]);
    let mount = plan.args(["--request-timeout", "9s"]).start();
    let names = ["chmod", "mv", "cp"];
    for name in names {
        fs::write(mount.path(name), name).unwrap();
    }
    let long = pattern(6 * MIB, 1);
    let new = fs::File::create(mount.path("long")).unwrap();
    (&new).write_all(&long).unwrap();
    for op in ["CopyObject", "CompleteMultipartUpload"] {
        proxy.rule(Rule::on(op, Fault::Stall).always());
    }
    let path = |name: &str| mount.path(name);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| fs::set_permissions(path("chmod"), mode).unwrap_err());
        scope.spawn(|| fs::rename(path("mv"), path("moved")).unwrap_err());
        scope.spawn(|| fs::copy(path("cp"), path("copy")).unwrap_err());
        scope.spawn(|| sys::close(new).unwrap_err());
    });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(100), "{took:?}");
    proxy.heal();
    for name in names {
        assert_eq!(fs::read(path(name)).unwrap(), name.as_bytes());
    }
}

#[test]
fn with_s3_down_writes_to_the_disk_queue_and_drain_in_order_when_it_is_back() {
    let (plan, proxy) = behind_a_proxy();
    let plan = plan.args(["--request-timeout", "6s", "--durability", "disk"]);
    let (mount, _) = known_files(plan);
    proxy.all_down();
    expire();
    for round in 0..20 {
        fs::write(mount.path("d/again"), format!("round {round}")).unwrap();
        fs::write(mount.path(format!("d/new-{round}")), b"new").unwrap();
    }
    fs::write(mount.path("d/read"), b"another body").unwrap();
    assert_eq!(fs::read(mount.path("d/again")).unwrap(), b"round 19");
    told_once(&mount, "S3 unreachable since");
    proxy.heal();
    wait_until(WITHIN, "the uploads", || {
        mount.object("d/again").as_deref() == Some(b"round 19")
            && mount.object("d/read").as_deref() == Some(b"another body")
            && mount.keys().len() == 24
    });
    assert!(mount.lost_and_found().is_empty());
    told_once(&mount, "S3 serves again");
}

#[test]
fn the_status_tells_of_an_outage_and_of_its_end() {
    let manager = NotifySocket::new();
    let (plan, proxy) = behind_a_proxy();
    let plan = plan.env("NOTIFY_SOCKET", manager.path());
    let mount = plan.args(["--request-timeout", "6s"]).start();
    proxy.all_down();
    assert!(fs::metadata(mount.path("unknown")).is_err());
    let told = manager.wait_for(WITHIN, |line| line.contains("S3 unreachable since 2"));
    assert!(told.contains("STATUS=serving"), "{told}");
    proxy.heal();
    manager.wait_for(WITHIN, |line| {
        line.starts_with("STATUS=serving") && !line.contains("unreachable")
    });
}

fn credentials_file(plan: &MountBuilder, credentials: &Credentials) -> PathBuf {
    let path = plan.scratch().join("credentials");
    write_credentials(&path, credentials);
    path
}

fn write_credentials(path: &PathBuf, credentials: &Credentials) {
    let text = format!(
        "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
        credentials.access_key, credentials.secret_key
    );
    // As a tool does that wants no reader to see half of it.
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn with_credentials_in_a_file() -> (MountBuilder, Proxy, PathBuf) {
    let (plan, proxy) = behind_a_proxy();
    let file = credentials_file(&plan, &OWNER);
    let plan = plan
        .without_credentials()
        .env("AWS_SHARED_CREDENTIALS_FILE", &file)
        .set("--ttl", "0");
    (plan, proxy, file)
}

#[test]
fn credentials_that_are_replaced_and_revoked_are_read_anew_and_nothing_fails() {
    let (plan, proxy, file) = with_credentials_in_a_file();
    let mount = plan.start();
    fs::write(mount.path("before"), b"1").unwrap();
    write_credentials(&file, &SUCCESSOR);
    proxy.revoke(&OWNER.access_key);
    fs::write(mount.path("after"), b"2").unwrap();
    assert_eq!(fs::read(mount.path("before")).unwrap(), b"1");
    fs::rename(mount.path("after"), mount.path("moved")).unwrap();
    fs::remove_file(mount.path("before")).unwrap();
    mount.wait_for_keys("what is left", |keys| keys == ["moved"]);
    assert_eq!(mount.object("moved").unwrap(), b"2");
}

#[test]
fn credentials_that_are_revoked_before_they_are_replaced_hold_up_what_waits_for_s3() {
    let (plan, proxy, file) = with_credentials_in_a_file();
    let mount = plan.start();
    fs::write(mount.path("before"), b"1").unwrap();
    proxy.revoke(&OWNER.access_key);
    let path = mount.path("f");
    let writing = std::thread::spawn(move || fs::write(path, b"bytes"));
    told_once(&mount, "S3 refuses the credentials since");
    assert!(fs::metadata(mount.path("before")).is_ok(), "it is known");
    write_credentials(&file, &SUCCESSOR);
    writing.join().unwrap().unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    told_once(&mount, "S3 serves again");
}

#[test]
fn hangup_reads_the_credentials_anew() {
    let (plan, proxy, file) = with_credentials_in_a_file();
    let mount = plan.start();
    write_credentials(&file, &SUCCESSOR);
    mount.signal(Signal::HUP);
    wait_until(WITHIN, "new credentials", || {
        mount.log().contains("credentials reloaded")
    });
    proxy.revoke(&OWNER.access_key);
    fs::write(mount.path("f"), b"bytes").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    assert!(!mount.log().contains("refuses"), "{}", mount.log());
}

#[test]
fn writes_to_the_disk_outlast_credentials_that_are_gone_for_longer_than_a_request() {
    let (plan, proxy, file) = with_credentials_in_a_file();
    let plan = plan.args(["--durability", "disk", "--request-timeout", "6s"]);
    let mount = plan.set("--ttl", "1s").start();
    assert!(names(&mount, "").unwrap().is_empty());
    proxy.revoke(&OWNER.access_key);
    expire();
    fs::write(mount.path("f"), b"bytes").unwrap();
    wait_until(WITHIN, "an attempt that was given up", || {
        mount.log().contains("upload failed: trying again")
    });
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
    write_credentials(&file, &SUCCESSOR);
    wait_until(WITHIN, "the upload", || {
        mount.object("f").as_deref() == Some(b"bytes")
    });
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn a_server_that_asks_to_slow_down_gets_the_time_it_asks_for() {
    for (status, code) in [(503, "SlowDown"), (429, "TooManyRequests")] {
        let (plan, proxy) = behind_a_proxy();
        let mount = plan.start();
        let slow = Fault::AnswerWith(status, code, "Retry-After: 3");
        proxy.fail("PutObject", slow, 2);
        let began = Instant::now();
        fs::write(mount.path("f"), b"bytes").unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(6), "{code}: {took:?}");
        assert_eq!(proxy.seen("PutObject"), 3);
        assert_eq!(mount.object("f").unwrap(), b"bytes");
    }
}

#[test]
fn uploads_in_the_background_are_slowed_down_for_as_long_as_it_takes() {
    let (plan, proxy) = behind_a_proxy();
    let plan = plan.args(["--durability", "disk", "--request-timeout", "3s"]);
    let mount = plan.start();
    proxy.fail("PutObject", Fault::Answer(503, "SlowDown"), ALWAYS);
    fs::write(mount.path("f"), b"bytes").unwrap();
    wait_until(WITHIN, "attempts that were given up", || {
        mount.log().matches("upload failed: trying again").count() > 2
    });
    proxy.heal();
    wait_until(WITHIN, "the upload", || {
        mount.object("f").as_deref() == Some(b"bytes")
    });
    assert!(mount.lost_and_found().is_empty());
}

const WRONG_TIME: Fault = Fault::AnswerWith(
    403,
    "RequestTimeTooSkewed",
    "Date: Mon, 01 Jan 2024 00:00:00 GMT",
);

#[test]
fn a_wrong_clock_is_told_of_when_mounting_with_how_wrong_it_is() {
    let (plan, proxy) = behind_a_proxy();
    proxy.fail("ListObjectsV2", WRONG_TIME, ALWAYS);
    let output = plan.run();
    assert!(!output.status.success());
    let told = said(&output);
    assert!(
        told.contains("this machine's clock differs too much"),
        "{told}"
    );
    assert!(told.contains("years"), "{told}");
    assert!(told.contains(" ahead"), "{told}");
}

#[test]
fn a_clock_that_goes_wrong_is_told_of_once_with_how_wrong_it_is() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    for op in ["PutObject", "ListObjectsV2", "HeadObject", "GetObject"] {
        proxy.fail(op, WRONG_TIME, ALWAYS);
    }
    for number in 0..5 {
        let new = libc::O_WRONLY | libc::O_CREAT;
        let mut file = sys::open(mount.path(number.to_string()), new).unwrap();
        file.write_all(b"more").unwrap();
        assert_eq!(sys::errno(sys::close(file)), libc::EIO);
    }
    expire();
    assert!(fs::metadata(mount.path("f")).is_ok(), "it is known");
    told_once(&mount, "S3 refuses this machine's clock since");
    let log = mount.log();
    let line = log.lines().find(|line| line.contains("clock since"));
    assert!(line.unwrap().contains(" ahead"), "{log}");
    proxy.heal();
    told_once(&mount, "S3 serves again");
    fs::write(mount.path("f"), b"more").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"more");
}
