//! Metadata, symlinks and ETags.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::mount::{in_time, is_failure, is_well, names, plan, set, stored};
use crate::support::hostile::{Answer, Hostile, Request, answer, object, page, raw};

/// One object `f` whose HEAD and GET have these header lines.
fn with_headers(headers: Vec<Vec<u8>>) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| {
        if request.is_listing() {
            return if request.prefix().is_empty() {
                page(&object("f", "4", "e"))
            } else {
                page("")
            };
        }
        let mut bytes =
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\nETag: \"e\"\r\n\
            Last-Modified: Fri, 02 Jan 2026 03:04:05 GMT\r\n"
                .to_vec();
        for header in &headers {
            bytes.extend(header);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"\r\n");
        if request.method == "GET" {
            bytes.extend(b"body");
        }
        Answer::Bytes(bytes)
    }
}

#[test]
fn attributes_that_make_no_sense_are_those_of_the_options() {
    let absurd = [
        "-1",
        "99999999999999999999",
        "4294967295",
        "18446744073709551615",
        "0x1ff",
        "1e309",
        "",
        "NaN",
        "-9223372036854775808",
        "9223372036854775807",
        "-0",
        "0.9999999999999999999999",
    ];
    for value in absurd {
        let lines = ["mode", "uid", "gid", "mtime", "atime", "xattr"];
        let lines = lines.map(|name| format!("x-amz-meta-{name}: {value}").into_bytes());
        let (_server, mount) = stored(with_headers(lines.to_vec()));
        let stat = in_time(value, || fs::metadata(mount.path("f"))).unwrap();
        assert!(stat.is_file(), "{value}");
        assert!(
            ![u32::MAX].contains(&stat.uid()),
            "{value}: no user has this number"
        );
        assert!(![u32::MAX].contains(&stat.gid()), "{value}");
        assert_eq!(fs::read(mount.path("f")).unwrap(), b"body", "{value}");
        is_well(mount);
    }
}

#[test]
fn headers_that_are_no_text_too_long_or_too_many_cost_the_file_and_nothing_else() {
    let long = [b"x-amz-meta-long: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    let many = |n: usize| format!("x-amz-meta-{n}: x").into_bytes();
    for (what, lines) in [
        ("not UTF-8", vec![b"x-amz-meta-mode: \xff\xfe".to_vec()]),
        ("1 MiB", vec![long]),
        ("20,000 headers", (0..20_000).map(many).collect()),
        ("a control character", vec![b"x-amz-meta-a: \x01".to_vec()]),
    ] {
        let (_server, mount) = stored(with_headers(lines));
        if let Err(error) = in_time(what, || fs::metadata(mount.path("f"))) {
            assert!(is_failure(&error), "{what}: {error}");
        }
        is_well(mount);
    }
}

#[test]
fn a_symlink_shows_its_target_and_the_daemon_never_follows_it() {
    for target in ["/etc/passwd", "../../../etc/passwd", "/proc/self/environ"] {
        let (_server, mount) = stored(move |request| {
            if request.is_listing() {
                return if request.prefix().is_empty() {
                    page(&object("f", "9223372036854775807", "e"))
                } else {
                    page("")
                };
            }
            let headers = ["ETag: \"e\"", "x-amz-meta-mode: 41471"];
            match request.method.as_str() {
                "HEAD" => raw(
                    "200 OK",
                    &[&headers[..], &["Content-Length: 9223372036854775807"]].concat(),
                    b"",
                ),
                _ => answer("200 OK", &headers, target.as_bytes()),
            }
        });
        let seen = in_time(target, || fs::read_link(mount.path("f")));
        if let Ok(seen) = seen {
            assert_eq!(seen, PathBuf::from(target));
        }
        is_well(mount);
    }
}

#[test]
fn etags_that_are_none_hide_the_file_and_break_no_line_of_the_log() {
    let long = "e".repeat(10 << 10);
    for etag in [
        "",
        "&quot;&quot;",
        "a&quot;b",
        "line&#13;&#10;X-Injected: yes",
        "&#0;",
        "\u{7f}",
        &long,
    ] {
        let etag = etag.to_owned();
        let server = Hostile::new(
            move |request| match (request.is_listing(), request.prefix()) {
                (true, "") => page(&(object("f", "4", &etag) + &object("good", "4", "e"))),
                (true, _) => page(""),
                (false, _) if request.key == "good" => answer("200 OK", &["ETag: \"e\""], b"body"),
                (false, _) => answer("200 OK", &["ETag: \"\""], b"body"),
            },
        );
        let mount = plan(&server).args(["--log", "debug"]).start();
        let read = in_time("a file of that ETag", || fs::read(mount.path("f")));
        assert!(read.is_err(), "{read:?}");
        if let Ok(listed) = names(&mount.root) {
            assert_eq!(listed, set(["good"]));
            assert_eq!(fs::read(mount.path("good")).unwrap(), b"body");
        }
        let injected = |line: &str| line.starts_with("X-Injected");
        assert!(!mount.log().lines().any(injected), "{}", mount.log());
        is_well(mount);
    }
}
