//! How one test mounts: its bucket, folders, options and environment.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::client::Client;
use super::mount::Mount;
use super::programs::{built_mediafs, run_within, succeeds, without_settings_of_the_tests};
use super::servers::{Credentials, Server};

/// What close(2) can wait for.
pub const DURABILITIES: [&str; 2] = ["s3", "disk"];
/// What the log says where a daemon waits for what S3 may carry out late.
pub const WAITS_FOR_LATE: &str = "got no answer: waiting";

const COMMAND_WITHIN: Duration = Duration::from_secs(60);
/// What another client changed is looked for this often, unless a test says otherwise.
const TTL: &str = "1s";
/// No test needs one start of its daemon for longer, unless it says so. After it
/// the daemon is killed, which fails every system call that waits for it.
const WATCHDOG: Duration = Duration::from_secs(1000);

/// Where and how one test mounts: a bucket, folders and options of its own.
#[derive(Debug)]
pub struct MountBuilder {
    pub bucket: String,
    /// Ends in `/`, or is empty.
    pub prefix: String,
    /// The mountpoint.
    pub root: PathBuf,
    pub client: Client,
    /// Mountpoint, spool and log.
    pub(super) dir: TempDir,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    unset: Vec<OsString>,
    own_binary: bool,
    /// Whether the command names the bucket.
    names_bucket: bool,
    open_files: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) watchdog: Duration,
    pub(super) log: PathBuf,
    pub(super) stderr: Option<File>,
}

impl MountBuilder {
    /// A fresh bucket of a server, and the options that every test has.
    pub fn new(server: &Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("test-{}-{number}", std::process::id());
        let client = Client::new(server);
        client.create_bucket(&bucket);
        let dir = tempfile::Builder::new()
            .prefix("mediafs-mount-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let root = dir.path().canonicalize().unwrap().join("mnt");
        std::fs::create_dir(&root).unwrap();
        let this = Self {
            log: dir.path().join("log"),
            stderr: None,
            bucket,
            prefix: String::new(),
            root,
            client,
            dir,
            args: Vec::new(),
            env: Vec::new(),
            unset: Vec::new(),
            own_binary: false,
            names_bucket: true,
            open_files: None,
            uid: None,
            watchdog: WATCHDOG,
        };
        let spool = this.dir.path().join("spool");
        let control_socket = this.dir.path().join("control.sock");
        this.args(["--endpoint-url", &server.endpoint, "--force-path-style"])
            .args(["--region", server.region, "--ttl", TTL])
            .arg("--spool")
            .arg(spool)
            .arg("--control-socket")
            .arg(control_socket)
            .credentials(&server.owner)
            .env("AWS_EC2_METADATA_DISABLED", "true")
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn durability(self, mode: &str) -> Self {
        self.args(["--durability", mode])
    }

    /// Gives an option another value than every test has.
    pub fn set(mut self, option: &str, value: impl Into<OsString>) -> Self {
        let at = self.args.iter().position(|arg| arg == option).unwrap();
        self.args[at + 1] = value.into();
        self
    }

    /// Leaves out an option with a value that every test has.
    pub fn without(mut self, option: &str) -> Self {
        let at = self.args.iter().position(|arg| arg == option).unwrap();
        self.args.drain(at..at + 2);
        self
    }

    /// Leaves out an option without a value that every test has.
    pub fn without_flag(mut self, flag: &str) -> Self {
        self.args.retain(|arg| arg != flag);
        self
    }

    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    pub fn credentials(self, credentials: &Credentials) -> Self {
        self.env("AWS_ACCESS_KEY_ID", &*credentials.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &*credentials.secret_key)
    }

    /// Leaves them to another source than the environment.
    pub fn without_credentials(self) -> Self {
        self.unset("AWS_ACCESS_KEY_ID")
            .unset("AWS_SECRET_ACCESS_KEY")
    }

    /// Removes an environment variable from what the daemon is given.
    pub fn unset(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.unset.push(name.into());
        self
    }

    /// Serves only the keys below `prefix`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = format!("{}/", prefix.trim_end_matches('/'));
        self
    }

    /// Starts the daemon from now on with another value of a variable, or without it.
    pub(super) fn change_env(&mut self, name: &str, value: Option<&str>) {
        self.env.retain(|(known, _)| known != name);
        let set = value.map(|value| (name.into(), value.into()));
        self.env.extend(set);
    }

    /// Starts the daemon from now on with another value of an option.
    pub(super) fn change_arg(&mut self, option: &str, value: OsString) {
        let at = self.args.iter().position(|arg| arg == option).unwrap();
        self.args[at + 1] = value;
    }

    pub fn bucket(mut self, bucket: &str) -> Self {
        self.bucket = bucket.to_owned();
        self
    }

    /// Leaves it to the settings to name bucket and prefix.
    pub fn bucket_from_settings(mut self) -> Self {
        self.names_bucket = false;
        self
    }

    pub fn mountpoint(mut self, path: impl Into<PathBuf>) -> Self {
        self.root = path.into();
        self
    }

    /// Runs the daemon as this user, who gets the folders.
    pub fn user(mut self, uid: u32) -> Self {
        for path in [self.dir.path(), &self.root] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        }
        self.uid = Some(uid);
        self
    }

