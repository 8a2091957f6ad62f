//! Requests that get no answer.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use super::plan;
use crate::support::data::MIB;
use crate::support::line::Line;
use crate::support::proxy::{Fault, Rule};
use crate::support::{Mount, Server, pattern, sys};

#[test]
fn a_copy_of_a_byte_that_is_not_answered_ends_within_the_request_timeout_and_is_logged() {
    let (plan, proxy) = plan();
    plan.client.put(&plan.bucket, "f", b"x");
    let mount = plan.args(["--attributes", "stored"]).start();
    proxy.rule(Rule::on("CopyObject", Fault::Stall).always());
    let began = Instant::now();
    let path = mount.path("f");
    let changing = thread::spawn(move || fs::set_permissions(path, Permissions::from_mode(0o600)));
    let said = "no answer from S3 after";
    crate::support::wait_until(Duration::from_secs(60), said, || mount.log().contains(said));
    let seen = sys::errno(changing.join().unwrap());
    assert!([libc::EIO, libc::ETIMEDOUT].contains(&seen), "{seen}");
    // The timeout, and what looks whether it was applied all the same.
    assert!(
        began.elapsed() < Duration::from_secs(90),
        "{:?}",
        began.elapsed()
    );
    drop(proxy);
}

#[test]
fn connections_that_died_without_a_word_cost_one_attempt_together() {
    const FILES: usize = 10;
    let line = Line::to(Server::shared());
    let plan = Mount::builder().set("--endpoint-url", &line.endpoint);
    for number in 0..FILES {
        let body = pattern(4 * MIB, number as u64);
        plan.client.put(&plan.bucket, &format!("f{number}"), &body);
    }
    plan.client.put(&plan.bucket, "last", b"bytes");
    let mount = plan.args(["--request-timeout", "24s"]).start();
    thread::scope(|scope| {
        for number in 0..FILES {
            let path = mount.path(format!("f{number}"));
            scope.spawn(move || fs::read(path).unwrap());
        }
    });
    // More than a request has attempts.
    let dead = line.kill_connections();
    assert!(dead > 4, "{dead} connections");
    let began = Instant::now();
    assert_eq!(fs::read(mount.path("last")).unwrap(), b"bytes");
    fs::rename(mount.path("last"), mount.path("moved")).unwrap();
    assert_eq!(mount.object("moved").unwrap(), b"bytes");
    // One takes 8 seconds.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(16), "{took:?}");
}

/// The kernel asks once more for the first page of a readahead that has failed.
#[test]
fn a_read_without_an_answer_is_tried_for_one_request_timeout() {
    let (plan, proxy) = plan();
    plan.client.put(&plan.bucket, "f", b"bytes");
    let mount = plan.start();
    assert!(mount.path("f").exists());
    proxy.rule(Rule::on("GetObject", Fault::Stall).always());
    let failed = fs::read(mount.path("f")).unwrap_err();
    assert!([libc::EIO, libc::ETIMEDOUT].contains(&failed.raw_os_error().unwrap()));
    // So many attempts are made within it.
    assert!(proxy.seen("GetObject") <= 4, "{}", proxy.seen("GetObject"));
    proxy.heal();
    assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
}
