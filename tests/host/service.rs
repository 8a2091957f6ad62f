//! What the daemon tells a service manager, heard on a socket of the test's own.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::notify::NotifySocket;
use crate::support::servers::{Credentials, OWNER, STRANGER};
use crate::support::{Mount, Server, sys, wait_until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn ready_comes_when_the_mount_serves_and_stopping_when_it_is_told_to_end() {
    let manager = NotifySocket::new();
    let mut mount = Mount::builder()
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    // One task tells that it is ready, another one the status.
    let (mut is_ready, mut status) = (false, None);
    wait_until(SOON, "that it is ready, and its status", || {
        let message = manager.next(Duration::from_millis(100)).unwrap_or_default();
        is_ready |= message.lines().any(|line| line == "READY=1");
        let told = message.lines().find(|line| line.starts_with("STATUS="));
        status = told.map(str::to_owned).or(status.take());
        is_ready && status.is_some()
    });
    let status = status.unwrap();
    assert!(status.contains("nothing waits for S3"), "{status}");
    assert!(status.contains(mount.bucket()), "{status}");
    mount.unmount();
    let stopping = manager.wait_for(SOON, |line| line == "STOPPING=1");
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC="), "{stopping}");
    while let Some(message) = manager.next(Duration::from_millis(1)) {
        assert!(!message.contains("READY=1"), "{message}");
    }
}

#[test]
fn ready_does_not_come_from_a_mount_that_cannot_be() {
    let manager = NotifySocket::new();
    let plan = Mount::builder()
        .env("NOTIFY_SOCKET", manager.path())
        .bucket("no-such-bucket")
        .arg("--foreground");
    assert!(!plan.run().status.success());
    assert_eq!(manager.next(Duration::from_millis(1)), None);
}

#[test]
fn the_status_is_told_when_it_changes_and_not_again() {
    let server = Server::private();
    let manager = NotifySocket::new();
    let mount = Mount::on(&server)
        .args(["--durability", "disk", "--drain-timeout", "1s"])
        .args(["--request-timeout", "5s"])
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    let mut file = fs::File::create(mount.path("f")).unwrap();
    server.freeze();
    file.write_all(b"bytes").unwrap();
    sys::close(file).unwrap();
    let mut last = String::new();
    let mut wait_for = |what: &str, holds: &dyn Fn(&str) -> bool| {
        wait_until(SOON, what, || {
            let next = manager.next(Duration::from_millis(100));
            let Some(next) = next.filter(|next| next.starts_with("STATUS=")) else {
                return false;
            };
            assert_ne!(next, last, "the same again");
            last = next;
            holds(&last)
        });
    };
    // One status may tell both.
    wait_for("what waits and why", &|status| {
        status.contains("1 upload waits for S3") && status.contains("S3 unreachable since")
    });
    server.thaw();
    wait_for("a status without what waits and why", &|status| {
        status.contains("nothing waits for S3") && !status.contains("unreachable")
    });
}

#[test]
fn the_watchdog_is_fed_through_an_outage_and_not_by_a_daemon_that_hangs() {
    let server = Server::private();
    let manager = NotifySocket::new();
    let mount = Mount::on(&server)
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "400000")
        .start();
    let fed = |line: &str| line == "WATCHDOG=1";
    manager.wait_for(SOON, fed);
    server.kill();
    for _ in 0..5 {
        manager.wait_for(SOON, fed);
    }
    mount.signal(Signal::STOP);
    wait_until(SOON, "silence", || {
        manager.next(Duration::from_secs(1)).is_none()
    });
    mount.signal(Signal::CONT);
    manager.wait_for(SOON, fed);
}

#[test]
fn hangup_reads_the_configuration_again_between_reloading_and_ready() {
    let manager = NotifySocket::new();
    let plan = Mount::builder();
    let file = plan.scratch().join("m.toml");
    fs::write(&file, "negative-ttl = \"60s\"\n").unwrap();
    let mount = plan
        .arg("--config")
        .arg(&file)
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    manager.wait_for(SOON, |line| line == "READY=1");
    assert!(!mount.path("later").exists());
    mount.put_object("later", b"bytes");
    assert!(
        !mount.path("later").exists(),
        "known to be absent for a minute"
    );
    fs::write(&file, "negative-ttl = 0\nmax-rename-objects = 1\n").unwrap();
    mount.signal(Signal::HUP);
    let message = manager.wait_for(SOON, |line| line == "RELOADING=1");
    assert!(message.contains("MONOTONIC_USEC="), "{message}");
    manager.wait_for(SOON, |line| line == "READY=1");
    fs::create_dir(mount.path("d")).unwrap();
    for name in ["d/a", "d/b"] {
        fs::write(mount.path(name), b"x").unwrap();
    }
    let refused = fs::rename(mount.path("d"), mount.path("e")).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::CrossesDevices);
    assert!(!mount.path("new").exists());
    mount.put_object("new", b"bytes");
    mount.wait_for("new", "a name that is asked for each time", |path| {
        path.exists()
    });
}

#[test]
fn hangup_reads_the_credentials_again() {
    let manager = NotifySocket::new();
    let plan = Mount::builder();
    let path = plan.scratch().join("credentials");
    let write_credentials = |credentials: &Credentials| {
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            credentials.access_key, credentials.secret_key
        );
        fs::write(&path, text).unwrap();
    };
    write_credentials(&OWNER);
    let mount = plan
        .without_credentials()
        .arg("--credentials-file")
        .arg(&path)
        .env("NOTIFY_SOCKET", manager.path())
        .start();
    let ready = |line: &str| line == "READY=1";
    manager.wait_for(SOON, ready);
    fs::write(mount.path("f"), b"1").unwrap();
    write_credentials(&STRANGER);
    mount.signal(Signal::HUP);
    manager.wait_for(SOON, ready);
    let mut file = fs::File::create(mount.path("g")).unwrap();
    file.write_all(b"2").unwrap();
    let refused = sys::close(file).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    write_credentials(&OWNER);
    mount.signal(Signal::HUP);
    manager.wait_for(SOON, ready);
    fs::write(mount.path("h"), b"3").unwrap();
    assert_eq!(mount.object("h").unwrap(), b"3");
}
