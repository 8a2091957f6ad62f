//! A daemon that dies under a live mount: another one goes on, and no
//! application sees more than a pause.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::data::MIB;
use crate::support::processes::has_ended;
use crate::support::programs::succeeds;
use crate::support::proxy::Fault;
use crate::support::{
    Mount, MountBuilder, SupervisedMount, Worker, pattern, python, sys, wait_until,
};
use rustix::process::{Signal, kill_process};

const WITHIN: Duration = Duration::from_secs(60);

#[test]
fn open_descriptors_go_on_after_a_kill() {
    let mount = SupervisedMount::start(Mount::builder());
    let body = pattern(3 * MIB, 1);
    fs::write(mount.path("stored"), &body).unwrap();
    let ino = fs::metadata(mount.path("stored")).unwrap().ino();
    let mut worker = Worker::at(&mount.root);
    for line in [
        "r = os.open('stored', os.O_RDONLY)",
        "assert len(os.read(r, 1000)) == 1000",
        "w = os.open('new', os.O_RDWR | os.O_CREAT | os.O_EXCL)",
        "assert os.write(w, b'0123456789') == 10",
        "a = os.open('log', os.O_WRONLY | os.O_CREAT | os.O_APPEND)",
        "assert os.write(a, b'one ') == 4",
        "g = os.open('gone', os.O_RDWR | os.O_CREAT)",
        "assert os.write(g, b'unlinked') == 8",
        "os.unlink('gone')",
        "import fcntl; fcntl.flock(w, fcntl.LOCK_EX)",
        "inodes = [os.fstat(fd).st_ino for fd in (r, w, a, g)]",
    ] {
        worker
            .run(line)
            .unwrap_or_else(|errno| panic!("{line}: {errno}"));
    }
    mount.kill_daemon();
    for line in [
        "assert inodes == [os.fstat(fd).st_ino for fd in (r, w, a, g)]",
        "assert len(os.read(r, 1000)) == 1000 and os.lseek(r, 0, os.SEEK_CUR) == 2000",
        "assert os.pread(w, 100, 0) == b'0123456789'",
        "assert os.write(w, b'abc') == 3",
        "assert os.write(a, b'two') == 3",
        "assert os.pread(g, 100, 0) == b'unlinked'",
        "assert os.pwrite(g, b'UN', 0) == 2",
        "assert os.pread(g, 100, 0) == b'UNlinked'",
        "try:\n    with open('new') as other: fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError: pass\nelse: raise OSError(1, 'the lock is gone')",
        "for fd in (r, w, a, g): os.close(fd)",
    ] {
        let line = format!("exec({line:?})");
        worker
            .run(&line)
            .unwrap_or_else(|errno| panic!("{line}: {errno}"));
    }
    assert_eq!(fs::metadata(mount.path("stored")).unwrap().ino(), ino);
    assert_eq!(mount.object("new").unwrap(), b"0123456789abc");
    assert_eq!(mount.object("log").unwrap(), b"one two");
    assert_eq!(mount.keys(), ["log", "new", "stored"]);
    assert_eq!(fs::read(mount.path("stored")).unwrap(), body);
    assert!(mount.lost_and_found().is_empty());
    drop(worker);
    mount.unmount();
}

/// What several programs do at once, each comparing all that it sees.
const WORKER: &str = "tests/torture/handover/worker.py";

#[test]
fn no_program_sees_an_error_while_the_daemon_is_killed_again_and_again() {
    kill_under_load(Mount::builder(), 11);
}

#[test]
fn nor_does_one_where_close_waits_for_the_disk_and_attributes_are_stored() {
    let plan = Mount::builder().args(["--durability", "disk", "--attributes", "stored"]);
    kill_under_load(plan, 12);
}

fn kill_under_load(plan: MountBuilder, seed: u64) {
    const KILLS: usize = 10;
    let mount = SupervisedMount::start(plan);
    let mut workers: Vec<_> = ["read", "write", "write", "rename", "list", "tree", "append"]
        .into_iter()
        .zip(0..)
        .map(|(kind, number)| {
            let mut command = Command::new(python());
            command
                .arg(WORKER)
                .args([kind, &format!("{kind}-{number}")]);
            let command = command.arg(&mount.root).stdout(Stdio::piped());
            (kind, command.stdin(Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (_, worker) in &mut workers {
        let mut line = [0; 6];
        worker
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        assert_eq!(&line, b"ready\n");
    }
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.u64(50..700)));
        mount.kill_daemon();
    }
    for (kind, mut worker) in workers {
        drop(worker.stdin.take());
        let output = worker.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{kind}: {said}");
        println!("{kind}: {}", said.trim());
    }
    assert!(mount.lost_and_found().is_empty(), "{:?}", mount.sidecars());
    mount.unmount();
}

#[test]
fn another_binary_takes_over_at_once_and_open_files_go_on() {
    let mount = SupervisedMount::start(Mount::builder().own_binary());
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "before ");
    let program = mount.program();
    let newer = mount.scratch().join("newer");
    succeeds(Command::new("cp").arg(&program).arg(&newer));
    fs::rename(&newer, &program).unwrap();
    let old = mount.daemon();
    kill_process(old, Signal::USR2).unwrap();
    mount.wait_for_successor(old);
    goes_on_writing(&mount, worker, "f");
    let running = format!("/proc/{}/exe", mount.daemon().as_raw_nonzero());
    assert_eq!(
        fs::metadata(running).unwrap().ino(),
        fs::metadata(&program).unwrap().ino()
    );
    mount.unmount();
}

