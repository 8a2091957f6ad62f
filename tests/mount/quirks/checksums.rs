//! Checksums of uploads, and stores that refuse them.

use std::fs;
use std::os::unix::fs::FileExt;

use super::{plan, said_once};
use crate::support::data::MIB;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{DURABILITIES, Mount, MountBuilder, Server, pattern};

const REFUSED: &str = "this store refuses uploads with";

/// Short files, long ones, an edit of a long one, reads, removals.
#[track_caller]
fn everything_works(mount: &mut Mount) {
    let long = pattern(20 * MIB, 1);
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/long"), &long).unwrap();
    for number in 0..30 {
        fs::write(mount.path(format!("d/{number}")), "short").unwrap();
    }
    mount.wait_until_uploaded("d/long", &long);
    mount.wait_until_uploaded("d/29", b"short");
    let file = fs::File::options().write(true).open(mount.path("d/long"));
    file.unwrap().write_all_at(b"edit", 9 * MIB as u64).unwrap();
    let mut edited = long;
    edited[9 * MIB..][..4].copy_from_slice(b"edit");
    mount.wait_until_uploaded("d/long", &edited);
    mount.remount();
    assert!(fs::read(mount.path("d/long")).unwrap() == edited);
    fs::remove_dir_all(mount.path("d")).unwrap();
    mount.wait_for_keys("nothing", <[String]>::is_empty);
}

#[test]
fn a_store_that_refuses_checksum_headers_gets_content_md5_and_it_is_told_once() {
    let refusals = [(400, "InvalidArgument"), (501, "NotImplemented")];
    for ((status, code), durability) in refusals.into_iter().zip(DURABILITIES) {
        let (plan, proxy) = plan();
        let refusal = Fault::Answer(status, code);
        proxy.rule(Rule::on("*", refusal).header("x-amz-checksum-").of_store());
        let mut mount = plan.durability(durability).start();
        // Found out by the first objects, which are the probe's.
        said_once(&mount, REFUSED);
        everything_works(&mut mount);
        assert_eq!(mount.log().matches(REFUSED).count(), 2, "once a mount");
        // Their checksum is one that the store takes.
        for bulk in ["refuses bulk deletes", "refused a bulk delete"] {
            assert!(!mount.log().contains(bulk), "{code}");
        }
    }
}

#[test]
fn a_store_that_refuses_every_checksum_gets_none() {
    let (plan, proxy) = plan();
    for header in ["x-amz-checksum-", "content-md5"] {
        let refusal = Fault::Answer(400, "InvalidArgument");
        proxy.rule(Rule::on("*", refusal).header(header).of_store());
    }
    let mut mount = plan.start();
    everything_works(&mut mount);
    // Found out by the probe's objects or the next ones: those of one moment tell different
    // steps of it.
    assert!(mount.log().contains("they carry no checksum from now on"));
}

/// What a mount sends, of headers that begin so.
fn sends(plan: MountBuilder, proxy: &Proxy, header: &'static str) -> bool {
    let mount = plan.start();
    let answer = Fault::Answer(403, "AccountProblem");
    proxy.rule(Rule::on("PutObject", answer).header(header).always());
    fs::write(mount.path("f"), "bytes").ok();
    let is_sent = mount.object("f").is_none();
    proxy.heal();
    assert!(!mount.log().contains(REFUSED), "{}", mount.log());
    is_sent
}

#[test]
fn an_operator_and_the_aws_setting_choose_the_checksum() {
    let headers = [
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-",
        "content-md5",
    ];
    let cases = [
        ("auto", [true, false, true, false]),
        ("crc64nvme", [true, false, true, false]),
        ("crc32c", [false, true, true, false]),
        ("md5", [false, false, false, true]),
        ("none", [false, false, false, false]),
    ];
    for (choice, want) in cases {
        for (header, want) in headers.into_iter().zip(want) {
            let (plan, proxy) = plan();
            let plan = plan.args(["--upload-checksum", choice]);
            assert_eq!(sends(plan, &proxy, header), want, "{choice} {header}");
        }
    }
    let calculation = "AWS_REQUEST_CHECKSUM_CALCULATION";
    for (header, want) in [("x-amz-checksum-", false), ("content-md5", true)] {
        let (plan, proxy) = plan();
        let plan = plan.env(calculation, "when_required");
        assert_eq!(sends(plan, &proxy, header), want, "{calculation} {header}");
    }
}

#[test]
fn every_checksum_is_one_that_a_store_takes() {
    for server in [Server::seaweedfs(), Server::moto()] {
        for choice in ["crc32c", "md5", "none"] {
            let plan = Mount::on(server).args(["--upload-checksum", choice]);
            everything_works(&mut plan.start());
        }
    }
}
