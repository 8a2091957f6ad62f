//! Mounts and users: who may look in, and who may mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use support::mount::daemons_of;
use support::programs::{run_within, said};
use support::{Mount, MountBuilder, wait_until};

const NOBODY: u32 = 65534;
const ENDED_WITHIN: Duration = Duration::from_secs(60);

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

/// A mount by a user without rights, all in one shell: `$0` is an empty folder
/// for a device that everybody may open, as udev makes it; `$1` the mountpoint;
/// `$2` what the user does when it is mounted; the rest the mount command.
const MOUNT_AS_USER: &str = r#"
    mount -t tmpfs -o dev,mode=755 none "$0"
    mknod -m 666 "$0/fuse" c 10 229
    mount --bind "$0/fuse" /dev/fuse
    root=$1 then=$2; shift 2
    exec setpriv --reuid 65534 --regid 65534 --clear-groups \
        sh -ec 'root=$0; then=$1; shift; "$@"; eval "$then"' "$root" "$then" "$@"
"#;

#[track_caller]
fn mounted_as_user(then: &str) -> (MountBuilder, Output) {
    let plan = Mount::builder().user(NOBODY).env("HOME", "/nonexistent");
    let device = plan.scratch().join("device");
    fs::create_dir(&device).unwrap();
    let mut unshared = Command::new("unshare");
    unshared
        .args(["-m", "--propagation", "private", "sh", "-ec", MOUNT_AS_USER])
        .args([&device, &plan.root])
        .arg(then)
        .arg(plan.program());
    let output = run_within(ENDED_WITHIN, &mut plan.command_after(unshared));
    (plan, output)
}

#[test]
fn a_user_without_rights_mounts_and_unmounts_with_fusermount3() {
    let then = "mkdir $root/d; echo hello > $root/d/f; cat $root/d/f; grep -c \" $root fuse\" /proc/mounts; \
                fusermount3 -u $root; ! mountpoint -q $root";
    let (plan, output) = mounted_as_user(then);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "hello\n1\n");
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&plan.root).is_empty()
    });
    let stored = plan.client.get(&plan.bucket, "d/f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
}

#[test]
fn a_mount_of_a_user_without_rights_ends_by_sigterm() {
    let then = r#"
        echo hello > $root/f
        for process in /proc/[0-9]*; do
            case $(tr '\0' ' ' < $process/cmdline) in "$1 mount "*) kill ${process#/proc/} ;; esac
        done 2>/dev/null
        tries=0
        while mountpoint -q $root; do
            tries=$((tries+1))
            [ $tries -lt 200 ]
            sleep 0.1
        done"#;
    let (plan, output) = mounted_as_user(then);
    assert!(output.status.success(), "{}", said(&output));
    wait_until(ENDED_WITHIN, "the daemon's end", || {
        daemons_of(&plan.root).is_empty()
    });
    let stored = plan.client.get(&plan.bucket, "f");
    assert_eq!(stored.as_deref(), Some(&b"hello\n"[..]));
}
