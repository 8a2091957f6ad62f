//! Long files on their way to S3: in parts, over kills, side by side.

mod ahead;
mod fairness;
mod resume;
mod sizes;

use std::time::Duration;

use crate::support::proxy::Proxy;
use crate::support::{Mount, MountBuilder, wait_until};

const WITHIN: Duration = Duration::from_secs(90);
/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let (plan, proxy) = Mount::behind_a_proxy();
    (plan.args(["--part-size", "5MiB"]), proxy)
}

#[track_caller]
fn no_upload_is_left(mount: &Mount) {
    wait_until(WITHIN, "no unfinished upload", || {
        let left = mount.client().unfinished_uploads(mount.bucket());
        left.is_empty()
    });
}
