//! Relative paths count from where the command was typed, or from the file that they stand in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::mount::{detach, is_mounted};
use crate::support::processes::{daemon_among, daemons_of};
use crate::support::programs::{run_within, said};
use crate::support::servers::{OWNER, dies_with_parent};
use crate::support::tls_front::TlsFront;
use crate::support::{Mount, MountBuilder, Server, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// A mount whose every path is relative, in a folder of its own.
struct Relative {
    plan: MountBuilder,
    folder: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ground {
    Back,
    Fore,
}

const GROUNDS: [Ground; 2] = [Ground::Back, Ground::Fore];

impl Relative {
    /// With the mountpoint `mnt`, and without credentials.
    fn new(change: impl FnOnce(MountBuilder) -> MountBuilder) -> Self {
        let plan = Mount::builder()
            .mountpoint("mnt")
            .set("--spool", "own/spool");
        let plan = plan.without_credentials();
        let plan = change(plan);
        let folder = plan.scratch().canonicalize().unwrap();
        let credentials = format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            OWNER.access_key, OWNER.secret_key
        );
        fs::write(folder.join("credentials"), credentials).unwrap();
        Self { plan, folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// Processes of this mount: no other has its bucket.
    fn daemons(&self) -> Vec<rustix::process::Pid> {
        daemons_of(Path::new(&self.plan.bucket))
    }

    /// Mounts, and checks that a file of the mount is an object of the bucket.
    #[track_caller]
    fn mount(&self, ground: Ground) -> Option<Child> {
        let child = match ground {
            Ground::Back => {
                let mut command = self.plan.command();
                let output = run_within(SOON, command.current_dir(&self.folder));
                assert!(output.status.success(), "{}", said(&output));
                None
            }
            Ground::Fore => {
                let launcher = dies_with_parent("TERM", self.plan.program());
                let mut command = self.plan.command_after(launcher);
                command.arg("--foreground").current_dir(&self.folder);
                command.stdin(Stdio::null()).stdout(Stdio::null());
                command.stderr(fs::File::create(self.folder.join("stderr")).unwrap());
                Some(command.spawn().unwrap())
            }
        };
        wait_until(SOON, "a mount", || is_mounted(&self.root()));
        self.serves("f");
        child
    }

    #[track_caller]
    fn serves(&self, name: &str) {
        fs::write(self.root().join(name), b"bytes").unwrap();
        let stored = self.plan.client.get(&self.plan.bucket, name);
        assert_eq!(stored.unwrap(), b"bytes");
    }

    #[track_caller]
    fn unmount(&self, child: Option<Child>) {
        let status = Command::new("umount").arg(self.root()).status();
        assert!(status.unwrap().success());
        if let Some(mut child) = child {
            assert!(child.wait().unwrap().success());
        }
        wait_until(SOON, "the daemon's end", || self.daemons().is_empty());
    }

    #[track_caller]
    fn has(&self, paths: &[&str]) {
        for path in paths {
            assert!(self.folder.join(path).exists(), "no {path}");
        }
    }
}

impl Drop for Relative {
    fn drop(&mut self) {
        detach(&self.root());
        for pid in self.daemons() {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

#[test]
fn options_count_from_the_folder_of_the_command_in_the_background_too() {
    for ground in GROUNDS {
        let front = TlsFront::before(Server::shared());
        let relative = Relative::new(|plan| {
            let plan = plan.set("--endpoint-url", front.endpoint("127.0.0.1"));
            let plan = plan.set("--control-socket", "own.sock");
            plan.args(["--credentials-file", "credentials"]).args([
                "--log-file",
                "own.log",
                "--config",
                "m.toml",
                "--cache",
                "own/cache",
                "--mime",
                "own.types",
                "--ca-bundle",
                "ca.pem",
            ])
        });
        fs::write(relative.folder.join("m.toml"), "ttl = \"7s\"\n").unwrap();
        fs::write(relative.folder.join("own.types"), "x/own own\n").unwrap();
        fs::copy(front.ca(), relative.folder.join("ca.pem")).unwrap();
        let child = relative.mount(ground);
        relative.has(&["own/spool/journal", "own.log", "own/cache", "own.sock"]);
        relative.serves("typed.own");
        let typed = relative
            .plan
            .client
            .head(&relative.plan.bucket, "typed.own");
        assert_eq!(typed.unwrap().content_type.as_deref(), Some("x/own"));
        if ground == Ground::Back {
            let daemon = daemon_among(&relative.daemons()).unwrap();
            kill_process(daemon, Signal::KILL).unwrap();
            relative.serves("by-the-successor");
        }
        relative.unmount(child);
    }
}

#[test]
fn variables_count_from_the_folder_of_the_command() {
    for ground in GROUNDS {
        let relative = Relative::new(|plan| {
            plan.without("--spool")
                .env("MEDIAFS_SPOOL", "by-variable/spool")
                .env("MEDIAFS_LOG_FILE", "by-variable.log")
                .env("AWS_SHARED_CREDENTIALS_FILE", "credentials")
                .env("AWS_CONFIG_FILE", "config")
        });
        fs::write(relative.folder.join("config"), "[default]\n").unwrap();
        let child = relative.mount(ground);
        relative.has(&["by-variable/spool/journal", "by-variable.log"]);
        relative.unmount(child);
    }
}

#[test]
fn settings_of_a_file_count_from_the_folder_of_the_file() {
    for ground in GROUNDS {
        let relative = Relative::new(|plan| {
            plan.without("--spool")
                .without("--control-socket")
                .args(["--config", "settings/m.toml"])
        });
        let settings = relative.folder.join("settings");
        fs::create_dir(&settings).unwrap();
        fs::rename(
            relative.folder.join("credentials"),
            settings.join("credentials"),
        )
        .unwrap();
        let text = "spool = \"own/spool\"\nlog-file = \"own.log\"\ncredentials-file = \"credentials\"\ncache = \"own/cache\"\nmime = \"own.types\"\ncontrol-socket = \"own.sock\"\n";
        fs::write(settings.join("m.toml"), text).unwrap();
        fs::write(settings.join("own.types"), "x/own own\n").unwrap();
        let child = relative.mount(ground);
        relative.has(&["settings/own/spool/journal", "settings/own.log"]);
        relative.has(&["settings/own/cache", "settings/own.sock"]);
        relative.unmount(child);
    }
}
