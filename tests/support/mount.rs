//! The real daemon on a real mountpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use super::bucket::Bucket;
use super::server::{ACCESS_KEY, SECRET_KEY, signal};
use super::wait_until;

pub const BINARY: &str = env!("CARGO_BIN_EXE_mediafs");

/// A bucket mounted by a daemon of the test's own.
#[derive(Debug)]
pub struct Mount {
    pub bucket: Bucket,
    pub dir: PathBuf,
    pub scratch: tempfile::TempDir,
    flags: Vec<String>,
    prefix: String,
    daemon: Option<Child>,
}

/// `mediafs mount` for a place, with the test's credentials and nothing else of the environment.
pub fn mount_command(bucket: &Bucket, place: &str, dir: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("mount").arg(place).arg(dir);
    command.args(["--endpoint-url", &bucket.endpoint, "--force-path-style"]);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/nonexistent");
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    command
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

/// Whether something is mounted at exactly this path; asks the kernel, not the file system.
pub fn is_mounted(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(4) == Some(dir.to_str().unwrap()))
}

/// Runs a command and returns what came of it, as text.
pub fn output(command: &mut Command) -> (ExitStatus, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = [stdout, stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    (status, text)
}

/// A shell in a directory; fails the test where the script does.
pub fn shell(dir: &Path, script: &str) -> String {
    let mut command = Command::new("bash");
    let (status, text) = output(
        command
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(dir),
    );
    assert!(status.success(), "{script}\n{status}\n{text}");
    text
}

impl Mount {
    /// Mounts a whole bucket.
    pub fn new(bucket: &Bucket, flags: &[&str]) -> Self {
        Self::with_prefix(bucket, "", flags)
    }

    /// Mounts what lies under a prefix.
    pub fn with_prefix(bucket: &Bucket, prefix: &str, flags: &[&str]) -> Self {
        let scratch = tempfile::Builder::new()
            .prefix("mediafs-mount-")
            .tempdir()
            .unwrap();
        let dir = scratch.path().join("mnt");
        fs::create_dir(&dir).unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (bucket, prefix) = (bucket.clone(), prefix.to_owned());
        let mut mount = Self {
            bucket,
            dir,
            scratch,
            flags,
            prefix,
            daemon: None,
        };
        mount.start();
        mount
    }

    fn start(&mut self) {
        let place = format!("{}/{}", self.bucket.name, self.prefix);
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.log_path())
            .unwrap();
        let mut command = mount_command(&self.bucket, &place, &self.dir);
        command
            .arg("--spool")
            .arg(self.spool())
            .arg("--foreground")
            .args(&self.flags);
        command
            .args(["--log", "mediafs=debug"])
            .stdout(Stdio::null())
            .stderr(log);
        let mut daemon = command.spawn().unwrap();
        wait_until("the mount is there", || {
            assert!(
                daemon.try_wait().unwrap().is_none(),
                "the daemon ended:\n{}",
                self.log()
            );
            is_mounted(&self.dir)
        });
        // INIT is answered when the root can be listed.
        fs::read_dir(&self.dir).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.daemon = Some(daemon);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub fn spool(&self) -> PathBuf {
        self.scratch.path().join("spool")
    }

    /// Bytes that the daemon could not upload, by their paths.
    pub fn lost_and_found(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.spool().join("lost+found")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none())
            .collect()
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Requests of one kind that the log tells of, such as `ListObjectsV2`.
    pub fn requests(&self, op: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(&format!("op={op} ")))
            .count()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    /// Ends the daemon by a signal and waits for it.
    pub fn stop_by(&mut self, name: &str) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        signal(&daemon, name);
        daemon.wait().unwrap()
    }

    /// Waits for a daemon whose mount somebody else takes away.
    pub fn wait(&mut self) -> ExitStatus {
        self.daemon.take().unwrap().wait().unwrap()
    }

    pub fn unmount(&mut self) {
        let status = self.stop_by("TERM");
        assert!(status.success(), "{status}\n{}", self.log());
        assert!(!is_mounted(&self.dir));
    }

    /// A new daemon for the same bucket and mountpoint.
    pub fn remount(&mut self) {
        if self.daemon.is_some() {
            self.unmount();
        }
        self.start();
    }

    /// Ends the daemon without warning and clears the dead mount away.
    pub fn kill(&mut self) {
        self.stop_by("KILL");
        detach(&self.dir);
    }
}

fn detach(dir: &Path) {
    if is_mounted(dir) {
        Command::new("umount").arg("-l").arg(dir).status().ok();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!(
                "--- log of the daemon, last lines first\n{}",
                tail.join("\n")
            );
        }
        detach(&self.dir);
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().ok();
            daemon.wait().ok();
        }
    }
}
