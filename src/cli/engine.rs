//! Containers by their names, as the command of their engine knows them.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use super::migrate_args::Usage;
use crate::session::MountTree;

/// Commands that know containers by name. Source: podman-inspect(1), docker inspect.
const ENGINES: [&str; 2] = ["podman", "docker"];
/// How long podman or docker may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whose mount tree is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct InsideArg {
    /// A running container of podman or docker
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Any process of the container, by its number on this host
    #[arg(long, value_name = "N")]
    pid: Option<u32>,
}

impl InsideArg {
    /// Errors: there is no such container, or it does not run; `InsideError`.
    pub fn tree(&self) -> anyhow::Result<MountTree> {
        let pid = match (&self.container, self.pid) {
            (Some(container), _) => pid_of(container)?,
            (None, pid) => pid.unwrap_or_default(),
        };
        Ok(MountTree::of(pid)?)
    }

    /// As it was given, for a command line.
    pub fn as_given(&self) -> String {
        match (&self.container, self.pid) {
            (Some(container), _) => format!("--container {container}"),
            (None, pid) => format!("--pid {}", pid.unwrap_or_default()),
        }
    }
}

/// Errors: `Usage`.
pub fn absolute(path: &Path) -> Result<&Path, Usage> {
    if path.is_absolute() {
        return Ok(path);
    }
    let path = path.display();
    Err(Usage(format!(
        "{path}: give the path in the container from its root: /{path}"
    )))
}

fn pid_of(container: &str) -> anyhow::Result<u32> {
    let mut running = Vec::new();
    let mut reasons = Vec::new();
    for engine in ENGINES {
        match ask(engine, container, ANSWERS_WITHIN) {
            Ok(Some(0)) => reasons.push(format!("{engine}: not running")),
            Ok(Some(pid)) => running.push((engine, pid)),
            Ok(None) => {}
            Err(why) => reasons.push(format!("{engine}: {why}")),
        }
    }
    // The package podman-docker has podman under docker's name too.
    running.dedup_by_key(|(_, pid)| *pid);
    match running.as_slice() {
        [(_, pid)] => Ok(*pid),
        [] if reasons.is_empty() => {
            bail!(
                "neither podman nor docker is installed: give a process of the container with --pid"
            )
        }
        [] => bail!(
            "no running container {container:?}:\n  {}",
            reasons.join("\n  ")
        ),
        [..] => {
            bail!("podman and docker both run a container {container:?}: name a process with --pid")
        }
    }
}

/// The first process of a container, 0 of one that does not run; none where there is no
/// such command. Errors: in words.
fn ask(engine: &str, container: &str, within: Duration) -> Result<Option<u32>, String> {
    let mut command = Command::new(engine);
    command.args([
        "inspect",
        "--type",
        "container",
        "--format",
        "{{.State.Pid}}",
    ]);
    let output = match output(command.arg("--").arg(container), within) {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(why.trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let pid = said.trim().parse();
    pid.map(Some)
        .map_err(|_| format!("unexpected output {said:?}"))
}

/// What a command prints, which is little. Errors: it cannot be run; no answer in time.
fn output(command: &mut Command, within: Duration) -> io::Result<Output> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + within;
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            let why = format!(
                "no answer within {} s: is its daemon stuck?",
                within.as_secs()
            );
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    child.wait_with_output()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_engine_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let engine = |name: &str, script: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let answers = engine("answers", "echo 42");
        let long = Duration::from_secs(60);
        assert_eq!(ask(&answers, "app", long), Ok(Some(42)));
        let hangs = engine("hangs", "exec sleep 600");
        let why = ask(&hangs, "app", Duration::from_secs(1)).unwrap_err();
        assert!(why.contains("no answer within 1 s"), "{why}");
        assert_eq!(ask("/nonexistent/engine", "app", long), Ok(None));
    }
}
