//! What is found of this host and of the mountpoint.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::{WITHIN, line, report, told};
use crate::support::control::{listening, mediafs, status};
use crate::support::mount::detach;
use crate::support::programs::{has_all, run_by, run_shell, run_within};
use crate::support::{Mount, MountBuilder, SupervisedMount, wait_until};

#[test]
fn a_mountpoint_that_cannot_be_mounted_on_is_told() {
    let missing = Mount::builder();
    fs::remove_dir(&missing.root).unwrap();
    advised(&missing, "mountpoint", "mkdir -p ");
    let full = Mount::builder();
    fs::write(full.root.join("f"), "x").unwrap();
    told(&full, "mountpoint", "fail", &["not empty"]);
    // What is in it is shown.
    let root = full.root.clone();
    let full = full.arg("--overlay").arg(root);
    told(&full, "mountpoint", "ok", &["can be mounted on"]);
    let busy = Mount::builder();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(&busy.root)
        .status();
    assert!(mounted.unwrap().success());
    told(&busy, "mountpoint", "fail", &["tmpfs"]);
    advised(&busy, "mountpoint", "umount ");
    detach(&busy.root);
    let file = Mount::builder();
    fs::remove_dir(&file.root).unwrap();
    fs::write(&file.root, "x").unwrap();
    advised(&file, "mountpoint", "name a directory");
}

/// A check failed, with advice that begins so.
#[track_caller]
fn advised(plan: &MountBuilder, check: &str, begin: &str) {
    let (findings, code) = report(&mut plan.subcommand("doctor"));
    let line = line(&findings, check);
    assert_eq!((&line["state"], code), (&"fail".into(), 1), "{line:#}");
    let advice = line["advice"].as_str().unwrap();
    assert!(advice.starts_with(begin), "{line:#}");
}

#[test]
fn files_under_a_mount_are_counted() {
    let plan = Mount::builder().arg("--allow-non-empty");
    let folder = plan.root.join("reports/a");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(plan.root.join("empty")).unwrap();
    fs::write(plan.root.join("one"), "x").unwrap();
    for name in ["1", "2", "3", "4", "5"] {
        fs::write(folder.join(name), "x").unwrap();
    }
    let mount = plan.start();
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0);
    wait_until(WITHIN, "a warning of the mount", || {
        mount.log().contains("6 files lie in the bare directory")
    });
    let (findings, code) = report(&mut mount.subcommand("doctor"));
    assert_eq!(code, 0, "{findings:#?}");
    assert_eq!(line(&findings, "mountpoint")["state"], "ok");
    let hidden = line(&findings, "hidden files");
    assert!(
        hidden["found"].as_str().unwrap().starts_with("6 files"),
        "{hidden:#}"
    );
}

#[test]
fn mounts_on_each_other_are_told() {
    let mount = Mount::fresh();
    let bind = Command::new("mount")
        .arg("--bind")
        .args([&mount.root, &mount.root])
        .status();
    assert!(bind.unwrap().success());
    let words = ["2 stacked mounts", mount.bucket()];
    let (findings, _) = report(&mut mount.subcommand("doctor"));
    let unbind = Command::new("umount").arg(&mount.root).status();
    assert!(unbind.unwrap().success());
    let line = line(&findings, "mounts");
    assert_eq!(line["state"], "warn", "{line:#}");
    has_all(&line.to_string(), &words);
}

#[test]
fn what_kernel_and_daemon_agreed_on_is_told_of_a_successor_too() {
    let mount = SupervisedMount::start(Mount::builder());
    let agreed = status(&mount)["fuse"].clone();
    assert!(agreed["protocol"].as_str().unwrap().starts_with("7."));
    assert_eq!(agreed["max_write_bytes"], 1 << 20);
    let features = agreed["features"].as_array().unwrap();
    assert!(features.iter().any(|it| it == "async-read"), "{agreed}");
    let found = line(&report(&mut mount.subcommand("doctor")).0, "negotiated").clone();
    let told = match agreed["lacking"].as_array().unwrap().first() {
        None => format!("FUSE {}", agreed["protocol"].as_str().unwrap()),
        Some(lacking) => lacking.as_str().unwrap().to_owned(),
    };
    assert!(found["found"].as_str().unwrap().contains(&told), "{found}");
    let daemon = status(&mount)["pid"].clone();
    mount.kill_daemon();
    fs::read_dir(&mount.root).unwrap();
    wait_until(WITHIN, "a successor", || status(&mount)["pid"] != daemon);
    assert_eq!(status(&mount)["fuse"], agreed);
}