/// A file that began with `before ` is written on by its process, and closed.
#[track_caller]
fn goes_on_writing(mount: &Mount, mut worker: Worker, name: &str) {
    worker
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object(name).unwrap(), b"before and after");
}

#[test]
fn a_second_mount_of_it_is_refused_and_takes_no_holder_away() {
    let mount = SupervisedMount::start(Mount::builder());
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "before ");
    let again = mount.run_again();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("already mounted"));
    mount.kill_daemon();
    goes_on_writing(&mount, worker, "f");
    mount.unmount();
}

#[test]
fn a_binary_that_is_away_for_a_moment_is_waited_for() {
    let mount = SupervisedMount::start(Mount::builder().own_binary());
    let mut worker = Worker::at(&mount.root);
    worker.write_new("f", "before ");
    let (program, old) = (mount.program(), mount.daemon());
    let away = mount.scratch().join("away");
    fs::rename(&program, &away).unwrap();
    kill_process(old, Signal::KILL).unwrap();
    wait_until(WITHIN, "a failed start", || {
        mount.log().contains("cannot start the daemon")
    });
    fs::rename(&away, &program).unwrap();
    mount.wait_for_successor(old);
    goes_on_writing(&mount, worker, "f");
    mount.unmount();
}

#[test]
fn what_a_newer_mediafs_told_leads_to_a_mount_anew_and_a_clear_word() {
    let mount = SupervisedMount::start(Mount::builder());
    let mut worker = Worker::at(&mount.scratch().join("mnt"));
    worker.write_new("half", "written");
    fs::write(mount.path("whole"), b"closed").unwrap();
    let (supervisor, old) = (mount.supervisor(), mount.daemon());
    kill_process(supervisor, Signal::STOP).unwrap();
    kill_process(old, Signal::KILL).unwrap();
    wait_until(WITHIN, "the end of the daemon", || has_ended(old));
    let session = mount.scratch().join("spool/session");
    let bytes = fs::read(&session).unwrap();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    assert!(bytes.starts_with(b"mediafs-session "));
    let newer = [b"mediafs-session 99", &bytes[line..]].concat();
    fs::write(&session, newer).unwrap();
    kill_process(supervisor, Signal::CONT).unwrap();
    mount.wait_for_successor(old);
    wait_until(WITHIN, "the mount anew", || {
        fs::read(mount.path("whole")).is_ok_and(|bytes| bytes == b"closed")
    });
    assert_eq!(worker.run("os.write(fd, b'x')"), Err(libc::ENOTCONN));
    assert!(mount.log().contains("is of version 99"), "{}", mount.log());
    assert_eq!(mount.lost_and_found(), [b"written"]);
    drop(worker);
    mount.unmount();
}

#[test]
fn on_a_kernel_that_sends_nothing_again_calls_under_way_return_and_open_files_go_on() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let mount = SupervisedMount::start(plan.env("_MEDIAFS_WITHOUT_RESEND", "1"));
    mount.put_object("f", b"bytes");
    let mut worker = Worker::at(&mount.scratch().join("mnt"));
    worker.write_new("g", "before ");
    let file = sys::open(mount.path("f"), libc::O_RDONLY).unwrap();
    proxy.fail("GetObject", Fault::Stall, usize::MAX);
    let reading = std::thread::spawn(move || {
        let outcome = rustix::io::pread(&file, &mut [0; 10], 0);
        (outcome, file)
    });
    wait_until(WITHIN, "a read under way", || proxy.seen("GetObject") > 0);
    mount.kill_daemon();
    proxy.heal();
    let (outcome, file) = reading.join().unwrap();
    // A page that is read ahead is asked for once more by the kernel itself.
    match outcome {
        Ok(len) => assert_eq!(len, 5),
        Err(error) => assert_eq!(error.raw_os_error(), libc::EINTR),
    }
    let mut bytes = [0; 10];
    assert_eq!(rustix::io::pread(&file, &mut bytes, 0).unwrap(), 5);
    goes_on_writing(&mount, worker, "g");
    assert!(mount.log().contains("cannot resend requests"));
    assert!(!mount.log().contains("calls=0"), "{}", mount.log());
    drop(file);
    mount.unmount();
}

/// Restarts under a loop of stat(2), each of which asks the daemon.
///
/// `MEDIAFS_TEST_RESTARTS=N`, as `scripts/handover` sets it, prints figures of N.
#[test]
fn a_loop_of_stat_sees_a_pause_and_no_error() {
    let restarts = std::env::var("MEDIAFS_TEST_RESTARTS");
    let restarts = restarts.map_or(4, |number| number.parse().expect("a number"));
    let mount = SupervisedMount::start(Mount::builder());
    let ended = AtomicBool::new(false);
    let mut took = std::thread::scope(|scope| {
        let root = &mount.root;
        let ended = &ended;
        let stats = scope.spawn(move || {
            let mut took = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
                let mask = rustix::fs::StatxFlags::BASIC_STATS;
                rustix::fs::statx(rustix::fs::CWD, root, flags, mask).unwrap();
                took.push(began.elapsed());
            }
            took
        });
        for _ in 0..restarts {
            // A new life each time, and some thousand calls in between.
            std::thread::sleep(Duration::from_millis(1100));
            mount.kill_daemon();
        }
        ended.store(true, Ordering::Relaxed);
        stats.join().unwrap()
    });
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let pauses: Vec<_> = took.iter().rev().take(restarts).collect();
    println!(
        "handover: {restarts} kills, {} stat calls, 0 errors; p50 {:?}, p99 {:?}; pause of a restart: median {:?}, longest {:?}",
        took.len(),
        at(0.5),
        at(0.99),
        pauses[pauses.len() / 2],
        pauses[0],
    );
    mount.unmount();
}
