//! More faults, each with its line: what credentials may not do, how the bucket is
//! addressed, and what this host lacks.

use std::process::Command;

use super::{line, report, told, told_by};
use crate::support::programs::{has_all, run_by, without_fuse};
use crate::support::proxy::{Fault, Rule};
use crate::support::servers::STRANGER;
use crate::support::tls_front::TlsFront;
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
fn a_spool_that_cannot_be_made_is_told_with_what_is_in_its_way() {
    let plan = Mount::builder();
    let file = plan.scratch().join("file");
    std::fs::write(&file, b"x").unwrap();
    let plan = plan.set("--spool", file.join("below/spool"));
    let words = ["cannot be made", "file is not a directory", "--spool"];
    told(&plan, "spool", "fail", &words);
}

#[test]
fn a_host_without_fuse_is_told() {
    let plan = Mount::builder();
    let masked = without_fuse(&plan.scratch().join("dev"));
    let mut command = run_by(masked, &plan.subcommand("doctor"));
    told_by(&mut command, "fuse", "fail", &["modprobe fuse"]);
}

#[test]
fn what_to_type_is_told_where_the_device_of_fuse_may_not_be_opened() {
    const OF_ROOT: &str = r#"
        mount -t tmpfs -o dev,mode=755 none "$0"
        mknod -m 600 "$0/fuse" c 10 229
        mount --bind "$0/fuse" /dev/fuse
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@""#;
    let plan = Mount::builder().user(65534);
    let device = plan.scratch().join("device");
    std::fs::create_dir(&device).unwrap();
    let mut refused = Command::new("unshare");
    let private = ["--mount", "--propagation", "private", "sh", "-ec", OF_ROOT];
    refused.args(private).arg(&device);
    let mut command = run_by(refused, &plan.subcommand("doctor"));
    let words = ["Permission denied", "chmod 0666 /dev/fuse"];
    told_by(&mut command, "fuse", "fail", &words);
}

#[test]
fn an_endpoint_of_the_other_scheme_is_told_with_the_right_one() {
    let server = Server::shared();
    let tls = server.endpoint.replace("http://", "https://");
    let plan = Mount::builder().set("--endpoint-url", &tls);
    let right = format!("--endpoint-url {}", server.endpoint);
    told(&plan, "endpoint", "fail", &["TLS", &right]);
    let front = TlsFront::before(server);
    let right = front.endpoint("127.0.0.1");
    let plain = right.replace("https://", "http://");
    let plan = Mount::builder().set("--endpoint-url", &plain);
    let right = format!("--endpoint-url {right}");
    told(&plan, "endpoint", "fail", &["HTTPS", &right]);
}

#[test]
fn what_a_store_answers_in_its_own_form_is_told_shortly_and_with_no_permission() {
    let moto = Mount::on(Server::moto());
    let (findings, _) = report(&mut moto.subcommand("doctor"));
    for (check, advice) in [
        ("list of parts", "nothing to do"),
        ("versioning", "its own tools"),
    ] {
        let line = line(&findings, check);
        assert_eq!(line["state"], "warn", "{line:#}");
        assert!(line["found"].to_string().len() < 500, "{line:#}");
        has_all(line["advice"].as_str().unwrap(), &[advice]);
    }
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
