//! Ends that nobody chose: a busy mount, S3 gone before it, the mountpoint taken
//! away, the spool's disk read-only.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::data::{MIB, assert_same_bytes};
use crate::support::mount::is_mounted;
use crate::support::programs::succeeds;
use crate::support::servers::dies_with_parent;
use crate::support::{DiskKind, Mount, Server, SmallDisk, Worker, pattern, sys, wait_until};
use rustix::process::Signal;

const WITHIN: Duration = Duration::from_secs(60);
const DRAIN: Duration = Duration::from_secs(3);
const DISK_BYTES: u64 = 64 << 20;
/// What ending takes besides waiting, on a busy machine.
const SLACK: Duration = Duration::from_secs(20);

/// Another process that works outside of the mount and has one file of it open.
fn holder(mount: &Mount, name: &str) -> Worker {
    let mut worker = Worker::at(mount.scratch());
    let path = mount.path(name);
    let path = path.to_str().unwrap();
    worker.write_new(path, "held");
    worker
}

#[track_caller]
fn stops_within(mount: &mut Mount, limit: Duration) {
    let began = Instant::now();
    mount.signal(Signal::TERM);
    let status = mount.wait_for_exit();
    let took = began.elapsed();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(took < limit, "{took:?}\n{}", mount.log());
    assert!(!is_mounted(&mount.root));
}

#[test]
fn a_stop_of_a_busy_mount_says_who_holds_it_and_with_what() {
    // With its capabilities it sees what others work in; what they opened it sees without.
    let mut mount = Mount::builder()
        .args(["--drain-timeout", "10s", "--hardening", "off"])
        .start();
    let worker = holder(&mount, "held.txt");
    let mut sleeper = dies_with_parent("KILL", "sleep");
    let sleeper = sleeper.arg("600").stdout(Stdio::null());
    let mut sleeper = sleeper.current_dir(&mount.root).spawn().unwrap();
    let name = format!("/proc/{}/comm", sleeper.id());
    wait_until(WITHIN, "the sleeper", || {
        fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n")
    });
    mount.signal(Signal::TERM);
    wait_until(WITHIN, "who holds it", || {
        mount.log().contains("busy: held by")
    });
    let log = mount.log();
    let root = mount.root.display();
    for holder in [
        format!("(pid {}, with open {root}/held.txt)", worker.pid()),
        format!("sleep (pid {}, working in {root})", sleeper.id()),
    ] {
        assert!(log.contains(&holder), "{holder}\n{log}");
    }
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}");
    let log = mount.log();
    let last = log.lines().find(|line| line.contains("still held by"));
    let last = last.unwrap();
    assert!(
        last.contains("held.txt") && !last.contains("sleep"),
        "{last}"
    );
}

#[test]
fn a_stop_without_capabilities_says_who_opened_what() {
    let mut mount = Mount::builder().args(["--drain-timeout", "1s"]).start();
    fs::create_dir(mount.path("d")).unwrap();
    let worker = holder(&mount, "d/held.txt");
    mount.signal(Signal::TERM);
    assert!(mount.wait_for_exit().success());
    let log = mount.log();
    let opened = format!(
        "(pid {}, with open {}/d/held.txt)",
        worker.pid(),
        mount.root.display()
    );
    assert_eq!(log.matches(&opened).count(), 2, "{log}");
}

#[test]
fn a_stop_goes_on_as_soon_as_the_holder_lets_go() {
    let mut mount = Mount::builder().args(["--drain-timeout", "60s"]).start();
    let mut worker = holder(&mount, "f");
    mount.signal(Signal::TERM);
    wait_until(WITHIN, "who holds it", || {
        mount.log().contains("busy: held by")
    });
    worker.run("os.close(fd)").unwrap();
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}");
    assert_eq!(mount.object("f").unwrap(), b"held");
}

