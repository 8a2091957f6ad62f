//! A mount that comes right after another one of the same spool.

use std::time::{Duration, Instant};

use crate::support::mount::is_mounted;
use crate::support::programs::{run_shell, said};
use crate::support::proxy::{Fault, Gate, Proxy, Rule, Side};
use crate::support::supervised_mount::SupervisedMount;
use crate::support::{Mount, wait_until};

const WITHIN: Duration = Duration::from_secs(30);

/// Writes a file whose upload waits at the gate.
#[track_caller]
fn write_held(mount: &Mount, proxy: &Proxy) -> Gate {
    let rule = Rule::on("PutObject", Fault::Pass).key("f");
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
    assert!(
        began.elapsed() < Duration::from_secs(9),
        "{:?}",
        began.elapsed()
    );
    mount.unmount();
}
