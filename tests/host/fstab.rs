//! `mount.mediafs`, run by hand and by mount(8).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::mount::{detach, is_mounted};
use crate::support::processes::{daemon_among, daemons_of};
use crate::support::programs::{run_within, said};
use crate::support::{Mount, MountBuilder, Server, wait_until};

const SOON: Duration = Duration::from_secs(60);
const READ_ONLY: ErrorKind = ErrorKind::ReadOnlyFilesystem;

/// A line of /etc/fstab: a bucket, a mountpoint, and the server as options.
struct Line {
    plan: MountBuilder,
    source: String,
    options: String,
    helper: PathBuf,
}

impl Line {
    fn new() -> Self {
        let server = Server::shared();
        let plan = Mount::builder();
        let credentials = plan.scratch().join("credentials");
        let owner = &server.owner;
        let text = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            owner.access_key, owner.secret_key
        );
        fs::write(&credentials, text).unwrap();
        let options = format!(
            "endpoint-url={},force_path_style,region={},credentials-file={},spool={}",
            server.endpoint,
            server.region,
            credentials.display(),
            plan.scratch().join("spool").display()
        );
        let helper = plan.scratch().join("mount.mediafs");
        symlink(env!("CARGO_BIN_EXE_mediafs"), &helper).unwrap();
        Self {
            source: plan.bucket.clone(),
            plan,
            options,
            helper,
        }
    }

    /// Runs `mount.mediafs` with these words before the options and others of its own.
    #[track_caller]
    fn helper(&self, words: &[&str], options: &str) -> Output {
        let mut command = Command::new(&self.helper);
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .args(words)
            .arg("-o")
            .arg(format!("{},{options}", self.options));
        run_within(SOON, &mut command)
    }

    #[track_caller]
    fn mount(&self, options: &str) -> Output {
        self.helper(&[&self.source, self.plan.root.to_str().unwrap()], options)
    }

    /// Remounts once nothing is open for writing: a process that another test starts has for
    /// a moment all that is open here.
    #[track_caller]
    fn remount_unless_busy(&self, options: &str) {
        wait_until(SOON, options, || {
            let output = self.mount(options);
            let is_busy = said(&output).contains("open for writing");
            assert!(is_busy || output.status.success(), "{}", said(&output));
            !is_busy
        });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        detach(&self.plan.root);
        wait_until(SOON, "the daemon's end", || {
            daemons_of(&self.plan.root).is_empty()
        });
    }
}

#[test]
fn the_helper_returns_0_when_the_mount_serves_and_again_when_it_is_there() {
    let line = Line::new();
    let output =
        line.mount("rw,_netdev,nofail,noauto,user,x-systemd.automount,defaults,allow_other");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(is_mounted(&line.plan.root));
    fs::write(line.plan.root.join("f"), b"bytes").unwrap();
    let stored = line.plan.client.get(&line.plan.bucket, "f");
    assert_eq!(stored.unwrap(), b"bytes");
    let daemons = daemons_of(&line.plan.root);
    let again = line.mount("rw");
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(daemons_of(&line.plan.root), daemons);
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let root = line.plan.root.to_str().unwrap();
    let entry = table.lines().find(|entry| entry.contains(root)).unwrap();
    assert!(entry.starts_with(&format!("{} ", line.source)), "{entry}");
    assert!(entry.contains("allow_other"), "{entry}");
}

