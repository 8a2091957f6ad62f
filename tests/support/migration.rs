//! A directory and a bucket that the commands which move data are given.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::Client;
use super::programs::{mediafs, run_within, said};
use super::proxy::Proxy;
use super::servers::Server;

const WITHIN: Duration = Duration::from_secs(300);

/// Keys of the bucket that belong to it begin so.
pub const PREFIX: &str = "media/";

/// Both places, a proxy before the second one, and a folder for what runs leave.
#[derive(Debug)]
pub struct Migration {
    /// The directory.
    pub tree: PathBuf,
    pub bucket: String,
    pub client: Client,
    pub proxy: Proxy,
    pub scratch: TempDir,
    server: &'static Server,
    options: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// What a command printed with --json, and how it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub lines: Vec<Value>,
    pub summary: Value,
    pub said: String,
}

impl Migration {
    pub fn new() -> Self {
        Self::on(Server::shared())
    }

    /// With a bucket of this server.
    pub fn on(server: &'static Server) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bucket = format!("migrate-{}-{number}", std::process::id());
        let client = Client::new(server);
        client.create_bucket(&bucket);
        let scratch = tempfile::Builder::new()
            .prefix("mediafs-migrate-")
            .tempdir()
            .unwrap();
        let tree = scratch.path().canonicalize().unwrap().join("tree");
        fs::create_dir(&tree).unwrap();
        Self {
            tree,
            bucket,
            client,
            proxy: Proxy::before(server),
            scratch,
            server,
            options: Vec::new(),
            env: Vec::new(),
        }
    }

    /// With another option in each command.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.into());
        self
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Writes a file of the directory, with the directories above it.
    pub fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Puts an object below the prefix.
    pub fn object(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let key = format!("{PREFIX}{path}");
        self.client.put(&self.bucket, &key, bytes.as_ref());
    }

    /// The bytes of an object below the prefix.
    pub fn stored(&self, path: &str) -> Option<Vec<u8>> {
        self.client.get(&self.bucket, &format!("{PREFIX}{path}"))
    }

    /// Paths of all objects below the prefix.
    pub fn paths(&self) -> Vec<String> {
        let listed = self.client.list(&self.bucket, "").into_iter();
        listed
            .map(|(key, _)| key.strip_prefix(PREFIX).unwrap().to_owned())
            .collect()
    }

    /// `mediafs NAME` with both places in its order.
    pub fn command(&self, name: &str, args: &[&str]) -> Command {
        self.command_on(name, &self.tree, args)
    }

    /// The same with another directory.
    pub fn command_on(&self, name: &str, tree: &Path, args: &[&str]) -> Command {
        let place = format!("{}/{}", self.bucket, PREFIX.trim_end_matches('/'));
        self.command_between(name, tree, &place, args)
    }

    /// The same with another place too.
    pub fn command_between(&self, name: &str, tree: &Path, place: &str, args: &[&str]) -> Command {
        let mut command = mediafs();
        command.arg(name);
        match name {
            "export" => command.arg(place).arg(tree),
            _ => command.arg(tree).arg(place),
        };
        self.configured(command, args)
    }

    /// `mediafs verify` with the bucket alone, against a manifest.
    pub fn verify_manifest(&self, manifest: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mediafs"));
        command.args(["verify", "--manifest", manifest]);
        command.arg(format!("{}/{PREFIX}", self.bucket));
        self.configured(command, args)
    }

    /// `mediafs move` from the prefix of the bucket to this place.
    pub fn move_to(&self, target: &str, args: &[&str]) -> Command {
        let mut command = mediafs();
        command.arg("move");
        command.arg(format!("s3://{}/{PREFIX}", self.bucket));
        command.arg(format!("s3://{target}"));
        self.configured(command, args)
    }

    /// The server without the proxy before it.
    pub fn endpoint(&self) -> &str {
        &self.server.endpoint
    }

    fn configured(&self, mut command: Command, args: &[&str]) -> Command {
        command
            .args(["--endpoint-url", &self.proxy.endpoint])
            .args(["--force-path-style", "--region", "us-east-1"])
            .arg("--spool")
            .arg(self.scratch.path().join("state/spool"))
            .args(&self.options)
            .args(args)
            .env("AWS_ACCESS_KEY_ID", &*self.server.owner.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &*self.server.owner.secret_key)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command with --json to its end.
    #[track_caller]
    pub fn run(&self, name: &str, args: &[&str]) -> Ended {
        Ended::of(self.command(name, args).arg("--json"))
    }

    /// The same, which is to end with this code.
    #[track_caller]
    pub fn ends(&self, name: &str, args: &[&str], code: i32) -> Ended {
        let ended = self.run(name, args);
        assert_eq!(ended.code, code, "{name} {args:?}: {}", ended.said);
        ended
    }

    /// Both places have the same names with the same bytes, and nothing else is there.
    #[track_caller]
    pub fn assert_equal(&self) {
        let mut here = Vec::new();
        collect(&self.tree, "", &mut here);
        here.sort();
        let mut there = self.paths();
        there.sort();
        let names: Vec<_> = here.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(names, there);
        for (path, bytes) in here {
            let stored = self.stored(&path).unwrap();
            assert!(stored == bytes, "{path} has other bytes");
        }
        assert!(self.client.unfinished_uploads(&self.bucket).is_empty());
    }
}

fn collect(folder: &Path, above: &str, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{above}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), found);
        } else {
            found.push((path, fs::read(entry.path()).unwrap()));
        }
    }
}

impl Ended {
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let output = run_within(WITHIN, command);
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let (summaries, lines): (Vec<Value>, Vec<Value>) =
            lines.partition(|line: &Value| line["summary"].is_string());
        Self {
            code: output.status.code().unwrap_or(-1),
            lines,
            summary: summaries.into_iter().next().unwrap_or_default(),
            said: said(&output),
        }
    }

    /// `SYMBOL PATH` of every name that is not equal, in order.
    pub fn differences(&self) -> Vec<String> {
        let lines = self.lines.iter().filter(|line| line["symbol"] != "=");
        let mut lines: Vec<_> = lines.map(shown).collect();
        lines.sort();
        lines
    }

    /// The line of a name.
    #[track_caller]
    pub fn line(&self, path: &str) -> &Value {
        let found = self.lines.iter().rfind(|line| line["path"] == path);
        found.unwrap_or_else(|| panic!("no {path} in {}", self.said))
    }

    /// Names of a count of the summary.
    pub fn count(&self, of: &str) -> u64 {
        self.summary[of]["names"].as_u64().unwrap_or(0)
    }
}

fn shown(line: &Value) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    format!("{} {}", text("symbol"), text("path"))
}
