//! `mediafs spool`: what is not in S3, shown, taken out, written again and removed.

use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::programs::{run_within, said};
use crate::support::spool::{kept, listed, lose_a_race, refused, succeeds};
use crate::support::{Mount, Server, sys, wait_until};
use libc::O_RDWR;

/// The mount's spool.
fn spool(mount: &Mount) -> PathBuf {
    mount.scratch().join("spool")
}

/// What it prints for programs; each field is in the help.
#[track_caller]
fn object(mount: &Mount, args: &[&str]) -> Value {
    let text = succeeds(&spool(mount), &[args, &["--json"]].concat());
    let object: Value = serde_json::from_str(&text).unwrap();
    let help = include_str!("../../src/cli/help/spool.md");
    for field in object.as_object().unwrap().keys() {
        assert!(help.contains(&format!("| `{field}` ")), "{field}");
    }
    object
}

fn without_to(mut object: Value) -> Value {
    object.as_object_mut().unwrap().remove("to");
    object
}

#[test]
fn a_kept_file_is_listed_shown_exported_and_written_again() {
    let mount = Mount::builder().prefix("media").start();
    let told = succeeds(&spool(&mount), &["list"]);
    assert!(told.contains(&format!("s3://{}/media/ on http", mount.bucket())));
    assert!(
        told.ends_with("nothing waits for S3, nothing is kept\n"),
        "{told}"
    );
    fs::create_dir(mount.path("d")).unwrap();
    lose_a_race(&mount, "d/f", b"ours", b"theirs");
    let id = kept(&spool(&mount), "media/d/f");
    for text in [
        succeeds(&spool(&mount), &["list"]),
        succeeds(&spool(&mount), &["show", &id]),
    ] {
        assert!(text.contains(&id) && text.contains("media/d/f"), "{text}");
        assert!(text.contains("upload failed: "), "{text}");
        assert!(
            text.contains(&format!("s3://{}/media/ on http", mount.bucket())),
            "{text}"
        );
    }
    let out = mount.scratch().join("out");
    let out = out.to_str().unwrap();
    let shown = object(&mount, &["show", &id]);
    assert_eq!(shown["id"], *id);
    let exported = object(&mount, &["export", &id, out]);
    assert_eq!(exported["to"], *out);
    assert_eq!(without_to(exported), shown);
    assert_eq!(fs::read(out).unwrap(), b"ours");
    assert!(refused(&spool(&mount), &["export", &id, out]).contains("exists"));

    // Never over what somebody else wrote, unless told so.
    let why = refused(&spool(&mount), &["retry", &id]);
    assert!(why.contains("exists") && why.contains("--force"), "{why}");
    assert_eq!(mount.object("d/f").unwrap(), b"theirs");
    let written = object(&mount, &["retry", &id, "--force"]);
    assert_eq!(written["to"], *mount.path("d/f").to_str().unwrap());
    assert_eq!(without_to(written), shown);
    assert_eq!(mount.object("d/f").unwrap(), b"ours");
    assert!(listed(&spool(&mount)).is_empty());
    assert!(refused(&spool(&mount), &["show", &id]).contains(&id));
}

#[test]
fn a_kept_file_whose_name_is_free_is_written_again_with_its_directory() {
    let mut mount = Mount::builder().start();
    fs::create_dir(mount.path("d")).unwrap();
    lose_a_race(&mount, "d/f", b"ours", b"theirs");
    let id = kept(&spool(&mount), "d/f");
    mount.client().delete(mount.bucket(), "d/f");
    mount.unmount();
    let why = refused(&spool(&mount), &["retry", &id]);
    assert!(
        why.contains("not mounted") && why.contains("mount it first"),
        "{why}"
    );
    mount.remount();
    let told = succeeds(&spool(&mount), &["retry", &id]);
    assert!(told.contains("(d/f) written to "), "{told}");
    assert_eq!(mount.object("d/f").unwrap(), b"ours");
    assert!(listed(&spool(&mount)).is_empty());
}