#[test]
fn ro_and_noexec_are_in_force() {
    let line = Line::new();
    line.plan
        .client
        .put(&line.plan.bucket, "f", b"#!/bin/true\n");
    let output = line.mount("ro,noexec,file-mode=0755");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let refused = fs::write(line.plan.root.join("g"), b"x").unwrap_err();
    assert_eq!(refused.kind(), READ_ONLY);
    let refused = Command::new(line.plan.root.join("f")).status().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn what_fails_is_told_by_the_codes_of_mount() {
    let mut line = Line::new();
    let root = line.plan.root.to_str().unwrap().to_owned();
    let expect = |output: Output, code: i32, words: &str| {
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    };
    expect(line.helper(&[&line.source], ""), 1, "usage");
    expect(line.mount("no-such-option"), 1, "no-such-option");
    expect(line.mount("ttl=soon"), 1, "soon");
    let fake = line.helper(&["-f", &line.source, &root], "");
    expect(fake, 0, "");
    let sloppy = line.helper(&["-sfv", &line.source, &root], "no-such-option,ttl=5s");
    expect(sloppy, 0, "--ttl=5s");
    assert!(!is_mounted(&line.plan.root));
    let nowhere = line.helper(&[&line.source, "/nonexistent"], "");
    expect(nowhere, 32, "does not exist");
    line.source = "no-such-bucket".to_owned();
    expect(line.mount("rw"), 32, "no bucket");
}

#[test]
fn a_remount_makes_it_read_only_and_writable_again_and_a_takeover_keeps_that() {
    let line = Line::new();
    let output = line.mount("allow_other,noexec");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let root = &line.plan.root;
    let write = |name: &str| fs::write(root.join(name), b"bytes");
    let is_refused = |name: &str| {
        let refused = write(name).unwrap_err();
        assert_eq!(refused.kind(), READ_ONLY);
    };
    let flags = || {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let entry = table.lines().find(|it| it.contains(root.to_str().unwrap()));
        let options = entry.unwrap().split(' ').nth(3).unwrap();
        options.split(',').map(str::to_owned).collect::<Vec<_>>()
    };
    write("f").unwrap();
    let open = fs::File::create(root.join("open")).unwrap();
    let busy = line.mount("remount,ro");
    assert_eq!(busy.status.code(), Some(32), "{}", said(&busy));
    assert!(said(&busy).contains("open for writing"), "{}", said(&busy));
    drop(open);
    line.remount_unless_busy("allow_other,remount,ro");
    is_refused("g");
    for flag in ["ro", "noexec", "nosuid", "nodev"] {
        assert!(flags().iter().any(|it| it == flag), "{flag}: {:?}", flags());
    }
    assert_eq!(fs::read(root.join("f")).unwrap(), b"bytes");
    kill_daemon(root);
    is_refused("g");
    let output = line.mount("allow_other,remount,rw,exec");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    write("g").unwrap();
    assert!(!flags().iter().any(|it| it == "noexec"), "{:?}", flags());
    let stored = line.plan.client.get(&line.plan.bucket, "g");
    assert_eq!(stored.unwrap(), b"bytes");
}

#[test]
fn what_was_mounted_read_only_takes_changes_after_a_remount() {
    let line = Line::new();
    let output = line.mount("ro");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let path = line.plan.root.join("f");
    fs::write(&path, b"x").unwrap_err();
    let output = line.mount("ro,remount,rw");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    fs::write(&path, b"bytes").unwrap();
    let stored = line.plan.client.get(&line.plan.bucket, "f");
    assert_eq!(stored.unwrap(), b"bytes");
    let other = line.plan.scratch().join("other");
    fs::create_dir(&other).unwrap();
    let other = other.to_str().unwrap();
    let output = line.helper(&[&line.source, other], "remount,ro");
    assert_eq!(output.status.code(), Some(32), "{}", said(&output));
    assert!(said(&output).contains("not a mount of mediafs"));
}

#[test]
fn a_takeover_keeps_what_a_remount_made_of_a_mount_that_was_read_only() {
    let line = Line::new();
    let write = |name: &str| fs::write(line.plan.root.join(name), b"bytes");
    let kill = || kill_daemon(&line.plan.root);
    let output = line.mount("ro");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    kill();
    assert_eq!(write("f").unwrap_err().kind(), READ_ONLY);
    let output = line.mount("ro,remount,rw");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for name in ["f", "g"] {
        kill();
        write(name).unwrap();
        let stored = line.plan.client.get(&line.plan.bucket, name);
        assert_eq!(stored.unwrap(), b"bytes");
    }
    line.remount_unless_busy("remount,ro");
    kill();
    assert_eq!(write("h").unwrap_err().kind(), READ_ONLY);
}

#[test]
fn a_configuration_that_became_read_only_holds_from_the_next_takeover_on() {
    let line = Line::new();
    let settings = line.plan.scratch().join("settings.toml");
    let configured = |text: &str| fs::write(&settings, text).unwrap();
    configured("");
    let write = |name: &str| fs::write(line.plan.root.join(name), b"bytes");
    let kill = || kill_daemon(&line.plan.root);
    let output = line.mount(&format!("config={}", settings.display()));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    configured("read-only = true");
    write("f").unwrap();
    for _ in 0..2 {
        kill();
        assert_eq!(write("f").unwrap_err().kind(), READ_ONLY);
    }
    configured("");
    kill();
    write("f").unwrap();
}

/// Returns once a successor runs.
#[track_caller]
fn kill_daemon(root: &Path) {
    let daemon = daemon_of(root);
    kill_process(daemon, Signal::KILL).unwrap();
    wait_until(SOON, "a successor", || daemon_of(root) != daemon);
}

/// The process that serves.
#[track_caller]
fn daemon_of(root: &Path) -> Pid {
    let mut found = None;
    wait_until(SOON, "a daemon", || {
        found = daemon_among(&daemons_of(root));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn lines_of_other_programs_mount_or_say_what_to_use() {
    let line = Line::new();
    let pasted = "_netdev,allow_other,use_path_request_style,umask=0027,uid=daemon,gid=daemon,iam_role=auto,nonempty,default_permissions,context=system_u:object_r:httpd_sys_content_t:s0";
    let output = line.mount(pasted);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let path = line.plan.root.join("f");
    fs::write(&path, b"bytes").unwrap();
    let meta = fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (1, 1, 0o640));
    let above = fs::metadata(&line.plan.root).unwrap();
    assert_eq!(above.mode() & 0o777, 0o750);
    for (option, instead) in [
        ("passwd_file=/etc/passwd-s3fs", "credentials-file="),
        ("uid=nobody-of-this-name", "nobody-of-this-name"),
        ("log-file=relative", "whole path"),
    ] {
        let output = line.mount(option);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(instead), "{}", said(&output));
    }
}

/// In a mount namespace of its own: `$1` an empty folder, `$2` the helper, `$3`
/// the mountpoint, `$4` the lines of fstab.
const BY_MOUNT: &str = r#"
    mount -t tmpfs none "$1"
    mkdir "$1/upper" "$1/work"
    sbin=$(realpath /sbin)
    mount -t overlay -o "lowerdir=$sbin,upperdir=$1/upper,workdir=$1/work" none "$sbin"
    ln -sf "$(realpath "$2")" "$sbin/mount.mediafs"
    ln -sf "$(realpath "$2")" "$sbin/mount.fuse.mediafs"
    mount --bind "$4" /etc/fstab
    mount -a -t mediafs
    mount -a -t mediafs
    test "$(findmnt -n -o FSTYPE "$3" | wc -l)" = 1
    echo bytes >"$3/f"
    umount "$3"
    ! mountpoint -q "$3"
    mount "$3"
    cat "$3/f"
    mount -o remount,ro "$3"
    ! touch "$3/g" 2>"$1/refused"
    grep -q 'Read-only' "$1/refused"
    mount -o remount,rw "$3"
    touch "$3/g"
    echo >/etc/fstab
    mount -o remount,ro "$3"
    ! touch "$3/h" 2>"$1/refused"
    grep -q 'Read-only' "$1/refused"
    umount "$3""#;

#[test]
fn mount_8_mounts_and_umount_8_unmounts_what_stands_in_fstab() {
    let line = Line::new();
    let folder = line.plan.scratch().join("private");
    fs::create_dir(&folder).unwrap();
    let table = line.plan.scratch().join("fstab");
    let entry = format!(
        "{} {} mediafs {},allow_other,_netdev,nofail,x-systemd.mount-timeout=30 0 0\n",
        line.source,
        line.plan.root.display(),
        line.options
    );
    fs::write(&table, entry).unwrap();
    let mut command = Command::new("unshare");
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .args([
            "-m",
            "--propagation",
            "private",
            "sh",
            "-ec",
            BY_MOUNT,
            "sh",
        ])
        .arg(&folder)
        .arg(&line.helper)
        .arg(&line.plan.root)
        .arg(&table);
    let output = run_within(SOON, &mut command);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "bytes\n");
    let stored = line.plan.client.get(&line.plan.bucket, "f");
    assert_eq!(stored.unwrap(), b"bytes\n");
}
