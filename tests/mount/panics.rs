//! Mistakes of mediafs: a panic ends the request in which it comes about, and no other.

use std::fs;
use std::io::Write;
use std::time::Duration;

use crate::support::{Mount, sys, wait_until};

const WITHIN: Duration = Duration::from_secs(60);

fn panics_once_at(point: &str, durability: &str) -> Mount {
    panics_at(point, "1*panic(planned)", durability)
}

fn panics_at(point: &str, when: &str, durability: &str) -> Mount {
    Mount::builder()
        .args(["--durability", durability])
        .env("FAILPOINTS", format!("{point}={when}"))
        .start()
}

/// The mount is as good as before, and the log tells of the operation.
#[track_caller]
fn goes_on(mount: &mut Mount, operation: &str) {
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/f"), b"bytes").unwrap();
    fs::rename(mount.path("d"), mount.path("e")).unwrap();
    fs::rename(mount.path("e/f"), mount.path("e/g")).unwrap();
    assert_eq!(fs::read(mount.path("e/g")).unwrap(), b"bytes");
    fs::remove_file(mount.path("e/g")).unwrap();
    wait_until(WITHIN, "the word of it", || {
        let log = mount.log();
        log.contains("panic in thread") && log.contains("planned") && log.contains(operation)
    });
    mount.unmount();
}

#[test]
fn a_panic_in_a_request_ends_that_request_with_eio_and_the_mount_goes_on() {
    for durability in ["s3", "disk"] {
        for point in ["write_begins", "write_staged"] {
            let mut mount = panics_once_at(point, durability);
            let mut file = fs::File::create(mount.path("f")).unwrap();
            assert_eq!(sys::errno(file.write_all(b"first")), libc::EIO);
            file.write_all(b"second").unwrap();
            sys::close(file).unwrap();
            goes_on(&mut mount, "operation=\"write\"");
            assert_eq!(mount.object("f").unwrap(), b"second");
        }
        for (point, name) in [("unlink_begins", "x"), ("rename_file_begins", "y")] {
            let mut mount = panics_once_at(point, durability);
            fs::write(mount.path(name), name).unwrap();
            let (from, to) = (mount.path(name), mount.path("other"));
            let call = match name {
                "x" => fs::remove_file(&from),
                _ => fs::rename(&from, &to),
            };
            assert_eq!(sys::errno(call), libc::EIO);
            assert_eq!(fs::read(&from).unwrap(), name.as_bytes());
            // Nothing of it is locked.
            fs::rename(&from, &to).unwrap();
            fs::remove_file(&to).unwrap();
            goes_on(&mut mount, "operation=");
        }
    }
}

#[test]
fn an_upload_that_panics_fails_its_close_and_the_bytes_are_kept() {
    for point in ["put_begins", "put_answered", "publish_recorded"] {
        let mut mount = panics_once_at(point, "s3");
        let mut file = fs::File::create(mount.path("f")).unwrap();
        file.write_all(b"bytes").unwrap();
        assert_eq!(sys::errno(sys::close(file)), libc::EIO, "{point}");
        wait_until(WITHIN, "the bytes in lost+found", || {
            mount.lost_and_found() == [b"bytes"]
        });
        goes_on(&mut mount, "step=\"upload\"");
    }
}

#[test]
fn an_upload_in_the_background_that_panics_is_tried_again() {
    for point in [
        "put_begins",
        "put_answered",
        "publish_recorded",
        "publish_uploaded",
        "publish_stage_removed",
        "publish_discarded",
    ] {
        let mut mount = panics_once_at(point, "disk");
        fs::write(mount.path("f"), b"bytes").unwrap();
        mount.wait_for_keys("the upload", |keys| keys == ["f"]);
        wait_until(WITHIN, "the end of it", || {
            fs::read_dir(mount.scratch().join("spool/stage"))
                .unwrap()
                .count()
                == 0
        });
        goes_on(&mut mount, "step=");
        assert!(mount.lost_and_found().is_empty(), "{point}");
    }
}

#[test]
fn a_panic_at_the_journal_leaves_no_record_and_the_next_one_is_written() {
    // The first record is of the start of the daemon.
    let mut mount = panics_at("journal_append_begins", "1*off->1*panic(planned)", "disk");
    assert_eq!(
        sys::errno(fs::write(mount.path("f"), b"bytes")),
        libc::EIO,
        "the stage is not begun"
    );
    fs::write(mount.path("f"), b"bytes").unwrap();
    goes_on(&mut mount, "panicked");
}
