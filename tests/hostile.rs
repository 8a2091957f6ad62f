//! A bucket that means harm: whatever its keys, metadata, sizes, ETags and XML
//! are, the mount stays inside itself, answers in time, and stays small.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use support::hostile::{
    Answer, Hostile, Request, answer, directory, goes_on, not_found, object, page, raw, xml,
};
use support::{Mount, MountBuilder, sys, wait_until};

/// Longest that one call may take: the deadline of one request and its retries.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
/// Twice what an idle daemon takes, and the memory of its cache.
const RSS_LIMIT_KIB: u64 = 160 << 10;
const DESCRIPTORS_LIMIT: usize = 64;

fn plan(server: &Hostile) -> MountBuilder {
    Mount::builder()
        .set("--endpoint-url", &server.endpoint)
        .args(["--request-timeout", "2s", "--memory-cache", "64MiB"])
}

/// A mount of what a script answers.
fn mounted(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Hostile, Mount) {
    let server = Hostile::new(script);
    let mount = plan(&server).start();
    (server, mount)
}

/// The same, with attributes that are stored with objects.
fn stored(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> (Hostile, Mount) {
    let server = Hostile::new(script);
    let mount = plan(&server).args(["--attributes", "stored"]).start();
    (server, mount)
}

/// The daemon serves, is small, has not panicked, and ends as asked.
#[track_caller]
fn is_well(mut mount: Mount) {
    assert!(fs::metadata(&mount.root).unwrap().is_dir());
    mount.check_bounds(RSS_LIMIT_KIB, DESCRIPTORS_LIMIT);
    let peak = peak_kib_of(mount.pid());
    assert!(peak <= RSS_LIMIT_KIB, "{peak} KiB of memory at its height");
    assert!(!mount.log().contains("panicked"), "{}", mount.log());
    mount.unmount();
}

/// The most resident memory that a process ever had. Source: proc_pid_status(5).
fn peak_kib_of(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().strip_suffix(" kB");
    number.unwrap().parse().unwrap()
}

fn in_time<T>(what: &str, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = call();
    let took = start.elapsed();
    assert!(took < ANSWERED_WITHIN, "{what} took {took:?}");
    outcome
}

/// EIO, or no answer in time after attempts that were no answers.
fn is_failure(error: &std::io::Error) -> bool {
    [Some(libc::EIO), Some(libc::ETIMEDOUT)].contains(&error.raw_os_error())
}

fn names(dir: &Path) -> std::io::Result<BTreeSet<String>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().into_string().unwrap()))
        .collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Answers the listing of the root with this text; nothing else is there.
fn root_lists(inside: String) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| match (request.is_listing(), request.prefix()) {
        (true, "") => page(&inside),
        (true, _) => page(""),
        (false, _) => not_found(),
    }
}

#[test]
fn keys_that_lead_out_are_no_names() {
    let long = "x".repeat(300);
    let deep = "d/".repeat(600);
    let keys = [
        "..",
        ".",
        "/",
        "//",
        "/etc/passwd",
        "../../etc/passwd",
        "a/../../b",
        "nul&#0;",
        "%00",
        "%2F",
        "..%2F..%2Fetc",
        "",
        " ",
        "%ff",
        "%C3%28",
        "&#xD800;",
        "new&#10;line",
        "&#27;[31m",
        "&#x2E;&#x2E;",
        &long,
        &deep,
        "good",
    ];
    // Those that no XML may hold spoil the page that they are on; each is tried alone too.
    for key in keys {
        let (_server, mount) = mounted(root_lists(object(key, "1", "e") + &directory(key)));
        let listed = in_time(key, || names(&mount.root));
        if let Ok(listed) = listed {
            for name in listed {
                assert!(!["", ".", ".."].contains(&name.as_str()), "{key:?}");
                assert!(!name.contains(['/', '\0']), "{key:?}: {name:?}");
                assert!(name.len() <= 255, "{key:?}");
            }
        }
        assert!(!mount.path("etc").exists(), "{key:?}");
        is_well(mount);
    }
    let url = "<EncodingType>url</EncodingType>".to_owned();
    let inside = ["..", ".", "%2F", "..%2F", "%00", "%ff", "good"];
    let inside = inside
        .map(|key| object(key, "1", "e") + &directory(key))
        .concat();
    let (_server, mount) = mounted(root_lists(url + &inside));
    assert_eq!(names(&mount.root).unwrap(), set(["good"]));
    is_well(mount);
}

