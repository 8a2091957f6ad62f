//! Containers of podman: its real engine and runtime, on a root of busybox alone, with
//! storage and settings of the test's own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::programs::{run_within, said, succeeds};

const SOON: Duration = Duration::from_secs(120);
const TOOLS: [&str; 9] = [
    "cat", "echo", "id", "ls", "mkdir", "mv", "rm", "sh", "sleep",
];
const FOLDERS: [&str; 9] = [
    "bin",
    "data/media",
    "dev",
    "etc",
    "media",
    "proc",
    "run",
    "sys",
    "tmp",
];

/// A root of busybox alone.
#[track_caller]
pub fn make_root(root: &Path) {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    // What podman mounts on it gets its mode.
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let busybox = succeeds(Command::new("sh").args(["-c", "command -v busybox"]));
    let mut copy = Command::new("cp");
    succeeds(copy.arg(busybox.trim()).arg(root.join("bin/busybox")));
    for tool in TOOLS {
        symlink("busybox", root.join("bin").join(tool)).unwrap();
    }
}

/// A container that runs, as uid 1000, with a read-only root and one folder of the
/// host on its /media, with podman's propagation: private.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
    pub name: String,
}

impl Podman {
    #[track_caller]
    pub fn with(folder: &Path) -> Self {
        Self::with_volume(&format!("{}:/media", folder.display()))
    }

    /// With a volume as podman's command line has it.
    #[track_caller]
    pub fn with_volume(volume: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let unique = dir.path().file_name().unwrap().to_str().unwrap();
        let name = format!("mediafs-test-{}", unique.trim_start_matches('.'));
        let this = Self { dir, name };
        make_root(&this.root());
        fs::set_permissions(this.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        this.configure();
        let mut run = this.command(&["run", "--detach", "--name", &this.name]);
        // The machine of the tests may itself be one that cannot raise limits.
        run.args([
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ]);
        run.args(["--network", "none", "--read-only", "--user", "1000:1000"]);
        run.args(["--volume", volume])
            .arg("--rootfs")
            .arg(this.root());
        let output = run_within(SOON, run.args(["sleep", "1000"]));
        assert!(output.status.success(), "{}", said(&output));
        this
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Source: containers-storage.conf(5), containers.conf(5).
    fn configure(&self) {
        let dir = self.dir.path().display();
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{dir}/graph\"\nrunroot = \"{dir}/run\"\n"
        );
        let engine = format!(
            "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\nstatic_dir = \"{dir}/static\"\ntmp_dir = \"{dir}/tmp\"\n"
        );
        fs::write(self.dir.path().join("storage.conf"), storage).unwrap();
        fs::write(self.dir.path().join("containers.conf"), engine).unwrap();
    }

    /// Has a command see this podman's containers.
    pub fn seen_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let file = |name: &str| self.dir.path().join(name);
        command
            .env("CONTAINERS_STORAGE_CONF", file("storage.conf"))
            .env("CONTAINERS_CONF", file("containers.conf"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("podman");
        self.seen_by(command.args(words));
        command
    }

    /// A path of its, as the host reaches it.
    #[track_caller]
    pub fn path(&self, inside: &str) -> PathBuf {
        let mut inspect = self.command(&["inspect", "--format", "{{.State.Pid}}", &self.name]);
        PathBuf::from(format!(
            "/proc/{}/root{inside}",
            succeeds(&mut inspect).trim()
        ))
    }

    /// A shell script inside, as the container's user.
    pub fn shell(&self, script: &str) -> Command {
        self.command(&["exec", &self.name, "sh", "-ec", script])
    }

    /// Runs it; it must end with 0.
    #[track_caller]
    pub fn says(&self, script: &str) -> String {
        let output = run_within(SOON, &mut self.shell(script));
        assert!(output.status.success(), "{script}: {}", said(&output));
        said(&output)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let mut remove = self.command(&["rm", "--force", "--time", "0", &self.name]);
        drop(remove.output());
    }
}
