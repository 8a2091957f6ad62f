//! What a store's refusals mean.

use std::fs;
use std::io::Write;

use super::{WITHIN, plan};
use crate::support::proxy::{Fault, Rule};
use crate::support::{DURABILITIES, sys, wait_until};

#[test]
fn a_refused_write_is_the_error_that_the_store_means() {
    let cases = [
        (403, "QuotaExceeded", libc::EDQUOT),
        (403, "AccountProblem", libc::EACCES),
        (400, "XMinioAdminBucketQuotaExceeded", libc::EDQUOT),
        (403, "storage_cap_exceeded", libc::EDQUOT),
        (507, "XMinioStorageFull", libc::ENOSPC),
        (507, "InsufficientStorage", libc::ENOSPC),
        (507, "", libc::ENOSPC),
        (409, "BucketHasAMood", libc::EIO),
        (409, "", libc::EIO),
        (413, "", libc::EIO),
        (413, "RequestEntityTooLarge", libc::EIO),
        (400, "EntityTooLarge", libc::EFBIG),
        (412, "", libc::ESTALE),
    ];
    let (plan, proxy) = plan();
    let mount = plan.start();
    for (nth, (status, code, want)) in cases.into_iter().enumerate() {
        let name = format!("f{nth}");
        proxy.rule(
            Rule::on("PutObject", Fault::Answer(status, code))
                .key(&name)
                .always(),
        );
        let mut file = fs::File::create(mount.path(&name)).unwrap();
        file.write_all(b"bytes").unwrap();
        let before = proxy.seen("PutObject");
        let seen = sys::errno(sys::close(file));
        if want == libc::ESTALE {
            assert!([libc::ESTALE, libc::EIO].contains(&seen), "{seen}");
        } else {
            assert_eq!(seen, want, "{status} {code}");
        }
        let sent = proxy.seen("PutObject") - before;
        assert!(sent <= 3, "{status} {code}: {sent}");
    }
}

#[test]
fn a_request_that_a_busy_store_refuses_is_sent_again() {
    let busy = [
        (400, "ThrottlingException"),
        (400, "RequestThrottled"),
        (403, "BandwidthLimitExceeded"),
        (400, "PriorRequestNotComplete"),
        (400, "KMS.ThrottlingException"),
        (400, "IncompleteBody"),
        (503, "SlowDown"),
    ];
    let (plan, proxy) = plan();
    let mount = plan.start();
    for (nth, (status, code)) in busy.into_iter().enumerate() {
        let name = format!("f{nth}");
        proxy.rule(
            Rule::on("PutObject", Fault::Answer(status, code))
                .key(&name)
                .times(2),
        );
        let mut file = fs::File::create(mount.path(&name)).unwrap();
        file.write_all(code.as_bytes()).unwrap();
        let closed = sys::close(file);
        assert!(closed.is_ok(), "{code}: {closed:?}");
        assert_eq!(mount.object(&name).unwrap(), code.as_bytes());
    }
}

#[test]
fn what_a_full_store_refuses_waits_in_the_spool_until_there_is_room() {
    for (status, code) in [
        (403, "QuotaExceeded"),
        (507, "XMinioStorageFull"),
        (409, "Oddity"),
    ] {
        let (plan, proxy) = plan();
        let mut mount = plan.durability("disk").start();
        proxy.rule(Rule::on("PutObject", Fault::Answer(status, code)).always());
        fs::write(mount.path("f"), "bytes").unwrap();
        wait_until(WITHIN, "refusals", || proxy.seen("PutObject") >= 3);
        assert!(mount.lost_and_found().is_empty(), "{code}");
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"bytes");
        mount.kill9();
        let before = proxy.seen("PutObject");
        mount.remount();
        wait_until(WITHIN, "refusals", || proxy.seen("PutObject") >= before + 3);
        let asked = proxy.seen("PutObject");
        assert!(asked < 30, "{code}: {asked} attempts");
        proxy.heal();
        mount.wait_until_uploaded("f", b"bytes");
    }
}

#[test]
fn bytes_that_a_full_store_refused_at_a_close_are_kept() {
    for durability in DURABILITIES {
        let (plan, proxy) = plan();
        let mut mount = plan.durability(durability).start();
        proxy.rule(Rule::on("PutObject", Fault::Answer(507, "XMinioStorageFull")).always());
        let mut file = fs::File::create(mount.path("f")).unwrap();
        file.write_all(b"bytes").unwrap();
        let closed = sys::close(file);
        if durability == "s3" {
            assert_eq!(sys::errno(closed), libc::ENOSPC);
            wait_until(WITHIN, "the bytes in lost+found", || {
                mount.lost_and_found() == [b"bytes"]
            });
        } else {
            closed.unwrap();
            mount.kill9();
            proxy.heal();
            mount.remount();
            mount.wait_until_uploaded("f", b"bytes");
        }
    }
}