#[test]
fn with_s3_gone_first_a_stop_ends_in_time_and_the_next_mount_has_all_that_was_closed() {
    let server = Server::private();
    let mut mount = Mount::on(&server)
        .args(["--durability", "disk", "--drain-timeout", "3s"])
        .start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    server.freeze();
    for number in 0..20 {
        fs::write(mount.path(number.to_string()), b"bytes").unwrap();
    }
    stops_within(&mut mount, DRAIN + SLACK);
    server.thaw();
    mount.remount();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 20);
    mount.wait_for_keys("the uploads", |keys| keys.len() == 20);
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn with_s3_gone_first_a_stop_does_not_wait_for_calls_that_wait_for_s3() {
    let server = Server::private();
    let plan = Mount::on(&server).args(["--drain-timeout", "3s"]);
    plan.client.put(&plan.bucket, "unread", &pattern(MIB, 1));
    let mut mount = plan.start();
    let mut closing = holder(&mount, "f");
    let unread = mount.path("unread");
    assert!(unread.exists());
    server.freeze();
    let closing = std::thread::spawn(move || closing.run("os.close(fd)"));
    let reading = std::thread::spawn(move || fs::read(unread));
    wait_until(WITHIN, "the close", || {
        let journal = mount.scratch().join("spool/journal");
        String::from_utf8_lossy(&fs::read(journal).unwrap()).contains("sealed")
    });
    stops_within(&mut mount, DRAIN + SLACK);
    assert!(closing.join().unwrap().is_err(), "nothing was acknowledged");
    assert!(reading.join().unwrap().is_err());
    server.thaw();
    mount.remount();
    wait_until(WITHIN, "the bytes, here or there", || {
        mount.object("f").as_deref() == Some(b"held") || mount.lost_and_found() == [b"held"]
    });
}

#[test]
fn a_mount_that_somebody_detaches_serves_what_is_open_and_ends_with_it() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("before"), b"bytes").unwrap();
    let mut file = fs::File::create(mount.path("f")).unwrap();
    succeeds(Command::new("umount").arg("-l").arg(&mount.root));
    wait_until(WITHIN, "that it is noticed", || {
        mount.log().contains("detached by somebody else")
    });
    file.write_all(b"written after").unwrap();
    sys::close(file).unwrap();
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert_eq!(mount.object("f").unwrap(), b"written after");
    mount.remount();
    assert_eq!(fs::read(mount.path("before")).unwrap(), b"bytes");
}

#[test]
fn a_mount_whose_directory_is_removed_under_it_ends_with_0() {
    let mut mount = Mount::fresh();
    fs::write(mount.path("f"), b"bytes").unwrap();
    // Not in this mount namespace, where it is busy; in another one it is a directory.
    let script = "umount -l \"$1\" && rmdir \"$1\"";
    succeeds(
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                script,
                "sh",
            ])
            .arg(&mount.root),
    );
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(!mount.root.exists());
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    fs::create_dir(&mount.root).unwrap();
}

#[test]
fn with_the_spools_disk_read_only_writes_and_renames_are_erofs_and_all_else_goes_on() {
    let plan = Mount::builder();
    let body = pattern(MIB, 1);
    plan.client.put(&plan.bucket, "there", &body);
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Ext4, DISK_BYTES);
    let mut mount = plan.set("--spool", disk.path("spool")).start();
    let mut begun = fs::File::create(mount.path("begun")).unwrap();
    begun.write_all(b"on the disk").unwrap();
    disk.turn_read_only();

    assert_same_bytes(&fs::read(mount.path("there")).unwrap(), &body, "reads");
    let refused = fs::File::create(mount.path("new"));
    assert_eq!(sys::errno(refused), libc::EROFS);
    assert_eq!(sys::errno(begun.write_all(b"more")), libc::EROFS);
    // Nothing is lost of what the disk has: S3 gets it.
    sys::close(begun).unwrap();
    assert_eq!(mount.object("begun").unwrap(), b"on the disk");
    // A rename must be known to who finishes it after a crash.
    let moved = fs::rename(mount.path("there"), mount.path("moved"));
    assert_eq!(sys::errno(moved), libc::EROFS);
    fs::remove_file(mount.path("begun")).unwrap();
    mount.wait_for_keys("what is left", |keys| keys == ["there"]);
    stops_within(&mut mount, WITHIN);
}

#[test]
fn with_the_spools_disk_read_only_what_it_had_acknowledged_is_still_uploaded() {
    let server = Server::private();
    let plan = Mount::on(&server).args(["--durability", "disk", "--request-timeout", "6s"]);
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Ext4, DISK_BYTES);
    let mut mount = plan.set("--spool", disk.path("spool")).start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    server.freeze();
    for number in 0..10 {
        fs::write(mount.path(number.to_string()), number.to_string()).unwrap();
    }
    let mut late = fs::File::create(mount.path("late")).unwrap();
    late.write_all(b"not acknowledged").unwrap();
    disk.turn_read_only();
    assert_eq!(sys::errno(sys::close(late)), libc::EROFS);
    server.thaw();
    mount.wait_for_keys("the uploads", |keys| keys.len() == 10);
    for number in 0..10 {
        let name = number.to_string();
        assert_eq!(mount.object(&name).unwrap(), name.as_bytes());
    }
    stops_within(&mut mount, WITHIN);
}