    /// Runs a copy of the binary in this test's folder, which can be replaced.
    pub fn own_binary(mut self) -> Self {
        self.own_binary = true;
        self
    }

    /// Runs the daemon with this limit of open files, soft and hard.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.open_files = Some(limit);
        self
    }

    /// Lets one start of the daemon take longer than most tests need.
    pub fn within(mut self, watchdog: Duration) -> Self {
        self.watchdog = watchdog;
        self
    }

    /// Has the daemon log to another file.
    pub fn log_at(mut self, path: PathBuf) -> Self {
        self.log = path;
        self
    }

    /// Has a daemon in the foreground log to this.
    pub fn stderr(mut self, stderr: File) -> Self {
        self.stderr = Some(stderr);
        self
    }

    /// A folder of this test, on the same file system as the mountpoint's parent.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// `mediafs mount` in the background, as a user types it.
    pub fn command(&self) -> Command {
        self.subcommand("mount")
    }

    /// The program, after the one that sets its limits where a test asked for some.
    pub(super) fn launcher(&self) -> Vec<OsString> {
        let limit = self.open_files.map(|limit| {
            let limit = format!("--nofile={limit}:{limit}");
            [OsString::from("prlimit"), limit.into()]
        });
        let mut words: Vec<_> = limit.into_iter().flatten().collect();
        words.push(self.program().into());
        words
    }

    /// Runs `mediafs mount` in the background and returns what became of it.
    #[track_caller]
    pub fn run(&self) -> Output {
        run_within(COMMAND_WITHIN, &mut self.command())
    }

    /// Adds the arguments and environment of `mediafs mount` to a command that
    /// starts the program.
    pub fn command_after(&self, command: Command) -> Command {
        self.subcommand_after(command, "mount")
    }

    /// Another of mediafs's commands that takes the place and options of a mount.
    pub fn subcommand(&self, name: &str) -> Command {
        let launcher = self.launcher();
        let mut command = Command::new(&launcher[0]);
        command.args(&launcher[1..]);
        self.subcommand_after(command, name)
    }

    fn subcommand_after(&self, mut command: Command, name: &str) -> Command {
        let prefix = self.prefix.trim_end_matches('/');
        let what = if prefix.is_empty() {
            self.bucket.clone()
        } else {
            format!("{}/{prefix}", self.bucket)
        };
        command.arg(name);
        command.args(self.names_bucket.then_some(what));
        command.arg(&self.root);
        command.args(&self.args);
        without_settings_of_the_tests(&mut command);
        for name in &self.unset {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The daemon's binary; a copy where the test asked for one, or the user could not
    /// reach the original.
    pub fn program(&self) -> PathBuf {
        let built = built_mediafs();
        if self.uid.is_none() && !self.own_binary {
            return built;
        }
        let copy = self.dir.path().join("mediafs");
        if !copy.exists() {
            // Not by this process: what another test starts meanwhile would have the copy open
            // for writing for a moment, and nobody could run it then.
            succeeds(Command::new("cp").arg(built).arg(&copy));
        }
        copy
    }

    /// Starts the daemon in the foreground and waits until it serves.
    #[track_caller]
    pub fn start(self) -> Mount {
        let mut mount = Mount::planned(self);
        mount.start();
        mount
    }

    /// Takes over what `run` has mounted.
    pub fn adopt(self) -> Mount {
        Mount::planned(self)
    }
}
