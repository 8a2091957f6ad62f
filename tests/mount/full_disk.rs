//! The spool's disk is full, has no inodes left or is read-only: what was acknowledged
//! is kept, no open file is lost to a kill, and all goes on once there is room.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::DURABILITIES;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::spool::lost_files;
use crate::support::{
    DiskKind, Mount, MountBuilder, Server, SmallDisk, SupervisedMount, Worker, pattern, sys,
    wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
const DISK_BYTES: u64 = 32 << 20;
/// Opens and closes whose records are more than the session log has room for.
const OPENS: usize = 6_000;

/// A mount whose spool is on a disk of its own.
fn plan(kind: DiskKind, durability: &str) -> (MountBuilder, SmallDisk) {
    let plan = Mount::builder().args(["--durability", durability]);
    let disk = SmallDisk::new(plan.scratch(), kind, DISK_BYTES);
    let plan = plan.set("--spool", disk.path("spool"));
    (plan, disk)
}

/// The spool has no file that was to take another's place and did not.
#[track_caller]
fn is_tidy(spool: &Path) {
    let entries = fs::read_dir(spool).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names
        .filter(|name| name.ends_with(".new") || name.ends_with(".shorter"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[track_caller]
fn session_went_on(mount: &Mount) {
    let log = mount.log();
    for sign in ["mounting again", "no successor can resume", "is used up"] {
        assert!(!log.contains(sign), "{sign}");
    }
}

#[test]
fn a_daemon_that_is_killed_on_a_full_disk_costs_no_open_file() {
    // Every two of the three choices together.
    for (kind, durability, attributes) in [
        (DiskKind::Ext4, "s3", "fixed"),
        (DiskKind::Tmpfs, "disk", "fixed"),
        (DiskKind::Ext4, "disk", "stored"),
        (DiskKind::Tmpfs, "s3", "stored"),
    ] {
        open_files_outlive_a_kill(kind, durability, attributes);
    }
}

fn open_files_outlive_a_kill(kind: DiskKind, durability: &str, attributes: &str) {
    let (plan, disk) = plan(kind, durability);
    let plan = plan.args(["--attributes", attributes]);
    let body = pattern(100_000, 1);
    for name in ["read", "removed", "moved"] {
        plan.client.put(&plan.bucket, name, &body);
    }
    let mount = SupervisedMount::start(plan);
    let mut writer = Worker::at(mount.scratch());
    let open = mount.path("written");
    writer.write_new(open.to_str().unwrap(), "first");
    let reader = File::open(mount.path("read")).unwrap();
    disk.fill();

    // More than there is room for without rewriting the file.
    for _ in 0..OPENS {
        drop(File::open(mount.path("read")).unwrap());
    }
    mount.kill_daemon();
    let mut seen = vec![0; body.len()];
    reader.read_exact_at(&mut seen, 0).unwrap();
    assert!(seen == body);
    assert_eq!(writer.run("os.write(fd, b'x' * 9999)"), Err(libc::ENOSPC));
    writer.run("os.fsync(fd)").unwrap();
    for _ in 0..OPENS {
        drop(File::open(mount.path("read")).unwrap());
    }
    fs::remove_file(mount.path("removed")).unwrap();
    fs::rename(mount.path("moved"), mount.path("here")).unwrap();
    disk.fill();
    let refused = fs::write(mount.path("new"), b"bytes");
    assert_eq!(sys::errno(refused), libc::ENOSPC);
    fs::remove_file(mount.path("new")).unwrap();
    mount.kill_daemon();
    writer.run("os.close(fd)").unwrap();
    is_tidy(&disk.path("spool"));
    session_went_on(&mount);
    mount.wait_for_keys("what was done", |keys| keys == ["here", "read", "written"]);
    assert_eq!(mount.object("written").unwrap(), b"first");

    disk.free();
    fs::write(mount.path("new"), &body).unwrap();
    assert!(fs::read(mount.path("new")).unwrap() == body);
    assert!(lost_files(&disk.path("spool")).is_empty());
    drop((reader, writer));
    mount.unmount();
    assert!(mount.object("new").unwrap() == body);
}

#[test]
fn an_upload_under_way_when_the_disk_fills_up_outlives_a_kill() {
    for durability in DURABILITIES {
        let (plan, disk) = plan(DiskKind::Ext4, durability);
        let proxy = Proxy::before(Server::shared());
        let plan = plan.set("--endpoint-url", &proxy.endpoint);
        let mount = SupervisedMount::start(plan);
        let body = pattern(9 << 20, 3);
        let gate = proxy.hold(
            Side::BeforeServer,
            Rule::on("UploadPart", Fault::Pass).always(),
        );
        std::thread::scope(|scope| {
            let path = mount.path("f");
            let body = &body;
            let written = scope.spawn(move || fs::write(path, body));
            gate.wait_for(1);
            // A part is sent as soon as it is whole.
            wait_until(WITHIN, "the last byte", || {
                fs::metadata(mount.path("f")).unwrap().len() == body.len() as u64
            });
            if durability == "disk" {
                wait_until(WITHIN, "its close", || written.is_finished());
            }
            disk.fill();
            mount.kill_daemon();
            gate.open();
            written.join().unwrap().unwrap();
        });
        session_went_on(&mount);
        wait_until(WITHIN, "the bytes", || {
            mount.client().try_get(mount.bucket(), "f") == Ok(Some(body.clone()))
        });
        mount.unmount();
        is_tidy(&disk.path("spool"));
    }
}

#[test]
fn a_mount_on_a_full_disk_uploads_what_waits_and_keeps_what_was_open() {
    for is_full in [true, false] {
        let proxy = Proxy::before(Server::shared());
        let (plan, disk) = plan(DiskKind::Ext4, "disk");
        let plan = plan.set("--endpoint-url", &proxy.endpoint);
        let mut mount = plan.args(["--attributes", "stored"]).start();
        assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
        proxy.all_down();
        fs::write(mount.path("waits"), b"acknowledged").unwrap();
        let mut half = File::create(mount.path("half")).unwrap();
        half.write_all(b"half").unwrap();
        mount.kill9();
        drop(half);
        proxy.heal();
        if is_full {
            disk.fill();
        } else {
            disk.use_up_inodes();
        }
        mount.remount();
        mount.wait_for_keys("what waited", |keys| keys == ["waits"]);
        assert_eq!(mount.object("waits").unwrap(), b"acknowledged");
        let log = mount.log();
        assert!(log.contains("and the disk is full"), "{log}");
        assert!(lost_files(&disk.path("spool")).is_empty());
        if is_full {
            disk.free();
        } else {
            disk.free_inodes();
        }
        mount.remount();
        assert_eq!(lost_files(&disk.path("spool")), [b"half"]);
    }
}

#[test]
fn a_new_spool_on_a_full_disk_is_refused_and_told_why() {
    let plan = Mount::builder();
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Ext4, DISK_BYTES);
    disk.fill();
    let output = plan.set("--spool", disk.path("spool")).run();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("No space left") && told.contains("spool"),
        "{told}"
    );
}

#[test]
fn with_no_inode_left_a_new_file_is_refused_and_all_else_goes_on() {
    for durability in DURABILITIES {
        let (plan, disk) = plan(DiskKind::Ext4, durability);
        for name in ["read", "removed", "moved"] {
            plan.client.put(&plan.bucket, name, b"bytes");
        }
        let mount = SupervisedMount::start(plan);
        let mut writer = Worker::at(mount.scratch());
        writer.write_new(mount.path("written").to_str().unwrap(), "first ");
        disk.use_up_inodes();
        let refused = fs::write(mount.path("new"), b"bytes");
        assert_eq!(sys::errno(refused), libc::ENOSPC);
        assert!(!mount.path("new").exists());
        writer.run("os.write(fd, b'second')").unwrap();
        fs::remove_file(mount.path("removed")).unwrap();
        fs::rename(mount.path("moved"), mount.path("here")).unwrap();
        mount.kill_daemon();
        writer.run("os.write(fd, b' third')").unwrap();
        writer.run("os.close(fd)").unwrap();
        session_went_on(&mount);
        mount.wait_for_keys("what was done", |keys| keys == ["here", "read", "written"]);
        wait_until(WITHIN, "the bytes", || {
            mount.object("written").as_deref() == Some(b"first second third")
        });
        disk.free_inodes();
        drop(writer);
        fs::write(mount.path("new"), b"bytes").unwrap();
        mount.unmount();
        assert_eq!(mount.object("new").unwrap(), b"bytes");
    }
}

#[test]
fn a_program_that_fills_the_disk_through_the_mount_leaves_room_for_what_mediafs_notes() {
    let (plan, disk) = plan(DiskKind::Ext4, "disk");
    // No part of the file is whole before the disk is full.
    let plan = plan.args(["--part-size", "40MiB"]);
    let mount = SupervisedMount::start(plan);
    let mut file = File::create(mount.path("long")).unwrap();
    let block = vec![7; 1 << 20];
    for len in [1 << 20, 1 << 14, 1 << 8] {
        let error = (0..200).find_map(|_| file.write_all(&block[..len]).err());
        assert_eq!(error.unwrap().raw_os_error(), Some(libc::ENOSPC));
    }
    let probe = disk.path("probe");
    fs::write(&probe, vec![1; 200_000]).unwrap();
    fs::remove_file(&probe).unwrap();
    mount.kill_daemon();
    drop(file);
    session_went_on(&mount);
    mount.unmount();
}

#[test]
fn a_daemon_that_dies_on_a_read_only_disk_makes_nobody_wait_and_the_log_says_why() {
    for durability in DURABILITIES {
        let (plan, disk) = plan(DiskKind::Ext4, durability);
        let mount = SupervisedMount::start(plan);
        let mut writer = Worker::at(mount.scratch());
        writer.write_new(mount.path("written").to_str().unwrap(), "first");
        disk.turn_read_only();
        assert_eq!(writer.run("os.write(fd, b'x' * 9999)"), Err(libc::EROFS));
        // Records that the session's file lacks from now on.
        fs::read_dir(&mount.root).unwrap().count();
        fs::metadata(mount.path("none")).unwrap_err();
        let supervisor = mount.supervisor();
        kill_process(mount.daemon(), Signal::KILL).unwrap();
        assert_eq!(writer.run("os.write(fd, b'x')"), Err(libc::ENOTCONN));
        wait_until(WITHIN, "a word of the disk", || {
            mount.log().contains("the spool's disk is read-only")
        });
        // It goes on trying, for when the disk is mended.
        kill_process(supervisor, Signal::KILL).unwrap();
    }
}
