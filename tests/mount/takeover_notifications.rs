//! A daemon that dies while the kernel holds back what it was told to drop from
//! its caches: an application has the directory locked in a call that only the
//! daemon, or its successor, can answer.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::blocked::{BlockedCalls, anything_stuck};
use crate::support::control::done;
use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::supervised_mount::SupervisedMount;
use crate::support::worker::Worker;
use crate::support::{Mount, MountBuilder, Server, wait_until};

const WITHIN: Duration = Duration::from_secs(60);
/// Short enough that names are asked for one by one, not by a listing.
const TTL: Duration = Duration::from_millis(500);

/// How a daemon ends that does not unmount.
#[derive(Debug, Clone, Copy)]
enum Death {
    Kill,
    Upgrade,
    Abort,
    Watchdog,
}

const DEATHS: [Death; 4] = [Death::Kill, Death::Upgrade, Death::Abort, Death::Watchdog];

/// A call that has its directory locked, and the request that it waits for.
#[derive(Debug, Clone, Copy)]
struct Call {
    line: &'static str,
    request: &'static str,
    key: &'static str,
}

fn plan(proxy: &Proxy) -> MountBuilder {
    Mount::builder()
        .set("--endpoint-url", &proxy.endpoint)
        .set("--ttl", format!("{}ms", TTL.as_millis()))
        // No machine is so slow that a daemon looks dead that is not.
        .args(["--exclusive-create", "strict", "--watchdog", "10s"])
        .env("_MEDIAFS_NOTIFY_IN_CONTAINER", "1")
}

#[track_caller]
fn end(mount: &SupervisedMount, death: Death) {
    let daemon = mount.daemon();
    let signal = match death {
        Death::Kill => Signal::KILL,
        Death::Upgrade => Signal::USR2,
        Death::Abort => Signal::ABORT,
        Death::Watchdog => Signal::STOP,
    };
    kill_process(daemon, signal).unwrap();
    mount.wait_for_successor(daemon);
}

/// Every way to die while one kind of call has the directory locked.
#[track_caller]
fn a_successor_comes(call: Call) {
    let proxy = Proxy::before(Server::shared());
    let mount = SupervisedMount::start(plan(&proxy));
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/f"), b"first").unwrap();
    let mut calls = BlockedCalls::of(&mount.root, &mount.root);
    for (round, death) in DEATHS.into_iter().enumerate() {
        fs::write(mount.path("d/victim"), "x").unwrap();
        calls.open_file();
        // What is known of the directory is too old by then to answer a listing.
        std::thread::sleep(TTL * 2);
        let rule = Rule::on(call.request, Fault::Pass).key(call.key).always();
        let gate = proxy.hold(Side::BeforeServer, rule);
        calls.lock_directory(&call.line.replace("NEW", &format!("d/new{round}")), &gate);
        let replaced = format!("of another client, {round}");
        mount.put_object("d/f", replaced.as_bytes());
        calls.wait_for_a_notification_that_waits();
        // What the successor sends passes.
        proxy.heal();
        end(&mount, death);
        calls.released();
        gate.open();
        proxy.wait_until_idle();
        let after = mount.path(format!("d/after{round}"));
        fs::write(&after, "whole").unwrap();
        assert_eq!(fs::read(&after).unwrap(), b"whole");
        mount.wait_for("d/f", "what the other client wrote", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == replaced.as_bytes())
        });
    }
    drop(calls);
    assert!(mount.lost_and_found().is_empty(), "{:?}", mount.sidecars());
    mount.unmount();
    for round in 0..DEATHS.len() {
        let key = format!("d/after{round}");
        assert_eq!(mount.object(&key).unwrap(), b"whole");
    }
}

#[test]
fn a_successor_comes_while_a_notification_waits_for_mkdir() {
    a_successor_comes(Call {
        line: "os.mkdir('NEW')",
        request: "PutObject",
        key: "d/new*",
    });
}

#[test]
fn a_successor_comes_while_a_notification_waits_for_create() {
    a_successor_comes(Call {
        line: "os.close(os.open('NEW', os.O_CREAT | os.O_EXCL | os.O_WRONLY))",
        request: "PutObject",
        key: "d/new*",
    });
}