#[test]
fn a_mount_whose_socket_is_gone_is_told() {
    let mount = Mount::fresh();
    fs::remove_file(listening(&mount)).unwrap();
    let (findings, code) = report(&mut mount.subcommand("doctor"));
    let line = line(&findings, "negotiated");
    assert_eq!((&line["state"], code), (&"warn".into(), 0), "{line:#}");
    let words = ["no daemon answers", "mediafs healthcheck"];
    has_all(&line.to_string(), &words);
}

#[test]
fn a_daemon_that_says_nothing_at_its_socket_is_told() {
    let mount = Mount::fresh();
    let socket = listening(&mount);
    fs::remove_file(&socket).unwrap();
    // Nobody accepts.
    let _silent = UnixListener::bind(&socket).unwrap();
    let (findings, code) = report(&mut mount.subcommand("doctor"));
    let line = line(&findings, "negotiated");
    assert_eq!((&line["state"], code), (&"fail".into(), 1), "{line:#}");
    let words = [
        "does not answer at its control socket",
        "mediafs healthcheck",
    ];
    has_all(&line.to_string(), &words);
}

#[test]
fn a_mount_that_hangs_is_told_while_the_kernel_remembers_its_root() {
    let mount = Mount::builder().set("--ttl", "1h").start();
    fs::metadata(&mount.root).unwrap();
    mount.signal(Signal::STOP);
    // The kernel answers this.
    fs::metadata(&mount.root).unwrap();
    let (findings, code) = report(&mut mount.subcommand("doctor"));
    mount.signal(Signal::CONT);
    let line = line(&findings, "mountpoint");
    assert_eq!((&line["state"], code), (&"fail".into(), 1), "{line:#}");
    has_all(&line.to_string(), &["does not answer", "umount -f"]);
}

/// A process in a mount namespace of its own, with a bind of the folder above a mountpoint.
struct Container {
    process: Child,
    folder: PathBuf,
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        detach(&self.folder);
    }
}

fn container(mountpoint: &Path, propagation: &str) -> Container {
    let parent = mountpoint.parent().unwrap();
    // Of a host whose mounts are shared, as systemd makes them.
    run_shell(
        "mount --bind \"$1\" \"$1\" && mount --make-rshared \"$1\"",
        &[parent],
    );
    binding("$1", parent, propagation)
}

/// With a bind of what the shell makes of the word, where `$1` is the folder.
fn binding(word: &str, parent: &Path, propagation: &str) -> Container {
    let script = format!(
        "mount --bind \"{word}\" /mnt && mount --make-r{propagation} /mnt && touch \"$1/bound\" && exec sleep 600"
    );
    let process = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .arg(parent)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(WITHIN, "a bind", || parent.join("bound").exists());
    fs::remove_file(parent.join("bound")).unwrap();
    Container {
        process,
        folder: parent.to_owned(),
    }
}

/// Of several a few are named: those that another test made meanwhile go.
#[track_caller]
fn is_named_as_blind(mount: &Mount) {
    wait_until(WITHIN, "the container's name", || {
        let (findings, code) = report(&mut mount.subcommand("doctor"));
        let line = line(&findings, "containers");
        assert_eq!((&line["state"], code), (&"fail".into(), 1), "{line:#}");
        let text = line.to_string();
        text.contains("rslave") && text.contains("sleep")
    });
}

