//! Keys that are no names, or names of something else.

use std::fs;

use rustix::fs::{Mode, OFlags};

use super::mount::{in_time, is_well, mounted, names, root_lists, set};
use crate::support::hostile::{directory, not_found, object, page};

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
    let inside = ["%00", ".", "..", "..%2F", "%2F", "%ff", "good"];
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
            &(object("d/in", "1", "e") + &directory("other/") + &object("elsewhere", "1", "e")),
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
        directory("a/"),
        directory("a/"),
        object("a", "3", "e3"),
        object("b", "1", "e"),
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
