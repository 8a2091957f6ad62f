//! S3 says nothing: how long calls take that ask for the same thing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Mount;
use crate::support::proxy::{Fault, Rule};
use crate::support::wait_until;

const CALLS: usize = 32;
/// Of one call; the one that is under way when it comes takes its time too.
const TIMEOUT: &str = "4s";
/// On a busy machine; one after the other they would take three times as long.
const WITHIN: Duration = Duration::from_secs(40);

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

#[test]
fn a_listing_does_not_wait_for_deletes_that_the_store_does_not_answer() {
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
    const DELETES: [&str; 2] = ["DeleteObject", "DeleteObjects"];
    for fault in [Fault::Stall, Fault::Answer(503, "SlowDown")] {
        let (plan, proxy) = Mount::behind_a_proxy();
        for key in ["d/sub/gone", "d/sub/stays", "d/other/gone"] {
            plan.client.put(&plan.bucket, key, b"x");
        }
        let plan = plan.durability("disk").set("--ttl", "0s");
        let mount = plan.args(["--request-timeout", "20s"]).start();
        for op in DELETES {
            proxy.rule(Rule::on(op, fault).always());
        }
        for name in ["d/sub/gone", "d/other/gone"] {
            fs::remove_file(mount.path(name)).unwrap();
        }
        wait_until(WITHIN, "a delete at the store", || {
            DELETES.iter().any(|op| proxy.seen(op) > 0)
        });
        let began = Instant::now();
        for (dir, expected) in [
            ("d", &["other", "sub"][..]),
            ("d/sub", &["stays"]),
            ("d/other", &[]),
        ] {
            let names = fs::read_dir(mount.path(dir)).unwrap();
            let mut names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, expected, "{dir}");
        }
        assert!(began.elapsed() < REQUEST_TIMEOUT, "{:?}", began.elapsed());
        proxy.heal();
        mount.wait_for_keys("the deletes", |keys| keys == ["d/other/", "d/sub/stays"]);
    }
}

#[test]
fn no_directory_goes_before_what_lies_in_it_is_deleted() {
    let (plan, proxy) = Mount::behind_a_proxy();
    for dir in ["removed", "replaced"] {
        plan.client.put(&plan.bucket, &format!("{dir}/gone"), b"x");
    }
    let plan = plan.durability("disk");
    let mount = plan.args(["--request-timeout", TIMEOUT]).start();
    fs::create_dir(mount.path("moved")).unwrap();
    for op in ["DeleteObject", "DeleteObjects"] {
        let refused = Fault::Answer(503, "SlowDown");
        proxy.rule(Rule::on(op, refused).always());
    }
    for name in ["removed/gone", "replaced/gone"] {
        fs::remove_file(mount.path(name)).unwrap();
    }
    let (removed, replaced) = std::thread::scope(|scope| {
        let removed = scope.spawn(|| fs::remove_dir(mount.path("removed")));
        let replaced = fs::rename(mount.path("moved"), mount.path("replaced"));
        (removed.join().unwrap(), replaced)
    });
    removed.unwrap_err();
    replaced.unwrap_err();
    proxy.heal();
    mount.wait_for_keys("the files", |keys| {
        keys == ["moved/", "removed/", "replaced/"]
    });
    fs::remove_dir(mount.path("removed")).unwrap();
    fs::rename(mount.path("moved"), mount.path("replaced")).unwrap();
    mount.wait_for_keys("one directory", |keys| keys == ["replaced/"]);
}