#[test]
fn a_container_that_the_mount_does_not_reach_is_told() {
    for propagation in ["private", "slave"] {
        let plan = Mount::builder();
        let container = container(&plan.root, propagation);
        let mount = plan.start();
        let doctor = || mount.subcommand("doctor");
        if propagation == "private" {
            is_named_as_blind(&mount);
        } else {
            // A namespace that another test made meanwhile has the folder too, and goes.
            wait_until(WITHIN, "every container to see the mount", || {
                line(&report(&mut doctor()).0, "containers")["state"] == "ok"
            });
        }
        drop(mount);
        drop(container);
    }
}

#[test]
fn a_container_that_binds_a_whole_file_system_is_told() {
    let plan = Mount::builder();
    let parent = plan.root.parent().unwrap().to_owned();
    run_shell("mount -t tmpfs none \"$1\"", &[&parent]);
    fs::create_dir(&plan.root).unwrap();
    let container = binding("$1", &parent, "private");
    let mount = plan.start();
    is_named_as_blind(&mount);
    drop(mount);
    drop(container);
}

#[test]
fn limits_of_this_host_are_told() {
    told(
        &Mount::builder().open_files(1024),
        "open files",
        "warn",
        &["1024"],
    );
    let plan = Mount::builder();
    let spool = plan.scratch().join("spool");
    fs::create_dir(&spool).unwrap();
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o777)).unwrap();
    advised(&plan, "spool", "chmod go-w ");
    fs::set_permissions(&spool, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(spool.join("stage")).unwrap();
    fs::create_dir(spool.join("lost+found")).unwrap();
    fs::write(spool.join("lost+found/1"), "x").unwrap();
    // Beside the bytes stands why they are kept.
    fs::write(spool.join("lost+found/1.json"), "{}").unwrap();
    let words = ["1 file could not be uploaded", "mediafs spool list"];
    told(&plan, "lost+found", "warn", &words);
}

/// The doctor of a plain user, on a host with another fuse.conf and another PATH.
fn as_a_plain_user(plan: &MountBuilder) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c"]);
    command.arg("mount --bind /dev/null /etc/fuse.conf && exec setpriv --reuid 1234 --regid 1234 --clear-groups \"$@\"");
    command.arg("sh");
    run_within(
        WITHIN,
        run_by(command, &plan.subcommand("doctor")).arg("--json"),
    )
}

#[test]
fn what_a_plain_user_lacks_is_told() {
    if !Path::new("/etc/fuse.conf").exists() {
        fs::write("/etc/fuse.conf", "").unwrap();
    }
    let plan = Mount::builder().user(1234).arg("--allow-other");
    let plan = plan.set("--spool", "/usr/share/mediafs-spool");
    let output = as_a_plain_user(&plan);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let spool = line(&findings, "spool");
    assert_eq!(spool["state"], "fail", "{spool:#}");
    has_all(&spool.to_string(), &["/usr/share", "Permission denied"]);
    let conf = line(&findings, "user_allow_other");
    assert_eq!(conf["state"], "fail", "{findings:#?}");
    let advice = "echo user_allow_other >>/etc/fuse.conf, as root";
    assert_eq!(conf["advice"], advice);
    assert_eq!(line(&findings, "fusermount3")["state"], "ok");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_word_that_is_taken_for_a_bucket_is_told() {
    let plan = Mount::builder();
    let asked = |place: &str| {
        let mut command = mediafs(["doctor", place, "--endpoint-url", "http://127.0.0.1:9"]);
        command.args(["--request-timeout", "1s", "--region", "us-east-1"]);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        let (findings, _) = report(&mut command);
        line(&findings, "configuration")["found"].to_string()
    };
    let told = asked(&plan.bucket);
    let file = format!("no /etc/mediafs/{}.toml", plan.bucket);
    has_all(&told, &[&file, "taken for a bucket"]);
    // With a prefix nobody means a name.
    for place in [
        format!("{}/media", plan.bucket),
        format!("s3://{}", plan.bucket),
    ] {
        assert_eq!(asked(&place), "\"understood\"");
    }
}
