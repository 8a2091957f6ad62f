//! Mounting and unmounting: what a mount is like, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::mount::{BINARY, is_mounted, output, shell};
use support::refusal::{command, prepared, refused};
use support::{Bucket, Mount, Server, mounted, mounted_with, wait_until};

const NOBODY: &str = "65534";

#[test]
fn in_the_background_the_command_returns_when_the_mount_serves() {
    let (bucket, scratch) = prepared();
    bucket.put("f", b"bytes");
    let (status, text) = output(&mut command(&bucket, scratch.path()));
    assert!(status.success(), "{text}");
    let mounted = scratch.path().join("mnt");
    assert!(is_mounted(&mounted));
    assert_eq!(fs::read(mounted.join("f")).unwrap(), b"bytes");
    refused_again(&bucket, scratch.path());
    shell(scratch.path(), "umount mnt");
    let log = scratch.path().join("state/mediafs.log");
    wait_until("the daemon ends", || {
        fs::read_to_string(&log).unwrap().contains("stopped")
    });
}

/// Mounting on a mount says so and leaves it alone.
fn refused_again(bucket: &Bucket, scratch: &Path) {
    let (status, text) = output(&mut command(bucket, scratch));
    assert_eq!(status.code(), Some(1));
    assert!(
        text.contains("already mounted") && text.contains("umount"),
        "{text}"
    );
    assert_eq!(fs::read(scratch.join("mnt/f")).unwrap(), b"bytes");
}

