//! More faults, each with its line: what credentials may not do, how the bucket is
//! addressed, and what this host lacks.

use std::process::Command;

use super::{line, report, told, told_by};
use crate::support::programs::{run_by, without_fuse};
use crate::support::proxy::{Fault, Rule};
use crate::support::servers::STRANGER;
use crate::support::{DiskKind, Mount, Server, SmallDisk};

const MIB: u64 = 1 << 20;

#[test]
fn each_permission_that_is_missing_is_named() {
    for (op, check, state, permission) in [
        (
            "CreateMultipartUpload",
            "multipart upload",
            "fail",
            "s3:PutObject",
        ),
        ("UploadPart", "multipart upload", "fail", "s3:PutObject"),
        ("HeadObject", "attributes", "fail", "s3:GetObject"),
        ("DeleteObject", "delete", "fail", "s3:DeleteObject"),
        (
            "ListMultipartUploads",
            "list uploads",
            "warn",
            "s3:ListBucketMultipartUploads",
        ),
        ("ListObjectsV2", "bucket", "fail", "s3:ListBucket"),
    ] {
        let (plan, proxy) = Mount::behind_a_proxy();
        proxy.rule(Rule::on(op, Fault::Answer(403, "AccessDenied")).of_store());
        told(&plan, check, state, &[permission]);
    }
    let stranger = Mount::builder().credentials(&STRANGER);
    told(&stranger, "bucket", "fail", &["s3:ListBucket"]);
}

#[test]
fn whose_credentials_are_used_is_told() {
    let plan = Mount::builder();
    let (findings, _) = report(&mut plan.subcommand("doctor"));
    let of = line(&findings, "credentials")["found"].as_str().unwrap();
    let owner = &Server::shared().owner.access_key;
    assert_eq!(of, format!("access key {owner}, from the environment"));
}

#[test]
fn a_bucket_that_dns_does_not_have_as_part_of_the_host_is_told_with_the_option() {
    let plan = Mount::builder()
        .without_flag("--force-path-style")
        .set("--endpoint-url", "http://s3.invalid")
        .args(["--request-timeout", "5s"]);
    let host = format!("{}.s3.invalid", plan.bucket);
    told(&plan, "endpoint", "fail", &[&host, "--force-path-style"]);
}

#[test]
fn a_store_that_ignores_conditions_and_a_clock_that_is_off_are_told() {
    let words = ["ignores", "nobody else write"];
    let moto = Mount::on(Server::moto());
    told(&moto, "conditional requests", "warn", &words);
    let (plan, proxy) = Mount::behind_a_proxy();
    proxy.set_clock(300);
    told(&plan, "clock", "warn", &["differs", "timedatectl"]);
}

#[test]
fn a_spool_on_a_disk_with_little_room_is_told() {
    let plan = Mount::builder();
    let disk = SmallDisk::new(plan.scratch(), DiskKind::Tmpfs, 64 * MIB);
    let plan = plan.set("--spool", disk.path("spool"));
    told(&plan, "spool", "warn", &["make room"]);
}

#[test]
fn a_host_without_fuse_is_told() {
    let plan = Mount::builder();
    let masked = without_fuse(&plan.scratch().join("dev"));
    let mut command = run_by(masked, &plan.subcommand("doctor"));
    told_by(&mut command, "fuse", "fail", &["modprobe fuse"]);
}

#[test]
fn a_kernel_that_is_too_old_is_told() {
    // Source: personality(2), UNAME26.
    let mut old = Command::new("setarch");
    old.arg("--uname-2.6");
    let plan = Mount::builder();
    let mut command = run_by(old, &plan.subcommand("doctor"));
    let words = ["Linux 2.6.", "EINTR", "6.9 or later"];
    told_by(&mut command, "kernel", "warn", &words);
}
