//! A real systemd as init of its own namespaces, on a copy of this machine's
//! file system that is thrown away, with mediafs installed by `scripts/install`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::programs::{run_within, said, wait_until};
use super::servers::{Server, dies_with_parent, spawn_for_life, sweeper};

const BOOTED_WITHIN: Duration = Duration::from_secs(180);
const COMMAND_WITHIN: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Machine {
    /// Of its init, as seen from here.
    pid: u32,
    _dir: TempDir,
    /// Removes the folder of a machine that is never dropped.
    _sweeper: Child,
}

impl Machine {
    /// The one that a test binary's tests share: a boot takes seconds.
    #[track_caller]
    pub fn shared() -> &'static Machine {
        static MACHINE: OnceLock<Machine> = OnceLock::new();
        MACHINE.get_or_init(Self::boot)
    }

    /// One for a test that ends it or takes mediafs away.
    #[track_caller]
    pub fn boot() -> Self {
        let repo = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(
            Path::new("/lib/systemd/systemd").exists(),
            "no systemd: run scripts/test once, it installs what the tests need"
        );
        let dir = tempfile::Builder::new()
            .prefix("mediafs-machine-")
            .tempdir()
            .unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut command = dies_with_parent("KILL", repo.join("tests/host/systemd/boot"));
        command
            .arg(&root)
            .arg(repo)
            .arg(env!("CARGO_BIN_EXE_mediafs"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let mut child = spawn_for_life(command);
        let sweeper = sweeper(dir.path());
        let mut pid = None;
        let said = || std::fs::read_to_string(dir.path().join("log")).unwrap();
        wait_until(BOOTED_WITHIN, "the machine's init", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "no boot: {ended:?}\n{}", said());
            pid = init_below(child.id());
            pid.is_some()
        });
        let machine = Self {
            pid: pid.unwrap(),
            _dir: dir,
            _sweeper: sweeper,
        };
        wait_until(BOOTED_WITHIN, "the machine's boot", || {
            let (up, state) = machine.tries("systemctl is-system-running --wait");
            assert!(
                !state.contains("degraded"),
                "{}",
                machine.says("systemctl --failed")
            );
            up
        });
        // Services do not have the variables of this process.
        machine.drop_in(
            "mediafs@.service",
            "[Service]\nEnvironment=AWS_EC2_METADATA_DISABLED=true\n",
        );
        machine.says(&format!(
            "MEDIAFS_BINARY=/opt/mediafs {}/scripts/install",
            repo.display()
        ));
        machine
    }

    /// A path of the machine, as it is reached from here.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Runs a shell script in the machine: whether it ended with 0, and what it said.
    #[track_caller]
    pub fn tries(&self, script: &str) -> (bool, String) {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.pid.to_string(), "-m", "-u", "-i", "-p", "-C"])
            .args(["sh", "-ec", script]);
        let output = run_within(COMMAND_WITHIN, &mut command);
        (output.status.success(), said(&output))
    }

    /// Runs a shell script in the machine that must end with 0.
    #[track_caller]
    pub fn says(&self, script: &str) -> String {
        let (done, said) = self.tries(script);
        assert!(done, "{script}: {said}\n{}", self.journal());
        said
    }

    /// A property of a unit. Source: systemctl(1), `show`.
    #[track_caller]
    pub fn property(&self, unit: &str, name: &str) -> String {
        let shown = self.says(&format!("systemctl show -p {name} --value '{unit}'"));
        shown.trim().to_owned()
    }

    pub fn journal(&self) -> String {
        self.tries("journalctl --no-pager -n 100 -o cat").1
    }

    /// What a service has logged.
    pub fn log_of(&self, unit: &str) -> String {
        self.says(&format!("journalctl --no-pager -o cat -u '{unit}'"))
    }

    /// Writes `/etc/mediafs/NAME.toml` and the credentials beside it, and makes the mountpoint.
    #[track_caller]
    pub fn configure(&self, name: &str, server: &Server, bucket: &str, more: &str) {
        let text = format!(
            "bucket = \"{bucket}\"\nmountpoint = \"/srv/{name}\"\nendpoint-url = \"{}\"\n\
             region = \"{}\"\nforce-path-style = true\nallow-other = true\n{more}",
            server.endpoint, server.region
        );
        std::fs::create_dir_all(self.path(&format!("/srv/{name}"))).unwrap();
        std::fs::write(self.path(&format!("/etc/mediafs/{name}.toml")), text).unwrap();
        let owner = &server.owner;
        let credentials = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            owner.access_key, owner.secret_key
        );
        let path = self.path(&format!("/etc/mediafs/{name}.credentials"));
        std::fs::write(path, credentials).unwrap();
    }

    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}", self.pid)).exists()
    }

    /// Adds lines to a unit, as `systemctl edit` does.
    #[track_caller]
    pub fn drop_in(&self, unit: &str, lines: &str) {
        let folder = self.path(&format!("/etc/systemd/system/{unit}.d"));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("test.conf"), lines).unwrap();
        self.says("systemctl daemon-reload");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.pid).unwrap()).unwrap();
        // Its processes and mounts end with it.
        kill_process(pid, Signal::KILL).ok();
    }
}

/// The only process below another, and below that, until it is systemd.
fn init_below(pid: u32) -> Option<u32> {
    let mut pid = pid;
    loop {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if name.trim() == "systemd" {
            return Some(pid);
        }
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        pid = children.ok()?.split_whitespace().next()?.parse().ok()?;
    }
}
