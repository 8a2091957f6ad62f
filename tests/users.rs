//! Mounts and users: who may look in, and who may mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;
use support::Mount;
use support::mount::is_mounted;
use support::programs::{said, succeeds};

const NOBODY: u32 = 65534;

/// Runs a shell script as a user without rights, `$1` being the mountpoint.
fn as_nobody(script: &str, root: &Path) -> Output {
    Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .args(["sh", "-ec", script, "sh"])
        .arg(root)
        .output()
        .unwrap()
}

#[test]
fn without_allow_other_other_users_are_kept_out() {
    let mount = Mount::fresh();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let output = as_nobody("cat \"$1/f\"", &mount.root);
    assert!(!output.status.success());
    assert!(
        said(&output).contains("Permission denied"),
        "{}",
        said(&output)
    );
}

#[test]
fn with_allow_other_other_users_see_what_the_modes_let_them() {
    let mount = Mount::builder().arg("--allow-other").start();
    fs::write(mount.path("f"), b"bytes").unwrap();
    let output = as_nobody("cat \"$1/f\"; ls \"$1\"", &mount.root);
    assert_eq!(said(&output), "bytesf\n");
    let output = as_nobody("echo x > \"$1/g\"", &mount.root);
    assert!(
        said(&output).contains("ermission denied"),
        "{}",
        said(&output)
    );
    assert_eq!(mount.keys(), ["f"]);
}

#[test]
fn with_allow_other_the_owner_of_the_options_may_write() {
    let owner = ["--allow-other", "--uid", "65534", "--gid", "65534"];
    let mount = Mount::builder()
        .args(owner)
        .args(["--dir-mode", "0700"])
        .start();
    let output = as_nobody(
        "mkdir \"$1/d\"; echo x > \"$1/d/g\"; cat \"$1/d/g\"; id -u",
        &mount.root,
    );
    assert_eq!(said(&output), "x\n65534\n");
    assert_eq!(mount.object("d/g").unwrap(), b"x\n");
    let stranger = Command::new("setpriv")
        .args(["--reuid", "1234", "--regid", "1234", "--clear-groups", "ls"])
        .arg(&mount.root)
        .output()
        .unwrap();
    assert!(
        said(&stranger).contains("Permission denied"),
        "{}",
        said(&stranger)
    );
}

#[test]
fn a_user_without_rights_mounts_through_fusermount3() {
    succeeds(Command::new("fusermount3").arg("--version"));
    let mut mount = Mount::builder().user(NOBODY).start();
    let script = "mkdir \"$1/d\"; echo hello > \"$1/d/f\"; cat \"$1/d/f\"";
    let output = as_nobody(script, &mount.root);
    assert_eq!(said(&output), "hello\n");
    assert_eq!(mount.object("d/f").unwrap(), b"hello\n");
    mount.signal(Signal::TERM);
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert!(!is_mounted(&mount.root), "{}", mount.log());
}

#[test]
fn a_user_without_rights_unmounts_with_fusermount3() {
    let mut mount = Mount::builder().user(NOBODY).start();
    let output = as_nobody("echo x > \"$1/f\"; fusermount3 -u \"$1\"", &mount.root);
    assert!(output.status.success(), "{}", said(&output));
    let status = mount.wait_for_exit();
    assert!(status.success(), "{status}\n{}", mount.log());
    assert_eq!(mount.object("f").unwrap(), b"x\n");
}
