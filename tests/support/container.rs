//! A container as far as mounts go: a mount namespace with a read-only root and
//! one bind mount with propagation `rslave`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::programs::{run_within, said, succeeds, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// `$1`: an empty folder for its root, `$2`: what is bound to its /mnt. It lives
/// until its standard input ends.
const CONTAINER: &str = r#"
    mount --bind / "$1"
    mount -o remount,bind,ro "$1"
    mount --rbind "$2" "$1/mnt"
    mount --rbind /dev "$1/dev"
    mount -t proc proc "$1/proc"
    cd "$1"
    pivot_root . media
    umount -l /media
    echo up
    exec cat"#;

/// A folder of the host on a shared mount of its own, as systemd makes all of them.
#[derive(Debug)]
pub struct Shared {
    dir: TempDir,
}

impl Shared {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("mediafs-shared-")
            .tempdir()
            .unwrap();
        succeeds(Command::new("mount").arg("--bind").args([dir.path(); 2]));
        succeeds(Command::new("mount").arg("--make-shared").arg(dir.path()));
        std::fs::create_dir(dir.path().join("media")).unwrap();
        Self { dir }
    }

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Where the host has the mount.
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("media")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        drop(umount.arg("-l").arg(self.dir.path()).status());
    }
}

#[derive(Debug)]
pub struct Container {
    child: Child,
    /// Of its init, as seen from here.
    pid: u32,
    /// The host's folder that becomes its root.
    _root: TempDir,
}

impl Container {
    /// Starts one with a folder of the host as its /mnt.
    #[track_caller]
    pub fn with(folder: &Path) -> Self {
        Self::start(&["--propagation", "slave"], folder)
    }

    /// The same with private propagation: what the host mounts later it never sees.
    #[track_caller]
    pub fn private(folder: &Path) -> Self {
        Self::start(&["--propagation", "private"], folder)
    }

    #[track_caller]
    fn start(flags: &[&str], folder: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork"])
            .args(flags)
            .args(["--kill-child", "sh", "-ec", CONTAINER, "sh"])
            .arg(root.path())
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let mut pid = None;
        wait_until(SOON, "the container's init", || {
            let children = std::fs::read_to_string(&children).unwrap();
            pid = children
                .split_whitespace()
                .next()
                .map(|pid| pid.parse().unwrap());
            pid.is_some()
        });
        // It says that it is up before it is the program that a test knows it by.
        let program = format!("/proc/{}/comm", pid.unwrap());
        wait_until(SOON, "the container's program", || {
            std::fs::read_to_string(&program).unwrap() == "cat\n"
        });
        Self {
            child,
            pid: pid.unwrap(),
            _root: root,
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Runs a shell script inside as a user: whether it ended with 0, and what it said.
    #[track_caller]
    pub fn tries(&self, uid: u32, script: &str) -> (bool, String) {
        let output = run_within(SOON, &mut self.command(uid, script));
        (output.status.success(), said(&output))
    }

    /// A shell script inside as a user.
    pub fn command(&self, uid: u32, script: &str) -> Command {
        let (pid, uid) = (self.pid.to_string(), uid.to_string());
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &pid, "-m", "-p", "-r", "-w"])
            .args([
                "setpriv",
                "--reuid",
                &uid,
                "--regid",
                &uid,
                "--clear-groups",
            ])
            .args(["sh", "-ec", script]);
        command
    }

    /// Runs a shell script inside that must end with 0.
    #[track_caller]
    pub fn says(&self, uid: u32, script: &str) -> String {
        let (done, said) = self.tries(uid, script);
        assert!(done, "{script}: {said}");
        said
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
