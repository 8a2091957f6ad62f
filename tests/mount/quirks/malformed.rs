//! Answers that are none of S3's, or written in another way: none of them is an outage.

use std::fs;
use std::time::{Duration, Instant};

use super::plan;
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, sys, wait_until};

const AT_ONCE: Duration = Duration::from_secs(8);
const HTML: &str = "Content-Type: text/html\r\n";
const LOGIN: &str = "<!DOCTYPE html><html><title>Sign in</title><body>Welcome</body></html>";

/// A mount whose bucket has the file `d/f`.
fn with_a_file() -> (Mount, Proxy) {
    let (plan, proxy) = plan();
    plan.client.put(&plan.bucket, "d/f", b"bytes of a file");
    (plan.set("--ttl", "0s").start(), proxy)
}

/// It is an error soon, is told in these words, and is no outage.
#[track_caller]
fn is_told<T: std::fmt::Debug>(
    (mount, what): (&Mount, &str),
    told: &[&str],
    call: impl FnOnce() -> std::io::Result<T>,
) {
    let began = Instant::now();
    assert_eq!(sys::errno(call()), libc::EIO, "{what}");
    assert!(began.elapsed() < AT_ONCE, "{what}: {:?}", began.elapsed());
    wait_until(super::WITHIN, what, || {
        let log = mount.log();
        log.lines()
            .any(|line| told.iter().all(|it| line.contains(it)))
    });
    let log = mount.log();
    assert!(!log.contains("S3 unreachable"), "{what}\n{log}");
    assert!(!log.contains("orchestrator context"), "{what}\n{log}");
}

#[test]
fn a_file_is_read_whose_bytes_come_in_chunks() {
    let (mount, proxy) = with_a_file();
    proxy.rule(Rule::on("GetObject", Fault::Chunked).always());
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"bytes of a file");
    assert!(proxy.seen("GetObject") > 0);
}

#[test]
fn a_time_in_the_form_of_listings_is_understood() {
    let (mount, proxy) = with_a_file();
    let line = "Last-Modified: 2015-10-21T07:28:00.000Z";
    proxy.rule(Rule::on("HeadObject", Fault::Header("last-modified", line)).always());
    proxy.rule(Rule::on("GetObject", Fault::Header("last-modified", line)).always());
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"bytes of a file");
}

#[test]
fn a_header_that_cannot_be_read_is_named() {
    let (mount, proxy) = with_a_file();
    let line = "Last-Modified: yesterday";
    proxy.rule(Rule::on("HeadObject", Fault::Header("last-modified", line)).always());
    is_told((&mount, "a time"), &["HeadObject", "ast-"], || {
        fs::metadata(mount.path("d/f"))
    });
}

#[test]
fn answers_about_objects_without_an_etag_are_told_as_what_they_are() {
    const REFUSED: &str =
        "<Error><Code>AccessDenied</Code><Message>no</Message><RequestId>r-17</RequestId></Error>";
    let (mount, proxy) = with_a_file();
    proxy.rule(Rule::on("HeadObject", Fault::Strip("ETag")).always());
    is_told((&mount, "HEAD"), &["HeadObject", "ETag"], || {
        fs::metadata(mount.path("d/f"))
    });
    for (fault, told) in [
        (Fault::Strip("ETag"), vec!["GetObject", "ETag"]),
        (
            Fault::Page(200, HTML, LOGIN),
            vec!["GetObject", "HTML page", "Sign in"],
        ),
    ] {
        let (mount, proxy) = with_a_file();
        proxy.rule(Rule::on("GetObject", fault).always());
        is_told((&mount, "GET"), &told, || fs::read(mount.path("d/f")));
    }
    let (mount, proxy) = with_a_file();
    proxy.rule(Rule::on("GetObject", Fault::Page(200, "", REFUSED)).always());
    assert_eq!(sys::errno(fs::read(mount.path("d/f"))), libc::EACCES);
    wait_until(super::WITHIN, "the store's words", || {
        mount.log().contains("AccessDenied: no (request r-17)")
    });
}

#[test]
fn a_listing_that_is_no_document_of_s3_is_told_as_what_it_is() {
    for (fault, told) in [
        (
            Fault::Page(200, HTML, LOGIN),
            "an HTML page \\\"Sign in\\\"",
        ),
        (Fault::Page(200, "", ""), "the answer is empty (HTTP 200)"),
        (Fault::Page(204, "", ""), "the answer is empty (HTTP 204)"),
        (
            Fault::Page(200, "Content-Encoding: gzip\r\n", "\u{1f}?"),
            "gzip",
        ),
        (Fault::Page(403, HTML, LOGIN), "HTTP 403, an HTML page"),
    ] {
        let (mount, proxy) = with_a_file();
        proxy.rule(Rule::on("ListObjectsV2", fault).always());
        let before = Instant::now();
        assert!(fs::read_dir(mount.path("d")).is_err(), "{fault:?}");
        assert!(before.elapsed() < AT_ONCE, "{fault:?}");
        wait_until(super::WITHIN, told, || {
            let log = mount.log();
            log.contains(told) || log.contains(&told.replace('\\', ""))
        });
        let log = mount.log();
        assert!(!log.contains("S3 unreachable"), "{fault:?}\n{log}");
        assert!(!log.contains("cut off"), "{fault:?}\n{log}");
    }
}

#[test]
fn a_listing_that_is_the_same_page_for_ever_ends_at_the_second() {
    const PAGE: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><Contents><Key>d/f</Key><ETag>&quot;e&quot;</ETag><Size>1</Size><LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents><Contents><Key>d/g</Key><ETag>&quot;e&quot;</ETag><Size>1</Size><LastModified>2015-10-21T07:28:00.000Z</LastModified></Contents></ListBucketResult>";
    let (mount, proxy) = with_a_file();
    proxy.rule(Rule::on("ListObjectsV2", Fault::Document(PAGE)).always());
    let before = proxy.seen("ListObjectsV2");
    let listed: std::io::Result<Vec<_>> =
        fs::read_dir(mount.path("d")).and_then(|entries| entries.collect());
    assert_eq!(sys::errno(listed), libc::EIO);
    let asked = proxy.seen("ListObjectsV2") - before;
    assert!(asked <= 6, "{asked} pages");
}

#[test]
fn a_store_that_takes_no_objects_is_told_at_the_mount() {
    for (status, code) in [(403, "AccessDenied"), (500, "InternalError")] {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("PutObject", Fault::Answer(status, code)).of_store());
        let mount = plan.start();
        let log = mount.log();
        let told = "this store does not take objects: writes will fail";
        let lines = log.lines().filter(|line| line.contains(told));
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        assert!(
            lines[0].contains(code) && lines[0].contains("PutObject"),
            "{log}"
        );
    }
}

#[test]
fn a_mount_does_not_wait_for_a_store_that_takes_no_objects() {
    const TIMEOUT: Duration = Duration::from_secs(60);
    for fault in [Fault::Answer(500, "InternalError"), Fault::Reset] {
        let (plan, proxy) = plan();
        proxy.rule(Rule::on("PutObject", fault).of_store());
        let plan = plan.set("--request-timeout", "60s");
        let began = Instant::now();
        let mount = plan.start();
        let took = began.elapsed();
        assert!(took < TIMEOUT / 2, "{fault:?}: {took:?}");
        // It is asked again once it does.
        proxy.heal();
        fs::write(mount.path("f"), "bytes").unwrap();
        mount.wait_until_uploaded("f", b"bytes");
    }
}
