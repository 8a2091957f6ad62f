//! Stores that lack or refuse something: what is used in its place, and what is told.

mod checksums;
mod codes;
mod copies;
mod deletes;
mod errors_in_200;
mod listings;
mod malformed;
mod markers;
mod silence;

use std::time::Duration;

use crate::support::Mount;
use crate::support::proxy::Proxy;

const WITHIN: Duration = Duration::from_secs(60);

/// Waits until the daemon has said something, and checks that it has said it once.
#[track_caller]
fn said_once(mount: &Mount, what: &str) {
    let said = || mount.log().matches(what).count();
    crate::support::wait_until(WITHIN, what, || said() > 0);
    assert_eq!(said(), 1, "{what}");
}

/// A mount in front of a store that has no rules yet, with short deadlines.
fn plan() -> (crate::support::MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    let plan = plan.args(["--request-timeout", "10s"]);
    (plan.args(["--drain-timeout", "5min"]), proxy)
}