#[test]
fn a_lost_edit_is_written_again_into_the_file_that_is_there_now() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"the first version").unwrap();
    let file = sys::open(mount.path("f"), O_RDWR).unwrap();
    file.write_all_at(b"OUR", 4).unwrap();
    mount.put_object("f", b"the other version");
    assert_eq!(sys::errno(sys::close(file)), libc::ESTALE);
    let id = kept(&spool(&mount), "f");
    assert!(succeeds(&spool(&mount), &["show", &id]).contains("bytes 4-6 of the file"));
    let why = refused(&spool(&mount), &["retry", &id]);
    assert!(why.contains("only part of a file"), "{why}");
    mount.wait_for("f", "the other version", |path| {
        fs::read(path).is_ok_and(|seen| seen == b"the other version")
    });
    let shown = object(&mount, &["show", &id]);
    assert_eq!(shown["written"], json!([[4, 7]]));
    succeeds(&spool(&mount), &["retry", &id, "--force"]);
    assert_eq!(mount.object("f").unwrap(), b"the OURer version");
}

#[test]
fn what_waits_and_what_is_open_is_shown_and_left_to_the_daemon() {
    let server = Server::private();
    let mount = Mount::on(&server)
        .args(["--durability", "disk", "--request-timeout", "6s"])
        .args(["--negative-ttl", "1h"])
        .set("--ttl", "1h")
        .start();
    assert_eq!(fs::read_dir(&mount.root).unwrap().count(), 0);
    server.freeze();
    fs::write(mount.path("waits"), b"bytes").unwrap();
    let mut open = fs::File::create(mount.path("open")).unwrap();
    open.write_all(b"half").unwrap();
    let listed_now = listed(&spool(&mount));
    let states: Vec<_> = listed_now
        .iter()
        .map(|(state, key, _)| (state.as_str(), key.as_str()))
        .collect();
    assert_eq!(states, [("waiting", "waits"), ("writing", "open")]);
    let told = succeeds(&spool(&mount), &["list"]);
    assert!(told.contains("waiting: 2 files"), "{told}");
    let id = &listed_now[0].2;
    assert!(refused(&spool(&mount), &["retry", id]).contains("by itself"));
    assert!(refused(&spool(&mount), &["discard", id]).contains("in use by another mediafs"));
    server.thaw();
    drop(open);
    wait_until(Duration::from_secs(60), "an empty spool", || {
        listed(&spool(&mount)).is_empty()
    });
    assert_eq!(mount.object("waits").unwrap(), b"bytes");
}

#[test]
fn a_discarded_file_is_gone_and_nothing_else() {
    let mount = Mount::fresh();
    for name in ["a", "b"] {
        lose_a_race(&mount, name, name.as_bytes(), b"theirs");
    }
    wait_until(Duration::from_secs(60), "two kept files", || {
        listed(&spool(&mount)).len() == 2
    });
    let id = listed(&spool(&mount)).remove(0).2;
    let told = succeeds(&spool(&mount), &["discard", &id]);
    assert_eq!(told, format!("{id} (a) discarded\n"));
    let left = listed(&spool(&mount));
    assert_eq!(left.len(), 1);
    assert_ne!(left[0].2, id);
    assert_eq!(mount.lost_and_found(), [b"b"]);
    assert_eq!(mount.sidecars().len(), 1);
    assert_eq!(mount.object("a").unwrap(), b"theirs");
    let gone = object(&mount, &["discard", &left[0].2]);
    assert_eq!(
        (&gone["state"], &gone["key"]),
        (&json!("kept"), &json!("b"))
    );
    assert!(listed(&spool(&mount)).is_empty());
}

#[test]
fn a_directory_that_is_no_spool_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mediafs"));
    command.args(["spool", "list", "--spool", "/proc"]);
    let output = run_within(Duration::from_secs(60), &mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("not a spool of mediafs"));
}