#[test]
fn keys_outside_what_was_asked_for_are_not_shown() {
    let (_server, mount) = mounted(|request| match (request.is_listing(), request.prefix()) {
        (true, "") => page(&directory("d/")),
        (true, "d/") => page(
            &(object("elsewhere", "1", "e") + &directory("other/") + &object("d/in", "1", "e")),
        ),
        (true, _) => page(""),
        _ => not_found(),
    });
    assert_eq!(names(&mount.path("d")).unwrap(), set(["in"]));
    let renamed = fs::rename(mount.path("d"), mount.path("e"));
    assert!(renamed.is_err(), "a key outside the directory goes nowhere");
    is_well(mount);
}

#[test]
fn a_file_and_a_directory_of_one_name_and_keys_that_come_twice_are_one_entry() {
    let inside = [
        object("a", "1", "e1"),
        object("a", "2", "e2"),
        object("b", "1", "e"),
        directory("a/"),
        directory("a/"),
        object("a", "3", "e3"),
    ];
    let (_server, mount) = mounted(root_lists(inside.concat()));
    let listed: Vec<_> = fs::read_dir(&mount.root)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(listed, ["a", "b"]);
    assert!(fs::metadata(mount.path("a")).unwrap().is_dir());
    is_well(mount);
}

#[test]
fn a_tree_without_a_bottom_ends_where_a_key_would_be_too_long() {
    let (_server, mount) = mounted(|request| {
        if request.is_listing() {
            page(
                &(directory(&format!("{}a/", request.prefix()))
                    + &object(&format!("{}f", request.prefix()), "1", "e")),
            )
        } else {
            not_found()
        }
    });
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = rustix::fs::open(&mount.root, flags, Mode::empty()).unwrap();
    let mut depth = 0;
    let error = loop {
        match rustix::fs::openat(&dir, "a", flags, Mode::empty()) {
            Ok(below) => dir = below,
            Err(error) => break error,
        }
        depth += 1;
        assert!(depth < 1024);
    };
    assert_eq!(error.raw_os_error(), libc::ENAMETOOLONG, "at {depth}");
    assert_eq!(depth, 512, "two bytes of the key a level");
    is_well(mount);
}

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

#[test]
fn a_body_that_is_not_what_its_headers_say_is_eio_and_not_other_bytes() {
    let range = "Content-Range: bytes 0-3/4";
    let tag = "ETag: \"e\"";
    let cases: Vec<(&str, Answer)> = vec![
        (
            "longer than its length says",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: 4"],
                b"bodybody",
            ),
        ),
        (
            "shorter",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: 400"],
                b"body",
            ),
        ),
        (
            "negative",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: -4"],
                b"body",
            ),
        ),
        (
            "2^63",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: 9223372036854775808"],
                b"body",
            ),
        ),
        (
            "2^70",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: 1180591620717411303424"],
                b"body",
            ),
        ),
        (
            "two lengths",
            raw(
                "206 Partial Content",
                &[tag, range, "Content-Length: 4", "Content-Length: 5"],
                b"body!",
            ),
        ),
        ("none", raw("206 Partial Content", &[tag, range], b"body")),
        (
            "another range",
            answer(
                "206 Partial Content",
                &[tag, "Content-Range: bytes 100-103/104"],
                b"body",
            ),
        ),
        (
            "an absurd range",
            answer(
                "206 Partial Content",
                &[
                    tag,
                    "Content-Range: bytes 0-18446744073709551615/18446744073709551615",
                ],
                b"body",
            ),
        ),
        (
            "too short",
            answer("206 Partial Content", &[tag, range], b"b"),
        ),
        ("empty", answer("206 Partial Content", &[tag, range], b"")),
        (
            "too long",
            answer("206 Partial Content", &[tag, range], &[b'x'; 100]),
        ),
        (
            "another version",
            answer("206 Partial Content", &["ETag: \"other\"", range], b"body"),
        ),
        (
            "no version",
            answer("206 Partial Content", &[range], b"body"),
        ),
        (
            "endless",
            Answer::Repeated(
                b"HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\n\r\n".to_vec(),
                vec![b'x'; 1 << 20],
                300,
            ),
        ),
        (
            "chunks that are none",
            raw(
                "206 Partial Content",
                &[tag, range, "Transfer-Encoding: chunked"],
                b"ffffffffffffffff\r\nbody",
            ),
        ),
        (
            "an answer that is none",
            Answer::Bytes(b"\0\xff\xfe garbage".to_vec()),
        ),
    ];
    for (what, get) in cases {
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
        assert!(!mount.log().contains("aborting an upload"), "{id:?}");
        is_well(mount);
    }
}

#[test]
fn a_listing_that_never_ends_is_eio() {
    let cases: [(&str, fn(usize) -> String); 4] = [
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
