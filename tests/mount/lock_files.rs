//! Files by whose name clients exclude each other: of two that have the same bytes, the
//! second is not taken for one's own where an answer was lost.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::proxy::{Fault, Proxy, Rule, Side};
use crate::support::{Mount, wait_until};

const ATTRIBUTES: [&str; 2] = ["fixed", "stored"];
const LOCK: &str = "lock";

fn mount(attributes: &str) -> (Mount, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan
        .args(["--attributes", attributes])
        .set("--ttl", "1h")
        .args(["--negative-ttl", "1h"]);
    (plan.start(), proxy)
}

fn take_by_rename(mount: &Mount) -> io::Result<()> {
    let (from, to) = (mount.path("mine"), mount.path(LOCK));
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[test]
fn a_rename_that_was_not_carried_out_does_not_take_anothers_lock_for_its_own() {
    for attributes in ATTRIBUTES {
        let (mount, proxy) = mount(attributes);
        fs::write(mount.path("mine"), "held").unwrap();
        let rule = Rule::on("CopyObject", Fault::Reset).key(LOCK);
        let lost = proxy.hold(Side::BeforeServer, rule);
        let taken = std::thread::scope(|scope| {
            let taken = scope.spawn(|| take_by_rename(&mount));
            lost.wait_for(1);
            mount.put_object(LOCK, b"held");
            lost.open();
            taken.join().unwrap()
        });
        let refused = taken.unwrap_err().kind();
        assert_eq!(refused, io::ErrorKind::AlreadyExists, "{attributes}");
        assert_eq!(fs::read(mount.path("mine")).unwrap(), b"held");
    }
}

#[test]
fn a_rename_that_was_carried_out_is_known_by_the_times_that_are_stored() {
    let (mount, proxy) = mount("stored");
    fs::write(mount.path("mine"), "held").unwrap();
    proxy.rule(Rule::on("CopyObject", Fault::LoseAnswer).key(LOCK));
    take_by_rename(&mount).unwrap();
    mount.wait_for_keys("the lock alone", |keys| keys == [LOCK]);
}

#[test]
fn an_exclusive_create_does_not_take_for_its_own_what_was_there_long_before() {
    const LONG_BEFORE: Duration = Duration::from_secs(8);
    for attributes in ATTRIBUTES {
        let (mount, proxy) = mount(attributes);
        assert!(!mount.path(LOCK).exists());
        mount.put_object(LOCK, b"held");
        let put = Instant::now();
        wait_until(LONG_BEFORE * 2, "an older lock", || {
            put.elapsed() > LONG_BEFORE
        });
        proxy.rule(Rule::on("PutObject", Fault::LoseAnswer).key(LOCK));
        let mut mine = fs::File::create_new(mount.path(LOCK)).unwrap();
        io::Write::write_all(&mut mine, b"held").unwrap();
        let refused = mine.sync_all().unwrap_err().kind();
        assert_eq!(refused, io::ErrorKind::AlreadyExists, "{attributes}");
    }
}
