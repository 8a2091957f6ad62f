//! Commands and requests to a mount's control socket.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::mount::Mount;
use super::programs::{run_within, said, succeeds, wait_until};

const COMMAND_WITHIN: Duration = Duration::from_secs(60);

/// Where a mount of the tests listens, unless a test says otherwise.
pub fn socket(mount: &Mount) -> PathBuf {
    mount.scratch().join("control.sock")
}

/// The same once it is there: a mount in the foreground is seen before it listens.
#[track_caller]
pub fn listening(mount: &Mount) -> PathBuf {
    let socket = socket(mount);
    wait_until(COMMAND_WITHIN, "a control socket", || socket.exists());
    socket
}

/// A command of mediafs.
pub fn mediafs<A: AsRef<std::ffi::OsStr>>(words: impl IntoIterator<Item = A>) -> Command {
    let mut command = super::programs::mediafs();
    command.args(words);
    command
}

/// Runs a command of mediafs about a mount.
pub fn run(mount: &Mount, words: &[&str]) -> Output {
    let mut command = mediafs(words);
    command.arg("--socket").arg(listening(mount));
    run_within(COMMAND_WITHIN, &mut command)
}

/// The same, which must end with 0; what it prints.
#[track_caller]
pub fn done(mount: &Mount, words: &[&str]) -> String {
    let output = run(mount, words);
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

/// The same, which must end with 1; what it says.
#[track_caller]
pub fn failed(mount: &Mount, words: &[&str]) -> String {
    let output = run(mount, words);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{words:?}: {}",
        said(&output)
    );
    said(&output)
}

/// Waits until `mediafs healthcheck` says that a mount is so: one that does not answer a
/// stat within a second is `stuck` to it, which happens on a busy machine.
#[track_caller]
pub fn wait_for_health(mount: &Mount, state: &str) {
    wait_until(COMMAND_WITHIN, state, || {
        let told = said(&run(mount, &["healthcheck", "--json"]));
        let told: Result<Value, _> = serde_json::from_str(&told);
        told.is_ok_and(|told| told[0]["state"] == state)
    });
}

/// What `mediafs status --json` tells of a mount.
#[track_caller]
pub fn status(mount: &Mount) -> Value {
    let root = mount.root.to_str().unwrap();
    serde_json::from_str(&done(mount, &["status", root, "--json"])).unwrap()
}

/// What curl gets from a socket.
#[track_caller]
pub fn curl(socket: &Path, path: &str, body: Option<&str>) -> String {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "30", "--unix-socket"])
        .arg(socket);
    command.arg(format!("http://localhost{path}"));
    if let Some(body) = body {
        command.args(["-d", body]);
    }
    succeeds(&mut command)
}
