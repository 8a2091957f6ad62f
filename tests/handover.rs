//! A daemon that dies under a live mount: another one goes on, and no
//! application sees more than a pause.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::data::MIB;
use support::{Hands, Held, Mount, pattern, python};

#[test]
fn open_descriptors_go_on_after_a_kill() {
    let mount = Held::start(Mount::builder());
    let body = pattern(3 * MIB, 1);
    fs::write(mount.path("stored"), &body).unwrap();
    let ino = fs::metadata(mount.path("stored")).unwrap().ino();
    let mut hands = Hands::at(&mount.root);
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
        hands
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
        hands
            .run(&line)
            .unwrap_or_else(|errno| panic!("{line}: {errno}"));
    }
    assert_eq!(fs::metadata(mount.path("stored")).unwrap().ino(), ino);
    assert_eq!(mount.object("new").unwrap(), b"0123456789abc");
    assert_eq!(mount.object("log").unwrap(), b"one two");
    assert_eq!(mount.keys(), ["log", "new", "stored"]);
    assert_eq!(fs::read(mount.path("stored")).unwrap(), body);
    assert!(mount.lost_and_found().is_empty());
    drop(hands);
    mount.unmount();
}

/// What several programs do at once, each comparing all that it sees.
const WORKER: &str = "tests/handover/worker.py";

#[test]
fn no_program_sees_an_error_while_the_daemon_is_killed_again_and_again() {
    const KILLS: usize = 12;
    let mount = Held::start(Mount::builder().args(["--durability", "s3"]));
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
    let mut random = fastrand::Rng::with_seed(11);
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
