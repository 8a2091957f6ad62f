//! Uploads side by side.

use std::fs::{self, File};
use std::io::Write;

use super::{ALWAYS, WITHIN};
use crate::support::data::{MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, MountBuilder, pattern, sys, wait_until};

/// What is stuck is not sent again meanwhile.
fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let (plan, proxy) = super::behind_a_proxy();
    (plan.args(["--request-timeout", "10min"]), proxy)
}

/// A file of 22 MiB, closed in the background.
fn closing(mount: &Mount, name: &str, body: &[u8]) -> std::thread::JoinHandle<()> {
    let mut file = File::create(mount.path(name)).unwrap();
    file.write_all(body).unwrap();
    // What comes of it is no matter.
    std::thread::spawn(move || drop(sys::close(file)))
}

#[test]
fn an_upload_that_is_stuck_does_not_hold_up_others() {
    for durability in ["s3", "disk"] {
        let (plan, proxy) = behind_a_proxy();
        let plan = plan.args(["--upload-concurrency", "8"]);
        let mut mount = plan.args(["--durability", durability]).start();
        let body = pattern(22 * MIB, 1);
        // All that one file may have under way.
        proxy.fail("UploadPart", Fault::Stall, 4);
        let stuck = closing(&mount, "stuck", &body);
        wait_until(WITHIN, "4 parts stuck", || proxy.seen("UploadPart") >= 4);
        let others: Vec<_> = ["a", "b"]
            .map(|name| (name, closing(&mount, name, &body)))
            .into();
        for number in 0..20 {
            fs::write(mount.path(format!("small-{number}")), b"small").unwrap();
        }
        for (name, closing) in others {
            closing.join().unwrap();
            mount.wait_until_uploaded(name, &body);
        }
        mount.wait_for_keys("the small ones", |keys| keys.len() == 22);
        assert_eq!(mount.object("stuck"), None);
        mount.kill9();
        stuck.join().unwrap();
    }
}

#[test]
fn a_file_whose_parts_hang_while_it_is_written_keeps_no_other_from_sending_its_own() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.args(["--upload-concurrency", "8"]).start();
    proxy.rule(Rule::on("UploadPart", Fault::Stall).key("stuck").always());
    let open = |name: &str, parts: usize| {
        let mut file = File::create(mount.path(name)).unwrap();
        file.write_all(&pattern(parts * 5 * MIB + 1, 1)).unwrap();
        file
    };
    let stuck = open("stuck", 12);
    wait_until(WITHIN, "4 parts stuck", || proxy.seen("UploadPart") >= 4);
    let other = open("other", 3);
    wait_until(WITHIN, "the other's parts", || {
        proxy.passed("UploadPart") == 3
    });
    mount.kill9();
    drop((stuck, other));
}

#[test]
fn small_files_are_closed_while_a_huge_one_has_all_that_it_can_have_under_way() {
    let (plan, proxy) = behind_a_proxy();
    let mut mount = plan.args(["--upload-concurrency", "8"]).start();
    proxy.fail_after("UploadPart", 8, Fault::Stall, ALWAYS);
    let huge = closing(&mount, "huge", &pattern(256 * MIB, 1));
    wait_until(WITHIN, "parts stuck", || proxy.seen("UploadPart") >= 12);
    for number in 0..20 {
        let name = format!("small-{number}");
        let body = pattern(MIB, number);
        fs::write(mount.path(&name), &body).unwrap();
        assert_same_bytes(&mount.object(&name).unwrap(), &body, &name);
    }
    assert_eq!(proxy.seen("UploadPart"), 12, "the huge one had no turn");
    mount.kill9();
    huge.join().unwrap();
}
