//! Bytes that change on their way between S3 and here.

use std::fs;

use crate::support::data::{KIB, MIB, assert_same_bytes};
use crate::support::proxy::{Fault, Proxy};
use crate::support::{Mount, MountBuilder, Server, pattern, sys};

/// More than any number of attempts.
const ALWAYS: usize = 1_000_000;

fn behind_a_proxy() -> (MountBuilder, Proxy) {
    let proxy = Proxy::before(Server::seaweedfs());
    let plan = Mount::on(Server::seaweedfs()).set("--endpoint-url", &proxy.endpoint);
    (plan, proxy)
}

#[test]
fn a_bit_flipped_on_its_way_from_s3_is_asked_for_again() {
    let (plan, proxy) = behind_a_proxy();
    let files = [("small", 10), ("block", MIB), ("odd", 700 * KIB + 3)];
    let files = files.map(|(name, len)| (name, pattern(len, len as u64)));
    for (name, body) in &files {
        plan.client.put(&plan.bucket, name, body);
    }
    let mount = plan.start();
    for (name, body) in &files {
        let seen = proxy.seen("GetObject");
        proxy.fail("GetObject", Fault::FlipAnswer, 1);
        assert_same_bytes(&fs::read(mount.path(name)).unwrap(), body, name);
        assert_eq!(proxy.seen("GetObject"), seen + 2, "{name}");
    }
}

#[test]
fn bytes_that_never_match_their_checksum_are_eio_and_never_served() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    let body = pattern(5000, 1);
    fs::write(mount.path("f"), &body).unwrap();
    proxy.fail("GetObject", Fault::FlipAnswer, ALWAYS);
    assert_eq!(sys::errno(fs::read(mount.path("f"))), libc::EIO);
    let log = mount.log();
    assert!(log.contains("do not match their checksum"), "{log}");
    proxy.heal();
    assert_same_bytes(&fs::read(mount.path("f")).unwrap(), &body, "healed");
}

#[test]
fn a_bit_flipped_on_its_way_to_s3_is_refused_and_sent_again() {
    let (plan, proxy) = behind_a_proxy();
    let mount = plan.start();
    for (name, len) in [("small", 10), ("long", 7 * MIB)] {
        let body = pattern(len, 1);
        let seen = proxy.seen("PutObject");
        proxy.fail("PutObject", Fault::FlipRequest, 1);
        fs::write(mount.path(name), &body).unwrap();
        assert_same_bytes(&mount.object(name).unwrap(), &body, name);
        assert_eq!(proxy.seen("PutObject"), seen + 2, "{name}");
    }
    assert!(mount.lost_and_found().is_empty());
}

#[test]
fn every_object_is_stored_with_a_checksum_of_its_bytes() {
    let mount = Mount::on(Server::seaweedfs()).start();
    for (name, len) in [("small", 10), ("long", 20 * MIB)] {
        fs::write(mount.path(name), pattern(len, 1)).unwrap();
        let stored = mount.client().crc64nvme(mount.bucket(), name);
        assert!(stored.is_some_and(|sum| !sum.is_empty()), "{name}");
    }
}
