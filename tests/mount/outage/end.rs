//! What is sent when an outage ends.

use std::fs;
use std::time::{Duration, Instant};

use super::{WITHIN, behind_a_proxy, names};
use crate::support::wait_until;

#[test]
fn deletes_that_failed_in_an_outage_are_sent_at_its_end() {
    let (plan, proxy) = behind_a_proxy();
    let plan = plan.args(["--request-timeout", "2s", "--durability", "disk"]);
    plan.client.put(&plan.bucket, "removed", b"x");
    plan.client.put(&plan.bucket, "other", b"x");
    let mount = plan.start();
    assert_eq!(names(&mount, "").unwrap(), ["other", "removed"]);
    proxy.all_down();
    fs::remove_file(mount.path("removed")).unwrap();
    // The pause that has grown by then is between 12 and 26 seconds.
    wait_until(WITHIN, "eight failures", || {
        mount.log().contains("failures=8")
    });
    let healed = Instant::now();
    proxy.heal();
    wait_until(WITHIN, "the delete", || mount.keys() == ["other"]);
    assert!(
        healed.elapsed() < Duration::from_secs(12),
        "{}",
        mount.log()
    );
}
