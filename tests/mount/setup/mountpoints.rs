//! Mountpoints that a setup can and cannot use, and the guard.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{Plan, WITHIN, state, unmount};
use crate::support::mount::detach;
use crate::support::programs::{has_all, run_within, said};
use crate::support::{Mount, Server, SupervisedMount};

/// Takes the flag away, so that the folder can be removed.
struct Unguarded(std::path::PathBuf);

impl Drop for Unguarded {
    fn drop(&mut self) {
        detach(&self.0);
        drop(Command::new("chattr").arg("-i").arg(&self.0).status());
    }
}

fn guarded() -> (Plan, Unguarded) {
    let mut plan = Plan::on(Server::shared());
    plan.args.retain(|arg| arg != "--no-guard");
    let root = plan.mount.root.clone();
    (plan, Unguarded(root))
}

#[track_caller]
fn refused(plan: &Plan, words: &[&str]) {
    let output = plan.run(&["--yes"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    has_all(&said(&output), words);
    assert!(!plan.file().exists(), "nothing is done");
    let bucket = plan.mount.bucket.clone();
    let found = plan
        .mount
        .client
        .call(async move |s3| s3.head_bucket().bucket(bucket).send().await);
    assert!(found.is_err(), "the bucket is made");
}

#[test]
fn a_mountpoint_that_cannot_be_used_is_refused_before_anything_is_done() {
    let plan = Plan::on(Server::shared());
    fs::write(plan.mount.root.join("precious"), b"x").unwrap();
    refused(&plan, &["not empty"]);
    // Unless a mount would show what is in it.
    let root = plan.mount.root.to_str().unwrap();
    let planned = plan.run(&["--dry-run", "--overlay", root]);
    assert_eq!(planned.status.code(), Some(0), "{}", said(&planned));
    has_all(&said(&planned), &["can be mounted on"]);
    let file = plan.mount.scratch().join("file");
    fs::write(&file, b"x").unwrap();
    let link = plan.mount.scratch().join("link");
    symlink("nowhere", &link).unwrap();
    let plan = Plan {
        mount: plan.mount.mountpoint(&file),
        ..plan
    };
    refused(&plan, &["not a directory"]);
    let plan = Plan {
        mount: plan.mount.mountpoint(&link),
        ..plan
    };
    refused(&plan, &["symlink"]);
    let other = Mount::fresh();
    let plan = Plan {
        mount: plan.mount.mountpoint(&other.root),
        ..plan
    };
    refused(&plan, &["already mounted"]);
    let tmpfs = plan.mount.scratch().join("read-only");
    fs::create_dir(&tmpfs).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "ro", "none"])
        .arg(&tmpfs)
        .status();
    assert!(mounted.unwrap().success());
    let below = tmpfs.join("m");
    let plan = Plan {
        mount: plan.mount.mountpoint(&below),
        ..plan
    };
    refused(&plan, &["read-only"]);
    assert!(
        Command::new("umount")
            .arg(&tmpfs)
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_missing_mountpoint_is_made_and_a_symlink_leads_to_its_directory() {
    let plan = Plan::on(Server::shared());
    let below = plan.mount.scratch().join("a/b");
    let plan = Plan {
        mount: plan.mount.mountpoint(&below),
        ..plan
    };
    plan.succeeds(&[]);
    assert!(below.is_dir());
    let link = plan.mount.scratch().join("link");
    symlink(&below, &link).unwrap();
    let plan = Plan {
        mount: plan.mount.mountpoint(&link),
        ..plan
    };
    plan.has_nothing_to_do(&[]);
}

#[test]
fn nobody_writes_into_a_guarded_directory_and_it_is_mounted_on_all_the_same() {
    let (plan, root) = guarded();
    plan.succeeds(&[]);
    let error = fs::write(root.0.join("lost"), b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    plan.has_nothing_to_do(&[]);
    let mount = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediafs"));
        command.args(["mount", "--config"]).arg(plan.file());
        run_within(WITHIN, command.env("AWS_EC2_METADATA_DISABLED", "true"))
    };
    let output = mount();
    assert!(output.status.success(), "{}", said(&output));
    fs::write(root.0.join("kept"), b"x").unwrap();
    // The guard is seen under the mount.
    let (steps, code) = plan.steps(&[]);
    assert_eq!((state(&steps, "guard"), code), ("ok", 0), "{steps:#?}");
    unmount(&plan);
}

#[test]
fn without_the_guard_the_bare_directory_stays_writable() {
    let (plan, root) = guarded();
    let (steps, code) = plan.steps(&["--no-guard"]);
    assert_eq!(code, 0, "{steps:#?}");
    assert!(steps.iter().all(|it| it["name"] != "guard"), "{steps:#?}");
    fs::write(root.0.join("f"), b"x").unwrap();
}

#[test]
fn a_successor_takes_over_on_a_guarded_directory() {
    let plan = Mount::builder();
    let root = Unguarded(plan.root.clone());
    assert!(
        Command::new("chattr")
            .arg("+i")
            .arg(&plan.root)
            .status()
            .unwrap()
            .success()
    );
    let mount = SupervisedMount::start(plan);
    fs::write(root.0.join("f"), b"before").unwrap();
    mount.kill_daemon();
    assert_eq!(fs::read(root.0.join("f")).unwrap(), b"before");
}
