//! Logs that take nothing: no daemon ends, and nobody waits for them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{
    DiskKind, Mount, MountBuilder, SmallDisk, SupervisedMount, Worker, sys, wait_until,
};

const WITHIN: Duration = Duration::from_secs(60);
/// Who waits for a log that takes nothing waits for ever.
const AT_ONCE: Duration = Duration::from_secs(30);
const DISK_BYTES: u64 = 4 << 20;
/// Lines of which none is counted in place of being written.
const DETAILED: [&str; 2] = ["--log", "mediafs=debug"];
/// Once the log can be written again.
const MISSING: &str = "missing here";

/// A mount on which every read of `unreadable` is an error and a line of the log.
fn plan() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    plan.client.put(&plan.bucket, "unreadable", b"bytes");
    let refused = Fault::Answer(400, "InvalidArgument");
    proxy.rule(Rule::on("GetObject", refused).key("unreadable").always());
    (plan, proxy)
}

/// Has error lines logged, and sees that all goes on.
#[track_caller]
fn goes_on(mount: &Mount) {
    // The last block of a file on a full disk still takes some.
    for round in 0..60 {
        let read = fs::read(mount.path("unreadable"));
        assert_eq!(sys::errno(read), libc::EIO, "read {round}");
    }
    let began = Instant::now();
    fs::write(mount.path("f"), b"bytes").unwrap();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
    fs::remove_file(mount.path("f")).unwrap();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[track_caller]
fn ends_well(mut mount: Mount) {
    let began = Instant::now();
    mount.unmount();
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// What is logged next tells that lines are missing, and comes whole.
#[track_caller]
fn logs_again(mount: &Mount) {
    wait_until(WITHIN, "a word of what is missing", || {
        let read = fs::read(mount.path("unreadable"));
        assert_eq!(sys::errno(read), libc::EIO);
        mount.log().contains(MISSING)
    });
    let mut log = String::new();
    wait_until(WITHIN, "the end of its line", || {
        log = mount.log();
        log.ends_with('\n')
    });
    for line in log.lines() {
        assert!(
            line.starts_with("20"),
            "a line in part, or two in one: {line}"
        );
    }
}

#[track_caller]
fn survives_full_disk(disk: &SmallDisk, mount: Mount) {
    disk.fill();
    goes_on(&mount);
    disk.free();
    logs_again(&mount);
    ends_well(mount);
}

#[test]
fn with_the_disk_of_standard_error_full_all_goes_on_and_the_log_tells_what_it_misses() {
    let (plan, _proxy) = plan();
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Ext4, DISK_BYTES);
    let mount = plan.args(DETAILED).log_at(disk.path("log")).start();
    survives_full_disk(&disk, mount);
}

#[test]
fn with_the_disk_of_the_log_file_full_all_goes_on_and_the_log_tells_what_it_misses() {
    for kind in [DiskKind::Tmpfs, DiskKind::Ext4] {
        let (plan, _proxy) = plan();
        let disk = SmallDisk::new(plan.scratch(), kind, DISK_BYTES);
        let log = disk.path("log");
        let plan = plan.args(DETAILED).arg("--log-file").arg(&log).log_at(log);
        let mount = plan.start();
        survives_full_disk(&disk, mount);
    }
}

#[test]
fn with_the_disk_of_the_log_full_a_daemon_that_dies_is_replaced() {
    let (plan, _proxy) = plan();
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Ext4, DISK_BYTES);
    let mount = SupervisedMount::start(plan.args(DETAILED).log_at(disk.path("log")));
    disk.fill();
    goes_on(&mount);
    mount.kill_daemon();
    goes_on(&mount);
    disk.free();
    logs_again(&mount);
    mount.unmount();
}

#[test]
fn standard_error_that_nobody_reads_any_more_or_that_is_hung_up_ends_no_daemon() {
    let (read, write) = io::pipe().unwrap();
    drop(read);
    for stderr in [file(write), sys::terminal_without_its_other_end()] {
        let (plan, _proxy) = plan();
        let mount = plan.stderr(stderr).start();
        goes_on(&mount);
        ends_well(mount);
    }
}

fn file(pipe: io::PipeWriter) -> File {
    File::from(OwnedFd::from(pipe))
}

/// What a thread has read of a pipe so far; it reads until the end.
fn read_all(mut pipe: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let text = Arc::<Mutex<Vec<u8>>>::default();
    let read = text.clone();
    let reading = std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = pipe.read(&mut bytes) {
            read.lock().extend_from_slice(&bytes[..len]);
        }
    });
    (text, reading)
}

/// A mount that has told more than its pipe and the daemon hold.
fn behind_a_pipe_that_nobody_reads() -> (Mount, Proxy, io::PipeReader) {
    let (read, write) = io::pipe().unwrap();
    let (plan, proxy) = plan();
    let plan = plan.stderr(file(write)).args(["--log", "trace"]);
    let mount = plan.start();
    for _ in 0..6 {
        goes_on(&mount);
    }
    (mount, proxy, read)
}

#[test]
fn a_pipe_that_is_not_read_makes_nobody_wait_and_tells_what_it_misses_once_it_is() {
    let (mount, _proxy, read) = behind_a_pipe_that_nobody_reads();
    let (text, reading) = read_all(read);
    let text = || String::from_utf8_lossy(&text.lock()).into_owned();
    // The end waits for no line for long.
    wait_until(WITHIN, "the lines that wait, and what is missing", || {
        goes_on(&mount);
        text().contains(MISSING)
    });
    drop(mount.log());
    ends_well(mount);
    reading.join().unwrap();
    assert!(text().contains("stopped"), "the last line is there");
}

