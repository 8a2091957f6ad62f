//! Other programs, and waiting for what they do.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Between two polls passes an eighth of what was waited for already: what takes long
/// costs the server few requests.
const POLL_FIRST: Duration = Duration::from_millis(10);
const POLL_LIMIT: Duration = Duration::from_millis(250);
/// Whatever passes beyond this between two polls is a pause.
const LONGEST_POLL: Duration = Duration::from_secs(2);

/// Waits until `holds`, and panics with `what` when it does not within `deadline`.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, holds: impl FnMut() -> bool) {
    assert!(
        happens_within(deadline, holds),
        "not within {deadline:?} of a calm machine: {what}"
    );
}

/// Deadlines are for an idle machine. A busy one may be this many times slower.
const SLOWER: u32 = 5;

/// Whether `holds` comes to hold within `deadline`.
///
/// A pause of the whole machine does not count: nothing could happen in it.
pub fn happens_within(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let (mut left, mut polled) = (deadline * SLOWER, Instant::now());
    let began = polled;
    loop {
        if holds() {
            return true;
        }
        if left.is_zero() {
            return false;
        }
        std::thread::sleep((began.elapsed() / 8).clamp(POLL_FIRST, POLL_LIMIT));
        left = left.saturating_sub(polled.elapsed().min(LONGEST_POLL));
        polled = Instant::now();
    }
}

/// The virtual environment that `scripts/test` makes.
pub fn venv() -> PathBuf {
    let dir = std::env::var_os("MEDIAFS_TEST_VENV").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv"),
        PathBuf::from,
    );
    assert!(
        dir.join("bin/weed").exists(),
        "no S3 server in {}: run scripts/test once, it installs what the tests need",
        dir.display()
    );
    dir
}

pub fn python() -> PathBuf {
    venv().join("bin/python")
}

/// Runs a Python program with arguments, and returns what it printed.
#[track_caller]
pub fn run_python(program: &str, args: &[&Path]) -> String {
    let mut command = Command::new(python());
    command.arg("-c").arg(program).args(args);
    succeeds(&mut command)
}

/// The documents of a text in YAML.
#[track_caller]
pub fn parse_yaml(text: &str) -> Vec<serde_json::Value> {
    const PROGRAM: &str =
        "import json, sys, yaml\nprint(json.dumps(list(yaml.safe_load_all(sys.argv[1]))))";
    serde_json::from_str(&run_python(PROGRAM, &[Path::new(text)])).unwrap()
}

/// Runs a shell script with `$1`, `$2`... and returns what it printed.
#[track_caller]
pub fn run_shell(script: &str, args: &[&Path]) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh"]).args(args);
    succeeds(&mut command)
}

/// Runs a program that must end with 0.
#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        said(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What runs a command where there is no /dev/fuse: a few devices of a folder are its /dev.
pub fn without_fuse(dev: &Path) -> Command {
    const MASK: &str = r#"
        mount -t tmpfs none "$0"
        for name in null zero random urandom; do
            touch "$0/$name"
            mount --bind "/dev/$name" "$0/$name"
        done
        mount --rbind "$0" /dev
        exec "$@""#;
    std::fs::create_dir_all(dev).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "--propagation", "private", "sh", "-ec", MASK])
        .arg(dev);
    command
}

/// The command as another program runs it: setarch(8), or one that masks something.
pub fn run_by(mut runner: Command, command: &Command) -> Command {
    runner.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => runner.env(name, value),
            None => runner.env_remove(name),
        };
    }
    runner
}

/// The command as one of a user whose home, and everything of the user's, is this folder.
pub fn at_home<'a>(command: &'a mut Command, home: &Path) -> &'a mut Command {
    command
        .current_dir(home)
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
}

/// Everything that a program printed.
pub fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Panics with the text where it lacks one of the parts.
#[track_caller]
pub fn has_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// Runs a program to its end, or kills it and panics after `deadline`.
///
/// Its output goes to files: a daemon that it leaves behind would keep a pipe open.
#[track_caller]
pub fn run_within(deadline: Duration, command: &mut Command) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let mut status = None;
    happens_within(deadline, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let Some(status) = status else {
        child.kill().unwrap();
        child.wait().unwrap();
        let log = std::fs::read_to_string(&err).unwrap_or_default();
        panic!("still running after {deadline:?}: {command:?}\n{log}");
    };
    Output {
        status,
        stdout: std::fs::read(&out).unwrap(),
        stderr: std::fs::read(&err).unwrap(),
    }
}

/// The program under test: `MEDIAFS_TEST_BINARY`, or the one that was built with the tests.
pub fn built_mediafs() -> PathBuf {
    let built = std::env::var_os("MEDIAFS_TEST_BINARY");
    let built = built.unwrap_or_else(|| env!("CARGO_BIN_EXE_mediafs").into());
    PathBuf::from(built)
}

/// A command of it.
pub fn mediafs() -> Command {
    let mut command = Command::new(built_mediafs());
    without_settings_of_the_tests(&mut command);
    command
}

/// Mediafs would refuse them as unknown.
pub fn without_settings_of_the_tests(command: &mut Command) {
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.as_encoded_bytes().starts_with(b"MEDIAFS_TEST_")) {
        command.env_remove(name);
    }
}
