//! Answers of status 200 whose body is an error, and redirects: neither is a success.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::plan;
use crate::support::proxy::{Fault, Rule};
use crate::support::{DURABILITIES, Mount, sys, wait_until};

const FILES: usize = 60;
const SOON: Duration = Duration::from_secs(60);

fn make_files(mount: &Mount, dir: &str) {
    fs::create_dir(mount.path(dir)).unwrap();
    for number in 0..FILES {
        fs::write(mount.path(format!("{dir}/{number:02}")), b"bytes").unwrap();
    }
    mount.wait_for_keys("the files", |keys| {
        keys.iter().filter(|key| key.starts_with(dir)).count() == FILES
    });
}

#[test]
fn a_bulk_delete_that_is_refused_in_a_200_is_refused() {
    let codes = ["NotImplemented", "AccessDenied", "MalformedXML"];
    for (code, durability) in codes.into_iter().zip(DURABILITIES.into_iter().cycle()) {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("DeleteObjects", Fault::Answer(200, code)).always());
        let mut mount = plan.durability(durability).start();
        make_files(&mount, "d");
        let rm = Command::new("rm").arg("-r").arg(mount.path("d")).output();
        assert!(rm.unwrap().status.success(), "{code}");
        mount.wait_for_keys("an empty bucket", <[String]>::is_empty);
        make_files(&mount, "d");
        let before = proxy.seen_in_all();
        mount.unmount();
        let left = proxy.seen_after(before);
        assert!(!left.contains(&"DeleteObjects"), "{code}: {left:?}");
    }
}

#[test]
fn a_listing_that_is_refused_in_a_200_is_no_empty_directory() {
    for code in ["AccessDenied", "NoSuchBucket", "InternalError"] {
        let (plan, proxy) = plan();
        plan.client.put(&plan.bucket, "d/f", b"bytes");
        let mount = plan.start();
        proxy.rule(Rule::on("ListObjectsV2", Fault::Answer(200, code)).always());
        let before = proxy.seen_in_all();
        assert!(fs::read_dir(mount.path("d")).is_err(), "{code}");
        assert!(fs::remove_dir(mount.path("d")).is_err(), "{code}");
        assert!(
            fs::rename(mount.path("d"), mount.path("e")).is_err(),
            "{code}"
        );
        // A refusal is final, another error is not.
        let asked = proxy.seen_after(before).len();
        assert!(asked <= 3 || code == "InternalError", "{code}: {asked}");
        proxy.heal();
        mount.wait_for("d/f", "the file", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == b"bytes")
        });
    }
}

#[test]
fn a_write_whose_200_is_an_error_or_unreadable_fails_the_close_and_its_bytes_are_kept() {
    const LONG: usize = 9 << 20;
    let refused = Fault::Answer(200, "AccessDenied");
    let unreadable = Fault::Reword("InitiateMultipartUploadResult", "UploadHasBegun");
    // A refusal is final, while the file is written and at its close; what cannot be read is
    // asked for again.
    for (op, fault, len, most) in [
        ("PutObject", refused, 5, 1),
        ("CreateMultipartUpload", refused, LONG, 2),
        ("CreateMultipartUpload", unreadable, LONG, usize::MAX),
        ("UploadPart", refused, LONG, 4),
        ("CompleteMultipartUpload", refused, LONG, 1),
    ] {
        let (plan, proxy) = plan();
        let mount = plan.start();
        proxy.rule(Rule::on(op, fault).always());
        let mut file = fs::File::create(mount.path("f")).unwrap();
        file.write_all(&vec![7; len]).unwrap();
        sys::errno(sys::close(file));
        assert!(proxy.seen(op) <= most, "{op}: {}", proxy.seen(op));
        assert_eq!(mount.object("f"), None, "{op}");
        wait_until(SOON, op, || mount.lost_and_found() == [vec![7; len]]);
    }
}

#[test]
fn an_upload_of_parts_begins_where_the_answer_is_called_as_rclone_calls_it() {
    let (plan, proxy) = plan();
    let mount = plan.start();
    let renamed = Fault::Reword("InitiateMultipartUploadResult", "InitiateMultipartUpload");
    proxy.rule(Rule::on("CreateMultipartUpload", renamed).always());
    let bytes = crate::support::pattern(20 << 20, 1);
    fs::write(mount.path("f"), &bytes).unwrap();
    assert!(mount.object("f").unwrap() == bytes);
    assert!(proxy.seen("UploadPart") > 1);
}

#[test]
fn a_redirect_is_an_error_in_time_and_nobody_is_asked_there() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("Location: http://{}/f", elsewhere.local_addr().unwrap());
    let line: &'static str = line.leak();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    std::thread::spawn(move || {
        for _ in elsewhere.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for status in [301, 302, 303, 307, 308] {
        let (plan, proxy) = plan();
        plan.client.put(&plan.bucket, "there", b"bytes");
        let mount = plan.start();
        proxy.rule(Rule::on("*", Fault::AnswerWith(status, "TemporaryRedirect", line)).always());
        let before = proxy.seen_in_all();
        assert!(fs::read(mount.path("there")).is_err(), "{status}");
        let written = fs::write(mount.path("new"), b"bytes");
        assert!(written.is_err(), "{status}");
        assert!(fs::remove_file(mount.path("there")).is_err(), "{status}");
        assert!(fs::create_dir(mount.path("d")).is_err(), "{status}");
        let asked = proxy.seen_after(before);
        assert!(asked.len() <= 8, "{status}: {asked:?}");
        proxy.heal();
        mount.wait_for("there", "the file", |path| {
            fs::read(path).is_ok_and(|bytes| bytes == b"bytes")
        });
        assert_eq!(mount.keys(), ["there"], "{status}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
