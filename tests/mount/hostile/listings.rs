//! XML, and answers without an end.

use std::fs;
use std::time::Duration;

use super::mount::{in_time, is_failure, is_well, mounted, names, set};
use crate::support::hostile::{Answer, goes_on, not_found, object, page, xml};

#[test]
fn xml_made_to_hurt_is_eio_in_time_and_in_little_memory() {
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY a \"aaaaaaaaaaaaaaaaaaaa\">\
        <!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;\">\
        <!ENTITY d \"&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;\"><!ENTITY e \"&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;\">]>\
        <ListBucketResult><Contents><Key>&e;</Key><ETag>e</ETag></Contents></ListBucketResult>";
    let outside = "<?xml version=\"1.0\"?><!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\
        <ListBucketResult><Contents><Key>&x;</Key><ETag>e</ETag><Size>1</Size></Contents></ListBucketResult>";
    let nested = format!("<ListBucketResult>{}", "<a>".repeat(1_000_000));
    let cut = "<ListBucketResult><Contents><Key>good</Key><ETag>e</E";
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListBucketResult>".to_vec();
    let entry = object(&"x".repeat(200), "1", "e").repeat(3000).into_bytes();
    let error =
        b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n<Error><Code>".to_vec();
    let cases = [
        ("entities in entities", xml(bomb)),
        ("an entity from a file", xml(outside)),
        ("a million levels", xml(&nested)),
        ("cut off", xml(cut)),
        ("not XML", xml("\u{0}\u{1}")),
        ("empty", xml("")),
        ("another document", xml("<html><body>hello</body></html>")),
        ("a gigabyte of entries", Answer::Repeated(head, entry, 1200)),
        (
            "a gigabyte of an error",
            Answer::Repeated(error, vec![b'x'; 1 << 20], 1024),
        ),
    ];
    for (what, listing) in cases {
        let (_server, mount) = mounted(move |request| {
            if request.is_listing() {
                listing.clone()
            } else {
                not_found()
            }
        });
        match in_time(what, || names(&mount.root)) {
            Ok(names) => assert_eq!(names, set([]), "{what}"),
            Err(error) => assert!(is_failure(&error), "{what}: {error}"),
        }
        is_well(mount);
    }
}

#[test]
fn an_answer_that_never_comes_to_its_end_is_given_up() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_vec();
    let pause = Duration::from_millis(100);
    for (what, listing) in [
        (
            "interim answers",
            Answer::Repeated(Vec::new(), interim, 10_000_000),
        ),
        ("a dripping head", Answer::Dripping(vec![b'x'; 600], pause)),
        (
            "a dripping body",
            Answer::Dripping([head, vec![b' '; 600]].concat(), pause),
        ),
    ] {
        let (_server, mount) = mounted(move |request| {
            if request.is_listing() {
                listing.clone()
            } else {
                not_found()
            }
        });
        let error = in_time(what, || names(&mount.root)).unwrap_err();
        assert!(is_failure(&error), "{what}: {error}");
        is_well(mount);
    }
}

/// What stands in the page of this number.
type Pages = fn(usize) -> String;

#[test]
fn a_listing_that_never_ends_is_eio() {
    let cases: [(&str, Pages); 4] = [
        ("the same token", |_| goes_on("t") + &object("f", "1", "e")),
        ("two tokens in turn", |n| {
            goes_on(if n % 2 == 0 { "a" } else { "b" }) + &object("f", "1", "e")
        }),
        ("ever new tokens and no entries", |n| {
            goes_on(&n.to_string())
        }),
        ("ever new tokens and entries that go backwards", |n| {
            goes_on(&n.to_string()) + &object(&format!("f{:020}", u64::MAX - n as u64), "1", "e")
        }),
    ];
    for (what, inside) in cases {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let (server, mount) = mounted(move |request| {
            if request.is_listing() {
                let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                page(&inside(n))
            } else {
                not_found()
            }
        });
        let error = in_time(what, || names(&mount.root)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO), "{what}");
        // Calls that read on behalf of the application end as well.
        drop(in_time(what, || fs::remove_dir(mount.path("f"))));
        drop(in_time(what, || {
            fs::rename(mount.path("f"), mount.path("g"))
        }));
        assert!(
            server.requests() < 1000,
            "{what}: {} requests",
            server.requests()
        );
        is_well(mount);
    }
}
