//! Who wrote nothing publishes nothing: a close publishes what came through its
//! own descriptor, or all where it is the last.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::{DURABILITIES, Mount, MountBuilder, SupervisedMount, Worker, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn behind_a_proxy(durability: &str) -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.durability(durability);
    (plan, proxy)
}

#[track_caller]
fn uploaded(mount: &Mount, name: &str, want: &str) {
    wait_until(WITHIN, want, || {
        mount.object(name).as_deref() == Some(want.as_bytes())
    });
}

#[track_caller]
fn run(worker: &mut Worker, line: &str) {
    worker
        .run(line)
        .unwrap_or_else(|errno| panic!("{line}: {errno}"));
}

/// Opens and closes of other processes that write nothing.
fn come_and_go(mount: &Mount) {
    let path = mount.path("f");
    for command in ["touch -c", "flock", "sh -c 'exec 3<>\"$0\"'"] {
        let (before, after) = (command, if command == "flock" { "true" } else { "" });
        let line = format!("{before} {} {after}", path.display());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{line}");
    }
    let mut other = Worker::at(&mount.root);
    run(&mut other, "fd = os.open('f', os.O_RDWR)");
    run(&mut other, "os.read(fd, 4); os.close(fd)");
}

#[test]
fn opens_and_closes_that_write_nothing_leave_half_a_file_where_it_is() {
    for durability in DURABILITIES {
        for attributes in ["fixed", "stored"] {
            let (plan, proxy) = behind_a_proxy(durability);
            let mount = plan.args(["--attributes", attributes]).start();
            fs::write(mount.path("f"), "the old version").unwrap();
            uploaded(&mount, "f", "the old version");
            let puts = proxy.seen("PutObject");
            let mut writer = Worker::at(&mount.root);
            run(&mut writer, "fd = os.open('f', os.O_WRONLY | os.O_TRUNC)");
            come_and_go(&mount);
            run(&mut writer, "os.write(fd, b'the new')");
            come_and_go(&mount);
            assert_eq!(proxy.seen("PutObject"), puts, "{durability} {attributes}");
            assert_eq!(mount.object("f").unwrap(), b"the old version");
            run(&mut writer, "os.write(fd, b' version'); os.close(fd)");
            uploaded(&mount, "f", "the new version");
            assert_eq!(proxy.seen("PutObject"), puts + 1);
        }
    }
}

#[test]
fn after_a_takeover_it_is_still_known_who_wrote() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability);
        let mount = SupervisedMount::start(plan);
        fs::write(mount.path("f"), "the old version").unwrap();
        uploaded(&mount, "f", "the old version");
        let puts = proxy.seen("PutObject");
        let (mut writer, mut idle) = (Worker::at(&mount.root), Worker::at(&mount.root));
        run(&mut idle, "fd = os.open('f', os.O_RDWR)");
        run(&mut writer, "fd = os.open('f', os.O_RDWR | os.O_TRUNC)");
        run(&mut writer, "os.write(fd, b'the new')");
        // A child that closes its copy once it is told to.
        let child = "r, w = os.pipe(); child = os.fork(); child or (os.read(r, 1), os._exit(0))";
        run(&mut writer, child);
        mount.kill_daemon();
        run(&mut idle, "os.close(fd)");
        run(&mut writer, "os.write(w, b'x'); os.waitpid(child, 0)");
        come_and_go(&mount);
        assert_eq!(proxy.seen("PutObject"), puts, "{durability}");
        assert_eq!(mount.object("f").unwrap(), b"the old version");
        run(&mut writer, "os.write(fd, b' version'); os.close(fd)");
        uploaded(&mount, "f", "the new version");
    }
}

#[test]
fn what_changes_a_file_without_a_write_is_published_by_its_close() {
    for durability in DURABILITIES {
        let mount = Mount::builder().args(["--durability", durability]).start();
        fs::write(mount.path("f"), "0123456789").unwrap();
        let mut worker = Worker::at(&mount.root);
        run(&mut worker, "fd = os.open('f', os.O_RDWR)");
        run(&mut worker, "os.ftruncate(fd, 5); os.close(fd)");
        uploaded(&mount, "f", "01234");
        // A mapping, changed before and after its descriptor is closed.
        run(&mut worker, "import mmap; fd = os.open('f', os.O_RDWR)");
        run(
            &mut worker,
            "m = mmap.mmap(fd, 5); m[0:2] = b'AB'; os.close(fd)",
        );
        uploaded(&mount, "f", "AB234");
        run(&mut worker, "m[4:5] = b'E'; m.close()");
        uploaded(&mount, "f", "AB23E");
        // By name, while another may write and does not.
        run(&mut worker, "fd = os.open('f', os.O_WRONLY)");
        run(&mut worker, "os.truncate('f', 3); os.close(fd)");
        uploaded(&mount, "f", "AB2");
        run(&mut worker, "fd = os.open('f', os.O_RDONLY | os.O_TRUNC)");
        run(&mut worker, "os.close(fd)");
        uploaded(&mount, "f", "");
    }
}

#[test]
fn fsync_makes_the_whole_file_safe_through_whichever_descriptor() {
    for durability in DURABILITIES {
        let mount = Mount::builder().args(["--durability", durability]).start();
        let (mut writer, mut other) = (Worker::at(&mount.root), Worker::at(&mount.root));
        writer.write_new("f", "so far");
        run(&mut other, "fd = os.open('f', os.O_RDWR)");
        run(&mut other, "os.fsync(fd); os.close(fd)");
        uploaded(&mount, "f", "so far");
        run(&mut writer, "os.write(fd, b' and on'); os.close(fd)");
        uploaded(&mount, "f", "so far and on");
    }
}
