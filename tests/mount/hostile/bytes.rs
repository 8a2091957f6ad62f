//! Sizes, lengths and bodies.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

use super::mount::{in_time, is_well, mounted};
use crate::support::hostile::{Answer, answer, not_found, object, page, raw};
use crate::support::sys;

#[test]
fn sizes_that_cannot_be_are_told_as_what_they_are_and_read_as_errors() {
    for size in [
        "9223372036854775807",
        "9223372036854775808",
        "-1",
        "x",
        "",
        "1e3",
        "99999999999999999999",
    ] {
        let (_server, mount) =
            mounted(
                move |request| match (request.is_listing(), request.prefix()) {
                    (true, "") => page(&(object("f", size, "e") + &object("g", "1", "e"))),
                    (true, _) => page(""),
                    (false, _) if request.method == "GET" => answer(
                        "206 Partial Content",
                        &["ETag: \"e\"", "Content-Range: bytes 0-0/1"],
                        b"x",
                    ),
                    (false, _) => not_found(),
                },
            );
        if let Ok(stat) = in_time(size, || fs::metadata(mount.path("f"))) {
            assert!(i64::try_from(stat.len()).is_ok(), "{size}");
            let file = File::open(mount.path("f")).unwrap();
            for at in [0, 1 << 40, (1 << 62) - 1, i64::MAX as u64 - 5] {
                drop(in_time(size, || file.read_at(&mut [0; 4], at)));
            }
            if let Ok(mut file) = File::options().append(true).open(mount.path("f")) {
                drop(in_time(size, || {
                    file.write_all(b"more").and_then(|()| sys::close(file))
                }));
            }
        }
        is_well(mount);
    }
}

const TAG: &str = "ETag: \"e\"";
const RANGE: &str = "Content-Range: bytes 0-3/4";

fn part(headers: &[&str], body: &[u8]) -> Answer {
    raw("206 Partial Content", headers, body)
}

fn whole(headers: &[&str], body: &[u8]) -> Answer {
    answer("206 Partial Content", headers, body)
}

/// Of a body `body`, Content-Length lines that are wrong, of which some can be read over.
fn wrong_lengths() -> Vec<(&'static str, Answer)> {
    let with = |length: &str| part(&[TAG, RANGE, length], b"body");
    let two = [TAG, RANGE, "Content-Length: 4", "Content-Length: 5"];
    vec![
        (
            "longer than its length",
            part(&[TAG, RANGE, "Content-Length: 4"], b"bodybody"),
        ),
        ("shorter", with("Content-Length: 400")),
        ("negative", with("Content-Length: -4")),
        ("2^63", with("Content-Length: 9223372036854775808")),
        ("2^70", with("Content-Length: 1180591620717411303424")),
        ("two lengths", part(&two, b"body!")),
        ("none", part(&[TAG, RANGE], b"body")),
    ]
}

fn wrong_bodies() -> Vec<(&'static str, Answer)> {
    let other = "Content-Range: bytes 100-103/104";
    let absurd = "Content-Range: bytes 0-18446744073709551615/18446744073709551615";
    let head = b"HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\n\r\n".to_vec();
    let chunked = [TAG, RANGE, "Transfer-Encoding: chunked"];
    vec![
        ("another range", whole(&[TAG, other], b"body")),
        ("an absurd range", whole(&[TAG, absurd], b"body")),
        ("too short", whole(&[TAG, RANGE], b"b")),
        ("empty", whole(&[TAG, RANGE], b"")),
        ("too long", whole(&[TAG, RANGE], &[b'x'; 100])),
        (
            "another version",
            whole(&["ETag: \"other\"", RANGE], b"body"),
        ),
        ("no version", whole(&[RANGE], b"body")),
        ("endless", Answer::Repeated(head, vec![b'x'; 1 << 20], 300)),
        (
            "chunks that are none",
            part(&chunked, b"ffffffffffffffff\r\nbody"),
        ),
        ("no HTTP", Answer::Bytes(b"\0\xff\xfe garbage".to_vec())),
    ]
}

#[test]
fn a_body_that_is_not_what_its_headers_say_is_eio_and_not_other_bytes() {
    for (what, get) in wrong_lengths().into_iter().chain(wrong_bodies()) {
        let (_server, mount) =
            mounted(
                move |request| match (request.is_listing(), request.prefix()) {
                    (true, "") => page(&object("f", "4", "e")),
                    (true, _) => page(""),
                    (false, _) if request.method == "GET" => get.clone(),
                    (false, _) => answer("200 OK", &["ETag: \"e\""], b""),
                },
            );
        let read = in_time(what, || fs::read(mount.path("f")));
        match read {
            Ok(bytes) => assert_eq!(bytes, b"body", "{what}"),
            Err(error) => assert!(
                [Some(libc::EIO), Some(libc::ESTALE), Some(libc::ETIMEDOUT)]
                    .contains(&error.raw_os_error()),
                "{what}: {error}"
            ),
        }
        is_well(mount);
    }
}
