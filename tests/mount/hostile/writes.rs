//! Answers to writes, and what is said of failures.

use std::fs::File;
use std::io::Write;

use super::mount::{ANSWERED_WITHIN, in_time, is_failure, is_well, mounted, names};
use crate::support::hostile::{answer, not_found, page, xml};
use crate::support::{sys, wait_until};

#[test]
fn an_upload_id_that_is_none_fails_the_close() {
    let long = "u".repeat(10 << 10);
    for id in ["", "a&#10;b", "../../x", "&#0;", &long] {
        let answered = xml(&format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        ));
        let (_server, mut mount) = mounted(move |request| match request.method.as_str() {
            "POST" if request.query.contains_key("uploads") => answered.clone(),
            _ if request.is_listing() => page(""),
            _ => not_found(),
        });
        let mut file = File::create(mount.path("f")).unwrap();
        let written = file.write_all(&vec![7; 20 << 20]);
        let closed = in_time("close", || sys::close(file));
        assert!(written.is_err() || closed.is_err(), "{id:?}");
        wait_until(ANSWERED_WITHIN, "the bytes in lost+found", || {
            mount.lost_and_found().len() == 1
        });
        mount.remount();
        assert!(
            !mount
                .log()
                .contains("aborting an unfinished multipart upload"),
            "{id:?}"
        );
        is_well(mount);
    }
}

#[test]
fn a_servers_words_are_one_short_line_of_the_log() {
    let words = format!(
        "said&#13;&#10;X-Injected: yes&#10;&#27;[2J{}",
        "x".repeat(4 << 20)
    );
    let body = format!("<Error><Code>Odd</Code><Message>{words}</Message></Error>");
    let (_server, mount) = mounted(move |_| answer("400 Bad Request", &[], body.as_bytes()));
    let error = in_time("a listing", || names(&mount.root)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    let log = mount.log();
    assert!(log.contains("said"), "{log}");
    assert!(
        !log.lines().any(|line| line.starts_with("X-Injected")),
        "{log}"
    );
    assert!(
        !log.contains('\u{1b}') && log.len() < 64 << 10,
        "{} bytes",
        log.len()
    );
    is_well(mount);
}

#[test]
fn an_answer_to_a_write_that_names_no_version_fails_the_close_and_keeps_the_bytes() {
    for headers in [&[][..], &["ETag: \"\""], &["ETag: \"a\"b\""]] {
        let (_server, mount) = mounted(move |request| match request.method.as_str() {
            "PUT" => answer("200 OK", headers, b""),
            _ if request.is_listing() => page(""),
            _ => not_found(),
        });
        let mut file = File::create(mount.path("f")).unwrap();
        file.write_all(b"precious").unwrap();
        let closed = in_time("close", || sys::close(file));
        assert!(is_failure(&closed.unwrap_err()), "{headers:?}");
        wait_until(ANSWERED_WITHIN, "the bytes in lost+found", || {
            mount.lost_and_found() == [b"precious"]
        });
        is_well(mount);
    }
}