#[test]
fn a_configuration_file_sets_what_flags_would() {
    let (bucket, scratch) = prepared();
    let mut command = command(&bucket, scratch.path());
    let file = scratch.path().join("m.toml");
    fs::write(&file, "uid = 1234\nfile-mode = \"0600\"\nttl = \"5s\"\n").unwrap();
    bucket.put("f", b"x");
    let (status, text) = output(
        command
            .arg("--config")
            .arg(&file)
            .env("MEDIAFS_GID", "4321"),
    );
    assert!(status.success(), "{text}");
    let meta = fs::metadata(scratch.path().join("mnt/f")).unwrap();
    assert_eq!(
        (meta.uid(), meta.gid(), meta.mode() & 0o7777),
        (1234, 4321, 0o600)
    );
    shell(scratch.path(), "umount mnt");
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let bucket = Bucket::new(Server::shared());
    bucket.put("d/f", b"bytes");
    let mount = Mount::new(&bucket, &["--read-only"]);
    assert_eq!(fs::read(mount.path("d/f")).unwrap(), b"bytes");
    let outcomes = [
        fs::write(mount.path("new"), b""),
        fs::write(mount.path("d/f"), b""),
        fs::remove_file(mount.path("d/f")),
        fs::create_dir(mount.path("e")),
        fs::remove_dir(mount.path("d")),
        fs::rename(mount.path("d/f"), mount.path("g")),
        fs::set_permissions(mount.path("d/f"), fs::Permissions::from_mode(0o600)),
    ];
    for outcome in outcomes {
        assert_eq!(outcome.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}

#[test]
fn owner_and_modes_follow_the_options() {
    let mount = mounted_with(&[
        "--uid",
        "33",
        "--gid",
        "44",
        "--file-mode",
        "0640",
        "--dir-mode",
        "0750",
    ]);
    mount.bucket.put("d/f", b"x");
    wait_until("the file is seen", || mount.path("d/f").exists());
    let (dir, file) = (
        fs::metadata(mount.path("d")).unwrap(),
        fs::metadata(mount.path("d/f")).unwrap(),
    );
    assert_eq!((dir.uid(), dir.gid(), dir.mode() & 0o7777), (33, 44, 0o750));
    assert_eq!(
        (file.uid(), file.gid(), file.mode() & 0o7777),
        (33, 44, 0o640)
    );
}

#[test]
fn other_users_get_in_with_allow_other_only() {
    let as_nobody = |mount: &Mount, script: &str| {
        fs::set_permissions(mount.scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("/usr/bin/setpriv");
        command.args([
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
            "bash",
            "-c",
            script,
        ]);
        output(command.current_dir(mount.scratch.path()))
            .0
            .success()
    };
    let closed = mounted();
    fs::write(closed.path("f"), b"x").unwrap();
    assert!(!as_nobody(&closed, "cat mnt/f"));
    let open = mounted_with(&["--allow-other", "--uid", NOBODY]);
    fs::write(open.path("f"), b"x").unwrap();
    assert!(as_nobody(&open, "cat mnt/f && echo mine > mnt/g"));
    assert_eq!(open.bucket.get("g"), b"mine\n");
    let foreign = mounted_with(&["--allow-other"]);
    fs::write(foreign.path("f"), b"x").unwrap();
    assert!(
        as_nobody(&foreign, "cat mnt/f && ! echo x > mnt/f && ! touch mnt/g"),
        "permissions are checked"
    );
}

#[test]
fn stat_of_the_root_never_waits_for_s3() {
    let server = Server::start_seaweedfs();
    let mount = Mount::new(
        &Bucket::new(&server),
        &["--ttl", "0", "--request-timeout", "5s"],
    );
    server.pause();
    let began = Instant::now();
    for _ in 0..10 {
        assert!(fs::metadata(&mount.dir).unwrap().is_dir());
        shell(mount.scratch.path(), "stat -f mnt > /dev/null");
    }
    // Each of them would have waited for the request's timeout.
    assert!(began.elapsed() < Duration::from_secs(5));
    let error = fs::metadata(mount.path("f")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    server.resume();
    wait_until("S3 is back", || fs::write(mount.path("f"), b"x").is_ok());
}

#[test]
fn a_signal_or_umount_ends_the_daemon_with_0_and_everything_is_in_the_bucket() {
    for end in ["TERM", "INT", "umount"] {
        let mut mount = mounted();
        fs::write(mount.path("f"), end).unwrap();
        let status = if end == "umount" {
            shell(mount.scratch.path(), "umount mnt");
            mount.wait()
        } else {
            mount.stop_by(end)
        };
        assert!(status.success(), "{end}: {status}\n{}", mount.log());
        assert!(!is_mounted(&mount.dir), "{end}");
        assert_eq!(mount.bucket.get("f"), end.as_bytes());
    }
}

#[test]
fn a_stop_while_a_file_is_open_waits_and_then_keeps_its_bytes() {
    let mut mount = mounted_with(&["--drain-timeout", "1s"]);
    let _writer = HalfWriter::new(&mount);
    assert!(mount.stop_by("TERM").success());
    assert!(!is_mounted(&mount.dir));
    assert_eq!(
        mount.bucket.keys(),
        [""; 0],
        "half a file never goes to the bucket"
    );
    assert_eq!(fs::read(&mount.lost_and_found()[0]).unwrap(), b"half a fi");
}

#[test]
fn what_a_killed_daemon_left_open_is_in_lost_and_found_after_a_remount() {
    let mut mount = mounted();
    fs::write(mount.path("done"), b"done").unwrap();
    let writer = HalfWriter::new(&mount);
    mount.kill();
    drop(writer);
    mount.remount();
    assert_eq!(mount.bucket.keys(), ["done"]);
    assert_eq!(fs::read(&mount.lost_and_found()[0]).unwrap(), b"half a fi");
}

/// Runs a script as nobody, in a mount namespace in which everyone may open /dev/fuse.
fn as_nobody(mount: &Command, scratch: &Path, path: &str, script: &str) -> Command {
    let device = "mknod -m 666 fuse c 10 229 && mount --bind fuse /dev/fuse";
    let user = format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups bash -c");
    let script = format!("export PATH={path}; {script}");
    let mut command = Command::new("/usr/bin/unshare");
    command.args([
        "--mount",
        "bash",
        "-c",
        &format!("{device} && {user} \"$0\" \"$@\""),
        &script,
    ]);
    command
        .arg(scratch.join("bin/mediafs"))
        .args(mount.get_args());
    command.env_clear().envs(
        mount
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.current_dir(scratch);
    command
}

#[test]
fn a_user_who_is_not_root_mounts_through_fusermount3() {
    let (bucket, scratch) = prepared();
    bucket.put("f", b"bytes");
    let prepare = format!(
        "chmod 755 . && mkdir -m 755 mnt bin state && cp {BINARY} bin/ && chown {NOBODY}:{NOBODY} mnt state"
    );
    shell(scratch.path(), &prepare);
    let mount = command(&bucket, scratch.path());
    let mut without = as_nobody(&mount, scratch.path(), "/nonexistent", "\"$0\" \"$@\"");
    refused(
        &mut without,
        scratch.path(),
        &["fusermount3", "apt-get install fuse3"],
    );
    shell(scratch.path(), "rm fuse");
    let script = "\"$0\" \"$@\" && cat mnt/f && fusermount3 -u mnt";
    let (status, text) = output(&mut as_nobody(
        &mount,
        scratch.path(),
        "/usr/bin:/bin",
        script,
    ));
    assert!(status.success(), "{text}");
    assert_eq!(text, "bytes");
}

/// A process of its own that holds `half` open with bytes that are not uploaded.
///
/// Not this process: each child that another test starts would close a copy of
/// the descriptor, and a close uploads.
struct HalfWriter(Child);

impl HalfWriter {
    fn new(mount: &Mount) -> Self {
        let program = "import os,sys\nfd=os.open('half',os.O_WRONLY|os.O_CREAT)\nos.write(fd,b'half a fi')\nprint('written',flush=True)\nsys.stdin.read()";
        let mut command = Command::new("python3");
        command.args(["-c", program]).current_dir(&mount.dir);
        let mut writer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 8];
        writer
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        Self(writer)
    }
}

impl Drop for HalfWriter {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
