//! Listings that are not what ListObjectsV2 promises.

use std::collections::BTreeSet;
use std::fs;

use super::{WITHIN, plan, said_once};
use crate::support::proxy::{Fault, Proxy, Rule};
use crate::support::{Mount, MountBuilder, Server, sys, wait_until};

/// More than a page.
const FILES: usize = 1010;
/// The same of a store with short pages.
const FEW_FILES: usize = 110;
const OF_V2: &[&str] = &["list-type", "start-after", "continuation-token"];
const ALL_MARKS: &[&str] = &["list-type", "start-after", "continuation-token", "marker"];

fn put_files(plan: &MountBuilder, count: usize) {
    let files = (0..count).map(|number| (format!("d/{number:04}"), b"x".to_vec()));
    plan.client.put_many(&plan.bucket, files);
}

fn names(mount: &Mount, dir: &str) -> std::io::Result<BTreeSet<String>> {
    let entries = fs::read_dir(mount.path(dir))?;
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().unwrap()));
    names.collect()
}

/// In front of a server that checks no signatures.
fn ignoring(names: &'static [&'static str]) -> (MountBuilder, Proxy) {
    let server = Server::moto();
    let proxy = Proxy::before(server);
    for op in ["ListObjectsV2", "ListObjects"] {
        proxy.rule(Rule::on(op, Fault::Ignore(names)).of_store());
    }
    let plan = Mount::on(server).set("--endpoint-url", &proxy.endpoint);
    (plan, proxy)
}

#[track_caller]
fn moves_whole(mount: &Mount, count: usize) {
    assert_eq!(names(mount, "d").unwrap().len(), count);
    let last = format!("d/{:04}", count - 1);
    assert_eq!(fs::read(mount.path(last)).unwrap(), b"x");
    fs::rename(mount.path("d"), mount.path("e")).unwrap();
    assert_eq!(names(mount, "e").unwrap().len(), count);
    mount.wait_for_keys("the new names alone", |keys| {
        keys.len() == count && keys.iter().all(|key| key.starts_with("e/"))
    });
}

#[test]
fn a_store_that_names_no_next_page_is_asked_for_what_comes_after_the_last_key() {
    let (plan, proxy) = plan();
    proxy.rule(Rule::on("ListObjectsV2", Fault::Strip("NextContinuationToken")).of_store());
    put_files(&plan, FILES);
    moves_whole(&plan.start(), FILES);
}

#[test]
fn a_store_that_has_the_first_version_of_listings_alone_shows_every_file() {
    let (plan, _proxy) = ignoring(OF_V2);
    put_files(&plan, FEW_FILES);
    moves_whole(&plan.start(), FEW_FILES);
}

#[test]
fn a_listing_that_does_not_go_on_is_an_error_and_told_once() {
    let (plan, _proxy) = ignoring(ALL_MARKS);
    put_files(&plan, FEW_FILES);
    let mount = plan.start();
    for _ in 0..2 {
        assert_eq!(sys::errno(names(&mount, "d")), libc::EIO);
        assert_eq!(
            sys::errno(fs::rename(mount.path("d"), mount.path("e"))),
            libc::EIO
        );
    }
    said_once(&mount, "this store's listings do not go on");
    assert_eq!(mount.keys().len(), FEW_FILES);
}

#[test]
fn a_listing_without_a_field_that_is_needed_is_an_error() {
    for field in ["IsTruncated", "ETag", "Size", "LastModified", "Key"] {
        let (plan, proxy) = plan();
        plan.client.put(&plan.bucket, "d/f", b"x");
        let mount = plan.start();
        proxy.rule(
            Rule::on("ListObjectsV2", Fault::Strip(field))
                .key("d/*")
                .always(),
        );
        assert_eq!(sys::errno(names(&mount, "d")), libc::EIO, "{field}");
        proxy.heal();
        wait_until(WITHIN, "the file", || {
            names(&mount, "d").is_ok_and(|names| names.len() == 1)
        });
    }
}

#[test]
fn a_head_without_a_field_that_is_needed_is_an_error() {
    for field in ["ETag", "Last-Modified"] {
        let (plan, proxy) = plan();
        plan.client.put(&plan.bucket, "d/f", b"x");
        let mount = plan.set("--ttl", "0s").start();
        proxy.rule(Rule::on("HeadObject", Fault::Strip(field)).always());
        let seen = sys::errno(fs::metadata(mount.path("d/f")));
        assert_eq!(seen, libc::EIO, "{field}");
    }
}

#[test]
fn a_listing_that_is_not_in_order_is_an_error_and_never_a_file_that_is_not_there() {
    let (plan, proxy) = plan();
    for name in ["a", "b", "c", "e", "f"] {
        plan.client.put(&plan.bucket, &format!("d/{name}"), b"x");
    }
    proxy.rule(
        Rule::on("ListObjectsV2", Fault::Unordered)
            .key("d/")
            .of_store(),
    );
    let mount = plan.start();
    for name in ["a", "c", "f"] {
        let seen = fs::metadata(mount.path("d").join(name));
        assert_eq!(sys::errno(seen), libc::EIO, "{name}");
    }
    assert_eq!(sys::errno(names(&mount, "d")), libc::EIO);
    said_once(&mount, "this store's listings are not in the order of keys");
}

#[test]
fn a_directory_bucket_is_refused_by_its_name() {
    let plan = Mount::builder().bucket("media--use1-az5--x-s3");
    let refused = plan.run();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("directory bucket"), "{said}");
}

/// Where a store lists the directory `a` before the file `a-b`, whose key comes first.
#[test]
fn a_file_whose_name_goes_on_that_of_a_directory_is_there_at_the_end_of_a_page() {
    let plan = Mount::on(Server::seaweedfs());
    let fillers = (0..999).map(|number| (format!("d/0{number:03}"), b"x".to_vec()));
    let around = ["d/a/x", "d/a-b", "d/a.c", "d/b"].map(|key| (key.to_owned(), b"x".to_vec()));
    let files = fillers.chain(around).collect::<Vec<_>>();
    plan.client.put_many(&plan.bucket, files);
    let mount = plan.start();
    for name in ["a-b", "a.c", "b", "a/x"] {
        assert_eq!(
            fs::read(mount.path("d").join(name)).unwrap(),
            b"x",
            "{name}"
        );
    }
    assert_eq!(names(&mount, "d").unwrap().len(), 1003);
}
