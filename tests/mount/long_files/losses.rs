//! What only an unfinished upload had is lost: told, kept as far as it is here, and
//! never a file with holes.

use std::fs;

use super::{SPOOL, WITHIN, behind_a_proxy, kept_with_what_is_missing, long_file, nothing_is_left};
use crate::support::data::assert_same_bytes;
use crate::support::proxy::{Fault, Rule};
use crate::support::{DURABILITIES, pattern, sys, wait_until};

#[test]
fn an_upload_that_is_lost_with_parts_of_the_file_fails_the_close_and_is_kept_as_far_as_it_is_here()
{
    for durability in ["s3", "disk"] {
        let (plan, _proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.start();
        let body = pattern(2 * SPOOL, 1);
        let file = long_file(&mount, "f", &body);
        mount.client().abort_uploads(mount.bucket());
        assert_eq!(sys::errno(sys::close(file)), libc::EIO);
        kept_with_what_is_missing(&mount, &body);
        assert!(mount.keys().is_empty(), "no file with holes");
        nothing_is_left(&mount);
        // The name is free, and the mount as it was.
        fs::write(mount.path("f"), b"again").unwrap();
        wait_until(WITHIN, "the next file", || {
            mount.object("f").as_deref() == Some(b"again")
        });
    }
}

/// As S3 answers while another write of the key, or a late attempt of ours, is under way.
#[test]
fn a_completion_that_meets_another_write_of_the_key_is_sent_again() {
    for durability in DURABILITIES {
        let (plan, proxy) = behind_a_proxy(durability, "24MiB");
        let mount = plan.start();
        let body = pattern(2 * SPOOL, 1);
        let file = long_file(&mount, "f", &body);
        let conflict = Fault::Answer(409, "ConditionalRequestConflict");
        proxy.rule(Rule::on("CompleteMultipartUpload", conflict).times(2));
        sys::close(file).unwrap();
        assert_same_bytes(&mount.object("f").unwrap(), &body, "the object");
        assert_eq!(proxy.seen("CreateMultipartUpload"), 1);
        nothing_is_left(&mount);
        assert!(mount.lost_and_found().is_empty());
    }
}

#[test]
fn a_name_that_another_client_took_meanwhile_is_theirs_and_what_is_here_is_kept() {
    let (plan, _proxy) = behind_a_proxy("s3", "24MiB");
    let mount = plan.start();
    let body = pattern(2 * SPOOL, 1);
    let file = long_file(&mount, "f", &body);
    mount.put_object("f", b"theirs");
    assert_eq!(sys::errno(sys::close(file)), libc::EEXIST);
    assert_eq!(mount.object("f").unwrap(), b"theirs");
    kept_with_what_is_missing(&mount, &body);
    nothing_is_left(&mount);
}
