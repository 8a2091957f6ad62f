//! A mount in the background: the command starts itself again as a supervisor, which
//! starts the daemon, and waits for the daemon's word.
//!
//! The daemon's standard output is a pipe to the command: lines of what it waits
//! for, each after `note: `, then `ready`, or why there will be no mount. Its
//! standard error is the log file, for what does not go through the log.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};

use crate::config::Config;
use crate::session::{self, Life, Waiter};
use crate::telemetry::{self, LogFileSettings};

/// Tells the child that it is one. Not a setting: the prefix differs.
const CHILD_VARIABLE: &str = "_MEDIAFS_CHILD";
/// Its value for a daemon that takes a dead one's place: nobody waits for it.
const SUCCESSOR: &str = "successor";
/// Tells the child where the command was given: it has left that folder.
const FOLDER_VARIABLE: &str = "_MEDIAFS_FOLDER";
/// Variables whose paths the AWS and TLS libraries read themselves.
/// Source: AWS SDKs and Tools Reference Guide; rustls-native-certs.
const PATH_VARIABLES: [&str; 7] = [
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
const READY: &str = "ready\n";
const NOTE: &str = "note: ";
const SOCKET_NAME: &str = "notify";
/// Lines of the log shown when the child says nothing.
const LOG_TAIL_LINES: usize = 10;

/// The machine has no process for a daemon.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the daemon: {0}")]
pub struct CannotStart(io::Error);

/// Who started this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// A command that waits for the mount.
    Waits,
    /// A supervisor whose daemon died.
    Holds,
}

/// Who started this process, if it is a daemon in the background.
pub fn parent() -> Option<Parent> {
    let value = env::var_os(CHILD_VARIABLE)?;
    Some(if value == SUCCESSOR {
        Parent::Holds
    } else {
        Parent::Waits
    })
}

/// Where the command was given. A folder that is gone matters to nobody but relative
/// paths, which are gone too.
pub fn folder() -> PathBuf {
    let told = env::var_os(FOLDER_VARIABLE).map(PathBuf::from);
    let told = told.filter(|_| parent().is_some());
    told.or_else(|| env::current_dir().ok())
        .unwrap_or_else(|| PathBuf::from("/"))
}

impl Parent {
    pub fn tell_failure(self, error: &anyhow::Error) {
        self.tell_last(&session::in_words(error));
    }

    /// A parent that is gone, or has its answer, does not mind.
    fn tell(self, message: &str) {
        if self == Self::Holds {
            return;
        }
        let mut pipe = io::stdout();
        if pipe
            .write_all(message.as_bytes())
            .and_then(|()| pipe.flush())
            .is_err()
        {
            tracing::debug!("nobody waits for this mount any more");
        }
    }

    fn tell_last(self, message: &str) {
        self.tell(message);
        if self == Self::Holds {
            return;
        }
        // The pipe ends here, so that whoever reads it sees its end.
        if let Err(error) = rustix::stdio::dup2_stdout(rustix::stdio::stderr()) {
            tracing::debug!(%error, "standard output stays open");
        }
    }
}

impl Waiter for Parent {
    fn note(&self, text: &str) {
        self.tell(&format!("{NOTE}{text}\n"));
    }

    fn ready(&self) {
        self.tell_last(READY);
    }
}

/// Starts the daemon, with these arguments, and returns once its mount serves.
///
/// Errors: `CannotStart` when there was no daemon at all.
pub fn start(config: &Config, args: &[OsString]) -> anyhow::Result<()> {
    let log = config.log_file_in_background();
    let log_file = open_log(config, &log)?;
    let folder = folder();
    let mut command = Command::new(env::current_exe().context("cannot find the mediafs binary")?);
    command
        .arg("supervise")
        .arg(config.state_dir().join(SOCKET_NAME))
        .arg(config.watchdog.as_millis().to_string())
        .args(config.log_in_background().to_args())
        .arg("--")
        .args(args)
        .env(FOLDER_VARIABLE, &folder)
        .envs(whole_paths(&folder))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log_file)
        // Signals of the terminal are not for the daemon.
        .process_group(0);
    let mut child = command.spawn().map_err(CannotStart)?;
    let mut word = String::new();
    if let Some(pipe) = child.stdout.take() {
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        while pipe
            .read_line(&mut line)
            .context("no word from the daemon")?
            > 0
        {
            match line.strip_prefix(NOTE) {
                Some(note) => telemetry::tell_user(&format!("mediafs: {note}")),
                None => word.push_str(&line),
            }
            line.clear();
        }
    }
    if word == READY {
        return Ok(());
    }
    let status = child.wait().context("cannot wait for the daemon")?;
    if !word.is_empty() {
        bail!("{word}");
    }
    let tail = tail(&log.path);
    Err(anyhow!(
        "the daemon ended without a word ({status}); {} ends with:\n{tail}",
        log.path.display()
    ))
}

/// Keeps the mount's descriptor and starts the daemon, as often as it dies.
///
/// `watchdog`: how long a daemon that serves may be silent.
pub fn hold(
    socket: &Path,
    watchdog: Option<Duration>,
    args: &[OsString],
) -> anyhow::Result<ExitCode> {
    // The path, not the file: after an upgrade the new binary is started.
    let program = env::current_exe().context("cannot find the mediafs binary")?;
    env::set_current_dir("/")?;
    let status = session::supervise(&program, args, socket, watchdog, |command, life| {
        let value = match life {
            Life::First => "1",
            Life::Later => SUCCESSOR,
        };
        command.env(CHILD_VARIABLE, value);
        if life == Life::Later {
            command.stdout(Stdio::null());
        }
    })?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The variables that name relative paths, with whole ones.
fn whole_paths(folder: &Path) -> impl Iterator<Item = (&'static str, PathBuf)> {
    PATH_VARIABLES.into_iter().filter_map(move |name| {
        let path = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
        path.is_relative().then(|| (name, folder.join(path)))
    })
}

/// Opens the log of the processes that are started. Errors: with its name.
fn open_log(config: &Config, log: &LogFileSettings) -> anyhow::Result<File> {
    // Here is the supervisor's socket too, wherever the log is.
    let dir = config.state_dir();
    let mut made = fs::DirBuilder::new();
    let made = made.recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("state directory {}", dir.display()))?;
    let file = log.open();
    file.with_context(|| {
        format!(
            "--log-file {}: name a file in a directory that is there",
            log.path.display()
        )
    })
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    lines.get(from..).unwrap_or_default().join("\n")
}
