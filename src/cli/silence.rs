//! Mounts that do not answer: which one a socket is of, and what is told of it.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::shown::outln;
use super::spelling::{mountpoints, spellings};
use crate::session::control::answers::HealthState;
use crate::session::control::client::AskError;
use crate::session::control::place;
use crate::session::{dead_at, mount_at};

/// A mount that was not asked, or gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentMount {
    /// Its name, mountpoint or socket.
    pub of: String,
    pub socket: Option<PathBuf>,
    /// None where it is not known.
    pub mountpoint: Option<PathBuf>,
    /// `Stuck`, or `Unknown`.
    pub state: HealthState,
    /// A daemon that has gone with its mount has left the socket.
    pub is_left_behind: bool,
    /// And what to do.
    pub why: String,
}

impl Error for SilentMount {}

impl fmt::Display for SilentMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is said of a mount may begin with where it is.
        match self.why.starts_with(&self.of) {
            true => f.write_str(&self.why),
            false => write!(f, "{}: {}", self.of, self.why),
        }
    }
}

impl SilentMount {
    /// That of a socket.
    pub fn of_socket(socket: &Path, error: &AskError) -> Self {
        let mountpoint = mountpoint_of(socket);
        let is_there = mountpoint
            .as_ref()
            .is_some_and(|it| mountpoints().contains(it));
        Self {
            of: socket.display().to_string(),
            socket: Some(socket.to_owned()),
            mountpoint,
            is_left_behind: matches!(error, AskError::Dead) && !is_there,
            state: HealthState::Stuck,
            why: why(socket, error),
        }
    }

    /// One that was asked for in these words.
    pub fn meant_by(self, words: &str) -> Self {
        Self {
            why: self.to_string(),
            of: words.to_owned(),
            ..self
        }
    }

    /// What the kernel has as its source, where it is mounted.
    pub fn bucket(&self) -> Option<String> {
        let there = mount_at(self.mountpoint.as_deref()?).ok()??;
        let source = there.source;
        Some(
            source
                .strip_prefix("mediafs:")
                .unwrap_or(&source)
                .to_owned(),
        )
    }

    /// What a program is told of it.
    pub fn as_json(&self) -> Value {
        json!({
            "mountpoint": self.mountpoint,
            "state": self.state,
            "reasons": [self.to_string()],
        })
    }
}

/// Why there is no answer, and what to do.
fn why(socket: &Path, error: &AskError) -> String {
    let dead = || mountpoint_of(socket).and_then(|it| dead_at(&it));
    match error {
        AskError::Dead => dead().map_or_else(|| error.to_string(), |dead| dead.to_string()),
        error => error.to_string(),
    }
}

/// What a program is told where a command failed: of a mount that does not answer its state.
pub fn as_json(error: &anyhow::Error) -> Value {
    match error.downcast_ref::<SilentMount>() {
        Some(silent) => silent.as_json(),
        None => json!({"error": error.to_string()}),
    }
}

/// The same, printed where the command prints an object as JSON. Errors: the outcome's.
pub fn print_error_object<T>(json: bool, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if let Err(error) = outcome.as_ref()
        && json
    {
        outln!("{:#}", as_json(error))?;
    }
    outcome
}

/// The same where the command prints an array.
pub fn print_error_array<T>(json: bool, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if let Err(error) = outcome.as_ref()
        && json
    {
        outln!("{:#}", Value::Array(vec![as_json(error)]))?;
    }
    outcome
}

/// Why none answers, and what to do.
pub fn no_mount() -> String {
    match place::own_dir() {
        Some(dir) => format!(
            "no mount answers in {}: start one with 'mediafs mount', or name its socket with --socket",
            dir.display()
        ),
        None => format!(
            "no mount answers: XDG_RUNTIME_DIR is not set: set it to /run/user/{}, as a login does, or name a mount's socket with --socket",
            rustix::process::geteuid().as_raw()
        ),
    }
}

/// Whether a socket is of the mount with this name or mountpoint.
pub fn is_socket_of(socket: &Path, wanted: &Path, wanted_at: &[PathBuf]) -> bool {
    let stem = socket.file_stem().unwrap_or_default();
    let mut names = wanted_at.iter().map(|it| place::name_of_mountpoint(it));
    if stem == wanted.as_os_str() || socket == wanted || names.any(|name| stem == name.as_str()) {
        return true;
    }
    let is_wanted = |mountpoint: &Path| wanted_at.contains(&without_symlinks(mountpoint));
    place::named().into_iter().any(|(mount, its)| {
        let is_called = Path::new(&mount.name) == wanted;
        its == socket && (is_called || mount.mountpoint.is_some_and(|it| is_wanted(&it)))
    })
}

/// Where the mount of a socket is, by the files of named mounts, or by the socket's name.
fn mountpoint_of(socket: &Path) -> Option<PathBuf> {
    let named = place::named().into_iter().find(|(_, its)| its == socket);
    if let Some(mountpoint) = named.and_then(|(mount, _)| mount.mountpoint) {
        return Some(without_symlinks(&mountpoint));
    }
    let stem = socket.file_stem()?;
    let mut ours = mountpoints().into_iter();
    ours.find(|it| stem == place::name_of_mountpoint(it).as_str())
}

/// The same of a path that a file has.
pub fn without_symlinks(mountpoint: &Path) -> PathBuf {
    let spelled = spellings(mountpoint).ok().and_then(|mut all| all.pop());
    spelled.unwrap_or_else(|| mountpoint.to_owned())
}
