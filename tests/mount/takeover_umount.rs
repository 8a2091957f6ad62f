//! A mount that comes right after another one of the same spool.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::UnmountFlags;
use rustix::process::{Signal, kill_process};

use crate::support::mount::is_mounted;
use crate::support::processes::daemons_of;
use crate::support::programs::{run_shell, said};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::supervised_mount::SupervisedMount;
use crate::support::{Mount, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// Writes a file whose upload waits at the gate.
#[track_caller]
fn write_held(mount: &Mount, proxy: &Proxy) -> Gate {
    let rule = Rule::on("PutObject", Fault::Pass).key("f").always();
    let gate = proxy.hold(Side::BeforeServer, rule);
    std::fs::write(mount.path("f"), b"bytes").unwrap();
    gate.wait_for(1);
    gate
}

#[test]
fn a_mount_after_umount_waits_until_the_one_before_has_uploaded_what_it_has() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--durability", "disk"]);
    let mount = SupervisedMount::start(plan);
    let gate = write_held(&mount, &proxy);
    let output = std::thread::scope(|scope| {
        let script = scope.spawn(|| {
            run_shell("umount \"$1\"", &[&mount.root]);
            mount.run_again()
        });
        wait_until(WITHIN, "a mount that waits", || {
            mount.log().contains("still uploads what")
        });
        assert!(!is_mounted(&mount.root));
        gate.open();
        script.join().unwrap()
    });
    assert!(output.status.success(), "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("still uploads what"), "{told}");
    assert_eq!(mount.object("f").unwrap(), b"bytes");
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"bytes");
    // Its own session, which the one before has not taken away.
    mount.kill_daemon();
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"bytes");
    mount.unmount();
}

#[test]
fn it_waits_for_no_longer_than_its_drain_timeout() {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--durability", "disk", "--drain-timeout", "1s"]);
    let mount = SupervisedMount::start(plan);
    let gate = write_held(&mount, &proxy);
    run_shell("umount \"$1\"", &[&mount.root]);
    // The one before leaves the upload to it.
    proxy.heal();
    let output = mount.run_again();
    assert!(output.status.success(), "{}", said(&output));
    mount.wait_for_keys("the upload", |keys| keys == ["f"]);
    gate.open();
    mount.unmount();
}

#[test]
fn a_spool_of_a_mount_that_serves_is_refused_at_once() {
    let mount = SupervisedMount::start(Mount::builder());
    let spool = mount.scratch().join("spool");
    let other = Mount::builder().set("--spool", &spool);
    let began = Instant::now();
    let output = other.run();
    assert!(!output.status.success());
    assert!(
        said(&output).contains("is in use by another mediafs"),
        "{}",
        said(&output)
    );
    // For one that drains it would wait a minute.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(40), "{took:?}");
    mount.unmount();
}

#[test]
fn an_umount_during_a_takeover_holds() {
    for has_open_file in [false, true] {
        let mount = SupervisedMount::start(Mount::builder());
        std::fs::write(mount.path("f"), b"bytes").unwrap();
        let open = has_open_file.then(|| std::fs::File::open(mount.path("f")).unwrap());
        rustix::process::kill_process(mount.daemon(), Signal::KILL).unwrap();
        rustix::mount::unmount(&mount.root, UnmountFlags::DETACH).unwrap();
        if let Some(mut file) = open {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, b"bytes");
        }
        wait_until(WITHIN, "the end of all its processes", || {
            daemons_of(&mount.root).is_empty()
        });
        assert!(!is_mounted(&mount.root), "{has_open_file}");
    }
}

/// As a script does that has seen EBUSY: a file is open, so the old one lives on.
#[test]
fn each_mount_after_a_lazy_umount_has_what_the_one_before_it_had() {
    const TIMES: usize = 5;
    let mount = SupervisedMount::start(Mount::builder().durability("disk"));
    for time in 0..TIMES {
        let name = format!("f{time}");
        std::fs::write(mount.path(&name), name.as_bytes()).unwrap();
        let mut open = std::fs::File::open(mount.path(&name)).unwrap();
        run_shell("umount -l \"$1\"", &[&mount.root]);
        assert!(!is_mounted(&mount.root));
        let mut bytes = String::new();
        open.read_to_string(&mut bytes).unwrap();
        assert_eq!(bytes, name, "open files go on");
        drop(open);
        let output = mount.run_again();
        assert!(output.status.success(), "{time}: {}", said(&output));
        for before in 0..=time {
            let name = format!("f{before}");
            let read = std::fs::read(mount.path(&name)).unwrap();
            assert_eq!(read, name.as_bytes(), "{time}");
        }
    }
    mount.unmount();
    wait_until(WITHIN, "an end of all processes", || {
        daemons_of(&mount.root).is_empty()
    });
    for time in 0..TIMES {
        let name = format!("f{time}");
        assert_eq!(mount.object(&name).unwrap(), name.as_bytes());
    }
    assert!(mount.lost_and_found().is_empty());
}

/// The kernel gives the lowest number that is free: tests beside this one may get it too.
const MOUNTS_FOR_A_NUMBER: usize = 8;
const ROUNDS_FOR_A_NUMBER: usize = 5;

fn number_of(root: &Path) -> u64 {
    std::fs::metadata(root).unwrap().dev()
}

#[test]
fn a_mount_that_has_the_number_of_one_that_is_gone_outlives_the_successor_of_that_one() {
    // Others on this machine may mount as often.
    if !(0..ROUNDS_FOR_A_NUMBER).any(|_| has_outlived_its_number()) {
        eprintln!("not tested: no mount has got the number of one that is gone");
    }
}

/// Whether a mount has had the number that another one had.
#[track_caller]
fn has_outlived_its_number() -> bool {
    let gone = SupervisedMount::start(Mount::builder());
    let number = number_of(&gone.root);
    let (supervisor, daemon) = (gone.supervisor(), gone.daemon());
    kill_process(supervisor, Signal::STOP).unwrap();
    kill_process(daemon, Signal::KILL).unwrap();
    wait_until(WITHIN, "the death of the daemon", || {
        !gone.processes("mount").contains(&daemon)
    });
    rustix::mount::unmount(&gone.root, UnmountFlags::DETACH).unwrap();
    let mut others = Vec::new();
    let has_number = |other: &Mount| number_of(&other.root) == number;
    while !others.last().is_some_and(has_number) && others.len() < MOUNTS_FOR_A_NUMBER {
        others.push(Mount::builder().start());
    }
    kill_process(supervisor, Signal::CONT).unwrap();
    wait_until(WITHIN, "the end of the one that is gone", || {
        daemons_of(&gone.root).is_empty()
    });
    for other in &others {
        std::fs::write(other.path("f"), b"bytes").unwrap();
        assert_eq!(std::fs::read(other.path("f")).unwrap(), b"bytes");
    }
    others.last().is_some_and(has_number)
}
