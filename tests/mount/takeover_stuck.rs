//! What waits in the kernel for a daemon that nobody follows, or that cannot end.

use std::fs;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::blocked::block;
use crate::support::processes::daemons_of;
use crate::support::programs::{run_shell, said};
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::supervised_mount::SupervisedMount;
use crate::support::{Mount, MountBuilder, Server, Worker, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn plan(proxy: &Proxy) -> MountBuilder {
    Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .set("--ttl", "500ms")
        .env("_MEDIAFS_NOTIFY_IN_CONTAINER", "1")
}

#[test]
fn without_a_supervisor_the_death_of_the_daemon_is_the_end_of_what_waits() {
    let proxy = Proxy::before(Server::shared());
    let mut mount = plan(&proxy).start();
    let (mut calls, _gate) = block(&mount, &proxy);
    mount.signal(Signal::KILL);
    mount.wait_for_exit();
    assert!(calls.outcome().is_err());
    wait_until(WITHIN, "an end of all processes", || {
        daemons_of(&mount.root).is_empty()
    });
    let gone = fs::metadata(&mount.root).unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOTCONN));
    assert!(mount.log().contains("the connection is aborted"));
}

#[test]
fn when_the_supervisor_is_dead_too_what_waits_is_released_after_a_while() {
    let proxy = Proxy::before(Server::shared());
    let mount = SupervisedMount::start(plan(&proxy).env("_MEDIAFS_ABORT_AFTER_MS", "1000"));
    let (mut calls, _gate) = block(&mount, &proxy);
    let (supervisor, daemon) = (mount.supervisor(), mount.daemon());
    kill_process(supervisor, Signal::STOP).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    assert!(calls.outcome().is_err());
    wait_until(WITHIN, "an end of all processes", || {
        daemons_of(&mount.root).is_empty()
    });
    assert!(mount.log().contains("the connection is aborted"));
}

#[test]
fn a_connection_that_somebody_aborted_is_mounted_anew() {
    let mount = SupervisedMount::start(Mount::builder());
    fs::write(mount.path("f"), b"bytes").unwrap();
    let first = mount.daemon();
    let mut worker = Worker::at(mount.scratch());
    let path = mount.path("f");
    worker
        .run(&format!("r = os.open({path:?}, os.O_RDONLY)"))
        .unwrap();
    // It is busy, so this aborts and does not unmount.
    run_shell("! umount -f \"$1\" 2>&1", &[&mount.root]);
    mount.wait_for_successor(first);
    wait_until(WITHIN, "the mount anew", || {
        fs::read(mount.path("f")).is_ok_and(|bytes| bytes == b"bytes")
    });
    assert!(
        mount.log().contains("was aborted by somebody"),
        "{}",
        mount.log()
    );
    assert!(worker.run("os.read(r, 1)").is_err());
    drop(worker);
    mount.unmount();
}

#[test]
fn a_mount_over_one_that_does_not_answer_is_refused_and_does_not_hang() {
    let mount = Mount::fresh();
    mount.signal(Signal::STOP);
    let output = mount.run_again();
    mount.signal(Signal::CONT);
    let told = said(&output);
    assert!(!output.status.success());
    assert!(told.contains("does not answer"), "{told}");
}

/// A daemon that looks into its own mount: its configuration is a link there, for a while.
#[test]
fn a_successor_does_not_wait_for_a_daemon_that_waits_for_itself() {
    let proxy = Proxy::before(Server::shared());
    let plan = plan(&proxy).args(["--watchdog", "0s"]);
    let (config, aside) = (plan.scratch().join("m.toml"), plan.scratch().join("aside"));
    fs::write(&config, "negative-ttl = \"0s\"\n").unwrap();
    fs::copy(&config, &aside).unwrap();
    let mount = SupervisedMount::start(plan.arg("--config").arg(&config));
    fs::remove_file(&config).unwrap();
    std::os::unix::fs::symlink(mount.path("m.toml"), &config).unwrap();
    let rule = Rule::on("HeadObject", Fault::Pass).key("m.toml");
    let gate = proxy.hold(Side::BeforeServer, rule);
    let daemon = mount.daemon();
    kill_process(daemon, Signal::HUP).unwrap();
    gate.wait_for(1);
    fs::rename(&aside, &config).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    mount.wait_for_successor(daemon);
    fs::write(mount.path("f"), b"bytes").unwrap();
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    let log = mount.log();
    assert!(log.contains("a thread of it waits in the kernel"), "{log}");
    assert!(log.contains("taking over its spool"), "{log}");
    gate.open();
    mount.unmount();
}

#[test]
fn successors_that_cannot_start_keep_applications_waiting_for_a_bounded_time() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let config = plan.scratch().join("m.toml");
    fs::write(&config, "negative-ttl = \"0s\"\n").unwrap();
    let plan = plan.env("_MEDIAFS_ABORT_AFTER_MS", "3000");
    let mount = SupervisedMount::start(plan.arg("--config").arg(&config));
    fs::write(mount.path("f"), b"bytes").unwrap();
    let mut worker = Worker::at(&mount.root);
    worker.write_new("open", "before ");
    fs::write(&config, "negative-ttl = no duration\n").unwrap();
    let listing = Rule::on("ListObjectsV2", Fault::Pass).always();
    let gate = proxy.hold(Side::BeforeServer, listing);
    worker.begin("os.stat('none')");
    gate.wait_for(1);
    kill_process(mount.daemon(), Signal::KILL).unwrap();
    proxy.heal();
    gate.open();
    // The one that waits at the abort, and any later one.
    assert_eq!(worker.answer("stat"), Err(libc::ECONNABORTED));
    assert_eq!(worker.run("os.write(fd, b'x')"), Err(libc::ENOTCONN));
    wait_until(WITHIN, "a word in the log", || {
        mount.log().contains("none has taken its place")
    });
    drop(worker);
    fs::write(&config, "negative-ttl = \"0s\"\n").unwrap();
    wait_until(WITHIN, "the mount anew", || {
        fs::read(mount.path("f")).is_ok_and(|bytes| bytes == b"bytes")
    });
    assert_eq!(mount.lost_and_found(), [b"before "]);
    mount.unmount();
}
