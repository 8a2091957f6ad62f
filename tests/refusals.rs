//! Every way in which a mount is refused, and what the command says then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use support::mount::{BINARY, mount_command, output, shell};
use support::mounted;
use support::refusal::{command, prepared, refused};
use support::server::{STRANGER_KEY, STRANGER_SECRET};

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    let (bucket, scratch) = prepared();
    let mut missing = bucket;
    missing.name = "no-such-bucket".to_owned();
    refused(
        &mut command(&missing, scratch.path()),
        scratch.path(),
        &["no bucket \"no-such-bucket\"", "create it"],
    );
}

#[test]
fn denied_access_says_which_rights_are_needed() {
    let (bucket, scratch) = prepared();
    let mut command = command(&bucket, scratch.path());
    command
        .env("AWS_ACCESS_KEY_ID", STRANGER_KEY)
        .env("AWS_SECRET_ACCESS_KEY", STRANGER_SECRET);
    refused(&mut command, scratch.path(), &["denied", "s3:ListBucket"]);
}

#[test]
fn missing_and_wrong_credentials_say_where_to_put_them() {
    let (bucket, scratch) = prepared();
    let mut without = command(&bucket, scratch.path());
    without
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY");
    refused(
        &mut without,
        scratch.path(),
        &["credentials", "AWS_ACCESS_KEY_ID"],
    );
    let mut wrong = command(&bucket, scratch.path());
    wrong.env("AWS_SECRET_ACCESS_KEY", "wrong");
    refused(
        &mut wrong,
        scratch.path(),
        &["credentials", "AWS_SECRET_ACCESS_KEY"],
    );
}

#[test]
fn a_wrong_clock_is_told() {
    let (bucket, scratch) = prepared();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            drop(stream.read(&mut [0; 8192]));
            let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>Too far</Message></Error>";
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            drop(stream.write_all((head + body).as_bytes()));
        }
    });
    let mut skewed = bucket;
    skewed.endpoint = endpoint;
    refused(
        &mut command(&skewed, scratch.path()),
        scratch.path(),
        &["clock", "set-ntp"],
    );
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_named_within_the_timeout() {
    let (bucket, scratch) = prepared();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut nowhere = bucket;
    nowhere.endpoint = format!("http://{closed}");
    let mut command = command(&nowhere, scratch.path());
    command.args(["--request-timeout", "2s"]);
    refused(
        &mut command,
        scratch.path(),
        &[&closed.to_string(), "cannot be reached", "--endpoint-url"],
    );
}

#[test]
fn unsuitable_mountpoints_are_told_apart() {
    let (bucket, scratch) = prepared();
    let at = |name: &str| {
        let mut command = mount_command(&bucket, &bucket.name, &scratch.path().join(name));
        command.arg("--spool").arg(scratch.path().join("spool"));
        command
    };
    refused(
        &mut at("missing"),
        scratch.path(),
        &["does not exist", "mkdir"],
    );
    fs::write(scratch.path().join("file"), b"x").unwrap();
    refused(&mut at("file"), scratch.path(), &["not a directory"]);
    fs::create_dir_all(scratch.path().join("full/inner")).unwrap();
    refused(
        &mut at("full"),
        scratch.path(),
        &["not empty", "--allow-non-empty"],
    );
    let mut allowed = at("full");
    let (status, text) = output(allowed.arg("--allow-non-empty"));
    assert!(status.success(), "{text}");
    shell(scratch.path(), "ls full && umount full");
}

#[test]
fn a_dead_mount_says_how_to_clear_it() {
    let mut mount = mounted();
    mount.stop_by("KILL");
    let mut command = mount_command(&mount.bucket, &mount.bucket.name, &mount.dir);
    let (status, text) = output(command.arg("--spool").arg(mount.spool()));
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("daemon is gone") && text.contains("umount -l"),
        "{text}"
    );
}

#[test]
fn a_missing_device_says_what_to_load() {
    let (bucket, scratch) = prepared();
    let mount = command(&bucket, scratch.path());
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "bash", "-c", "umount -l /dev/fuse 2>/dev/null; mkdir -p $0/dev && mount --bind $0/dev /dev && exec \"$@\""]);
    hidden
        .arg(scratch.path())
        .arg(mount.get_program())
        .args(mount.get_args())
        .arg("--foreground");
    hidden.env_clear();
    hidden.envs(
        mount
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    refused(&mut hidden, scratch.path(), &["/dev/fuse", "modprobe fuse"]);
}

#[test]
fn a_wrong_command_line_exits_with_2_and_a_suggestion() {
    let (bucket, scratch) = prepared();
    let (status, text) = output(command(&bucket, scratch.path()).env("MEDIAFS_NEGATIV_TTL", "3s"));
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("negative-ttl"), "{text}");
    let (status, text) = output(command(&bucket, scratch.path()).args(["--ttl", "soon"]));
    assert_eq!(status.code(), Some(2), "{text}");
    let (status, text) = output(Command::new(BINARY).args(["mount", "nosuchmount"]));
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(text.contains("/etc/mediafs/nosuchmount.toml"), "{text}");
}