#[test]
fn a_pipe_that_is_never_read_does_not_keep_the_daemon_from_its_end() {
    let (mount, _proxy, _read) = behind_a_pipe_that_nobody_reads();
    ends_well(mount);
}

/// Of the log's files, once all is written that was logged.
fn lengths(mount: &Mount) -> Vec<(String, u64)> {
    drop(mount.log());
    let log = mount.log_path();
    let name = log.file_name().unwrap().to_str().unwrap();
    let entries = fs::read_dir(log.parent().unwrap()).unwrap();
    let entries = entries.map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry));
    let found = named.filter(|(found, _)| found.starts_with(name));
    // One may be moved aside meanwhile.
    let mut found: Vec<_> = found
        .filter_map(|(found, entry)| Some((found, entry.metadata().ok()?.len())))
        .collect();
    found.sort();
    found
}

/// Names of the files behind the descriptors of a process.
fn open_files(pid: Pid) -> Vec<String> {
    let folder = format!("/proc/{}/fd", pid.as_raw_nonzero());
    let links = fs::read_dir(folder).unwrap().flatten();
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    let targets = targets.map(|target| target.to_string_lossy().into_owned());
    targets.collect()
}

/// Those of the log that have no name any more.
fn nameless(pid: Pid) -> Vec<String> {
    let open = open_files(pid).into_iter();
    open.filter(|target| target.contains("/log") && target.ends_with("(deleted)"))
        .collect()
}

#[test]
fn the_log_is_moved_aside_by_size_for_all_processes_of_a_mount() {
    const LIMIT: u64 = 64 << 10;
    let (plan, _proxy) = plan();
    let plan = plan.args(["--log", "mediafs=debug", "--log-file-size", "64KiB"]);
    let plan = plan.args(["--log-file-count", "3"]);
    let mount = SupervisedMount::start(plan);
    wait_until(WITHIN, "three files", || {
        goes_on(&mount);
        lengths(&mount).len() == 3
    });
    for _ in 0..20 {
        goes_on(&mount);
    }
    let files = lengths(&mount);
    assert_eq!(files.len(), 3, "{files:?}");
    assert!(files.iter().all(|(_, len)| *len <= LIMIT), "{files:?}");
    assert_eq!(nameless(mount.daemon()), Vec::<String>::new());
    // What the supervisor says is where the administrator looks.
    mount.kill_daemon();
    wait_until(WITHIN, "a word of the supervisor", || {
        mount.log().contains("starting it again")
    });
    goes_on(&mount);
    assert_eq!(nameless(mount.supervisor()), Vec::<String>::new());
    mount.unmount();
}

#[test]
fn a_log_in_the_foreground_is_moved_aside_by_size_too() {
    let (plan, _proxy) = plan();
    let log = plan.scratch().join("other.log");
    let plan = plan.args(["--log", "mediafs=debug", "--log-file-size", "16KiB"]);
    let plan = plan.args(["--log-file-count", "2"]).arg("--log-file");
    let mount = plan.arg(&log).log_at(log).start();
    wait_until(WITHIN, "two files", || {
        goes_on(&mount);
        lengths(&mount).len() == 2
    });
    let files = lengths(&mount);
    assert!(files.iter().all(|(_, len)| *len <= 16 << 10), "{files:?}");
    ends_well(mount);
}

#[test]
fn a_log_that_was_moved_away_is_opened_again_at_hangup_by_whoever_gets_the_signal() {
    let (plan, _proxy) = plan();
    let mount = SupervisedMount::start(plan);
    let (daemon, supervisor) = (mount.daemon(), mount.supervisor());
    let log = mount.log_path().to_owned();
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).unwrap();
    // As 'pkill -HUP mediafs' does.
    for pid in [supervisor, daemon] {
        kill_process(pid, Signal::HUP).unwrap();
    }
    wait_until(WITHIN, "the new file", || {
        let is_old = |open: &String| aside.to_str() == Some(open);
        log.exists() && !open_files(daemon).iter().any(is_old)
    });
    goes_on(&mount);
    wait_until(WITHIN, "its lines", || mount.log().contains("failed"));
    let moved = fs::read_to_string(&aside).unwrap();
    assert!(moved.contains("serving") && !moved.contains("failed"));
    assert_eq!((mount.daemon(), mount.supervisor()), (daemon, supervisor));
    mount.unmount();
}

#[test]
fn a_mount_that_fails_says_why_also_where_nobody_reads_it() {
    let (_read, write) = io::pipe().unwrap();
    let full = file(write);
    rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::NONBLOCK).unwrap();
    while io::Write::write(&mut &full, &[7; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&full, rustix::fs::OFlags::empty()).unwrap();
    let plan = Mount::builder().bucket("there-is-no-such-bucket");
    let mut command = plan.command();
    let mut child = command.arg("--foreground").stderr(full).spawn().unwrap();
    let mut status = None;
    wait_until(WITHIN, "its end", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_successor_comes_where_the_log_file_cannot_be_opened_and_logs_once_it_can() {
    let (plan, _proxy) = plan();
    let dir = plan.scratch().join("logs");
    fs::create_dir(&dir).unwrap();
    let mount = SupervisedMount::start(plan.log_at(dir.join("log")));
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "before ");
    fs::remove_dir_all(&dir).unwrap();
    mount.kill_daemon();
    worker
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object("f").unwrap(), b"before and after");
    fs::create_dir(&dir).unwrap();
    wait_until(WITHIN, "a line in the log", || {
        drop(fs::read(mount.path("unreadable")));
        mount.log().contains("unreadable")
    });
    drop(worker);
    mount.unmount();
}
