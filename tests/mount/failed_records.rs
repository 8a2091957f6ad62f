//! A file that is written again while its first version is on its way, where the journal
//! takes no record of what lies over what.

use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

/// The third record of a sealed stage fails, and as many in a row as are said.
fn written_again(failing: u32, write_again: impl Fn(&Mount, &Proxy)) -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let records = format!("seal_stage_synced=2*off->{failing}*panic(planned)->off");
    let plan = plan.durability("disk").env("FAILPOINTS", records);
    let mount = plan.start();
    let first = Rule::on("PutObject", Fault::Pass).key("f");
    let gate = proxy.hold(Side::BeforeServer, first);
    fs::write(mount.path("f"), b"first").unwrap();
    gate.wait_for(1);
    write_again(&mount, &proxy);
    gate.open();
    (mount, proxy)
}

#[test]
fn what_is_uploaded_stays_below_what_was_written_meanwhile_after_a_kill_too() {
    for failing in [1, 2] {
        let (mut mount, _proxy) = written_again(failing, |mount, _| {
            let mut file = File::options().append(true).open(mount.path("f")).unwrap();
            file.write_all(b" second").unwrap();
            sys::close(file).unwrap();
        });
        mount.wait_until_uploaded("f", b"first second");
        assert!(mount.log().contains("planned"), "no record failed");
        mount.kill9();
        mount.remount();
        mount.unmount();
        assert_eq!(mount.object("f").unwrap(), b"first second", "{failing}");
        assert_eq!(mount.lost_and_found(), Vec::<Vec<u8>>::new());
    }
}

#[test]
fn what_is_uploaded_does_not_come_back_where_what_was_written_meanwhile_is_refused() {
    let (mut mount, proxy) = written_again(1, |mount, proxy| {
        fs::write(mount.path("f"), b"second").unwrap();
        let refused = Fault::Answer(400, "EntityTooLarge");
        proxy.rule(Rule::on("PutObject", refused).key("f").always());
    });
    wait_until(WITHIN, "the refusal", || {
        mount.lost_and_found() == [b"second"]
    });
    assert_eq!(mount.object("f").unwrap(), b"first");
    proxy.heal();
    let theirs = b"of another client";
    mount.client().put(mount.bucket(), "f", theirs);
    mount.unmount();
    mount.remount();
    mount.unmount();
    assert_eq!(mount.object("f").unwrap(), b"of another client");
}
