//! S3 says nothing: how long calls take that ask for the same thing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Mount;
use crate::support::proxy::{Fault, Rule};

const CALLS: usize = 16;
/// Of one call; the one that is under way when it comes takes its time too, and a busy
/// machine some more.
const TIMEOUT: &str = "2s";
const WITHIN: Duration = Duration::from_secs(12);

/// The longest of many calls at once on a mount whose daemon knows of no name yet.
fn longest(call: impl Fn(&Path, usize) + Sync) -> Duration {
    let (plan, proxy) = Mount::behind_a_proxy();
    let objects = (0..CALLS).map(|number| (format!("f{number}"), b"x".to_vec()));
    plan.client.put_many(&plan.bucket, objects);
    let mount = plan.args(["--request-timeout", TIMEOUT]).start();
    proxy.rule(Rule::on("*", Fault::Stall).always());
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let calls = (0..CALLS).map(|number| {
            let (call, root) = (&call, &mount.root);
            scope.spawn(move || {
                let began = Instant::now();
                call(root, number);
                began.elapsed()
            })
        });
        let calls: Vec<_> = calls.collect();
        calls.into_iter().map(|it| it.join().unwrap()).collect()
    });
    times.into_iter().max().unwrap()
}

#[test]
fn lookups_in_one_directory_do_not_wait_for_each_others_timeouts() {
    let longest = longest(|root, number| {
        assert!(fs::metadata(root.join(format!("f{number}"))).is_err());
    });
    assert!(longest < WITHIN, "{longest:?}");
}

#[test]
fn listings_of_one_directory_do_not_wait_for_each_others_timeouts() {
    let longest = longest(|root, _| {
        let listed = fs::read_dir(root).unwrap().next().unwrap();
        assert!(listed.is_err());
    });
    assert!(longest < WITHIN, "{longest:?}");
}
