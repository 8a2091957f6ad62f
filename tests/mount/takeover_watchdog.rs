//! A daemon under its supervisor that hangs, and one that does not.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::processes::stop;
use crate::support::supervised_mount::SupervisedMount;
use crate::support::{Mount, MountBuilder, Worker, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// No machine is so slow that a daemon looks dead that is not.
const WATCHDOG: Duration = Duration::from_secs(8);

fn watched() -> MountBuilder {
    Mount::builder().args(["--watchdog", &format!("{}s", WATCHDOG.as_secs())])
}

#[test]
fn a_daemon_that_is_stopped_is_replaced_and_open_files_go_on() {
    let mount = SupervisedMount::start(watched());
    let mut worker = Worker::at(mount.scratch());
    let path = mount.path("f");
    worker.write_new(path.to_str().unwrap(), "before ");
    let first = mount.daemon();
    kill_process(first, Signal::STOP).unwrap();
    mount.wait_for_successor(first);
    worker
        .run("os.write(fd, b'and after'); os.close(fd)")
        .unwrap();
    assert_eq!(mount.object("f").unwrap(), b"before and after");
    assert!(
        mount.log().contains("watchdog: no health report"),
        "{}",
        mount.log()
    );
    drop(worker);
    mount.unmount();
}

#[test]
fn a_supervisor_that_was_stopped_itself_blames_no_daemon() {
    let mount = SupervisedMount::start(watched());
    let (first, supervisor) = (mount.daemon(), mount.supervisor());
    // As in a frozen container: longer than the watchdog, for both.
    stop(supervisor);
    stop(first);
    std::thread::sleep(WATCHDOG + Duration::from_secs(1));
    kill_process(first, Signal::CONT).unwrap();
    kill_process(supervisor, Signal::CONT).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    fs::write(mount.path("f"), b"x").unwrap();
    assert_eq!(mount.daemon(), first, "{}", mount.log());
    mount.unmount();
}

#[test]
fn without_a_watchdog_it_is_waited_for() {
    let mount = SupervisedMount::start(Mount::builder().args(["--watchdog", "0s"]));
    let environment = format!("/proc/{}/environ", mount.daemon().as_raw_nonzero());
    let environment = fs::read(environment).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("WATCHDOG_USEC"));
    mount.kill_daemon();
    wait_until(WITHIN, "the next one", || {
        fs::write(mount.path("f"), b"x").is_ok()
    });
    mount.unmount();
}