#[test]
fn a_successor_comes_while_a_notification_waits_for_unlink() {
    a_successor_comes(Call {
        line: "os.unlink('d/victim')",
        request: "DeleteObject",
        key: "d/victim",
    });
}

#[test]
fn a_successor_comes_while_a_notification_waits_for_rename() {
    a_successor_comes(Call {
        line: "os.rename('d/victim', 'NEW')",
        request: "CopyObject",
        key: "d/new*",
    });
}

#[test]
fn a_successor_comes_while_a_notification_waits_for_a_listing() {
    a_successor_comes(Call {
        // getdents64: os.listdir() asks for attributes first.
        line: "os.lseek(d, 0, os.SEEK_SET); ctypes.CDLL(None).syscall(217, d, ctypes.create_string_buffer(4096), 4096)",
        request: "ListObjectsV2",
        key: "d/",
    });
}

/// The kernel drops no page that is being read, and whoever reads it waits for S3.
#[test]
fn a_successor_comes_while_a_notification_waits_for_a_page_that_is_read() {
    let proxy = Proxy::before(Server::shared());
    let mount = SupervisedMount::start(plan(&proxy));
    fs::create_dir(mount.path("d")).unwrap();
    let mut calls = BlockedCalls::of(&mount.root, &mount.root);
    for (round, death) in DEATHS.into_iter().enumerate() {
        let name = format!("d/f{round}");
        let body = name.repeat(10_000).into_bytes();
        mount.put_object(&name, &body);
        mount.wait_for(&name, "their file", |path| path.exists());
        let rule = Rule::on("GetObject", Fault::Pass).key(&name).always();
        let gate = proxy.hold(Side::BeforeServer, rule);
        let read = format!("r = os.open({name:?}, os.O_RDONLY); os.pread(r, 100, 0); os.close(r)");
        calls.lock_directory(&read, &gate);
        let path = mount.path(&name).display().to_string();
        done(&mount, &["refresh", &path]);
        wait_until(WITHIN, "a notification that waits", || {
            anything_stuck(&mount.root)
        });
        proxy.heal();
        end(&mount, death);
        gate.open();
        calls.released();
        proxy.wait_until_idle();
        assert_eq!(fs::read(mount.path(&name)).unwrap(), body);
    }
    drop(calls);
    mount.unmount();
}

/// What the kernel is asked to forget comes after a notification that waits, and is lost
/// with the daemon: its successor knows all names that the kernel knows.
#[test]
fn a_successor_comes_while_the_kernel_has_yet_to_forget_names() {
    const NAMES: usize = 200;
    const LIMIT: usize = 20;
    let proxy = Proxy::before(Server::shared());
    let plan = plan(&proxy).set("--ttl", "1h");
    let mount = SupervisedMount::start(plan.env("_MEDIAFS_NAMES_LIMIT", LIMIT.to_string()));
    let objects = (0..NAMES).map(|number| (format!("e/{number:03}"), b"bytes".to_vec()));
    mount.client().put_many(mount.bucket(), objects);
    mount.wait_for("e/199", "the files", |path| path.exists());
    let numbers = || {
        let path = |number: usize| mount.path(format!("e/{number:03}"));
        let all = (0..NAMES).map(|number| fs::metadata(path(number)).unwrap().ino());
        all.collect::<Vec<_>>()
    };
    for (round, death) in [Death::Kill, Death::Upgrade].into_iter().enumerate() {
        let dir = format!("d{round}");
        fs::create_dir(mount.path(&dir)).unwrap();
        fs::write(mount.path(format!("{dir}/f")), b"bytes").unwrap();
        let rule = Rule::on("PutObject", Fault::Pass).key(&format!("{dir}/new*"));
        let rule = rule.always();
        let gate = proxy.hold(Side::BeforeServer, rule);
        let mut calls = Worker::at(&mount.root);
        calls.begin(&format!("os.mkdir('{dir}/new')"));
        gate.wait_for(1);
        let path = mount.path(format!("{dir}/f")).display().to_string();
        done(&mount, &["refresh", &path]);
        wait_until(WITHIN, "a notification that waits", || {
            anything_stuck(&mount.root)
        });
        let before = numbers();
        proxy.heal();
        end(&mount, death);
        calls.answer("mkdir").unwrap();
        gate.open();
        proxy.wait_until_idle();
        assert_eq!(numbers(), before);
    }
    mount.unmount();
}
