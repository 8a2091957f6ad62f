//! What a store can do, where it does not tell at first.

use std::fs;
use std::time::Duration;

use crate::support::proxy::{Fault, PROBE, Proxy, Rule};
use crate::support::{Mount, SupervisedMount, wait_until};

/// The daemon asks again after pauses that double: half of the time that it has tried.
const WITHIN: Duration = Duration::from_secs(120);

/// Refuses the objects by which a daemon finds out what it can do.
fn tells_nothing(proxy: &Proxy) {
    let refusal = Fault::Answer(403, "AccessDenied");
    proxy.rule(
        Rule::on("PutObject", refusal)
            .key(".mediafs-probe-*")
            .of_store(),
    );
}

/// Conditions are sent as they are, without a look before: it is known that they count.
fn trusts_conditions(mount: &Mount, proxy: &Proxy, name: &str) -> bool {
    let looks = proxy.seen("HeadObject");
    fs::write(mount.path(name), name).unwrap();
    let found = mount.object(name).unwrap();
    assert_eq!(found, name.as_bytes());
    proxy.seen("HeadObject") == looks
}

fn comes_to_trust(mount: &Mount, proxy: &Proxy) {
    assert!(!trusts_conditions(mount, proxy, "before"));
    proxy.heal();
    let mut number = 0;
    wait_until(WITHIN, "an answer", || {
        number += 1;
        trusts_conditions(mount, proxy, &format!("f{number}"))
    });
    wait_until(WITHIN, "nothing of the probe", || {
        mount.all_keys().iter().all(|key| !key.contains(PROBE))
    });
}

#[test]
fn a_store_that_told_nothing_at_the_mount_is_asked_again() {
    let (plan, proxy) = Mount::behind_a_proxy();
    tells_nothing(&proxy);
    let mount = plan.start();
    comes_to_trust(&mount, &proxy);
}

#[test]
fn a_store_that_told_a_predecessor_nothing_is_asked_by_its_successor() {
    let (plan, proxy) = Mount::behind_a_proxy();
    tells_nothing(&proxy);
    let mount = SupervisedMount::start(plan);
    mount.kill_daemon();
    comes_to_trust(&mount, &proxy);
}
