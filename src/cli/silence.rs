//! Mounts that do not answer: which one a socket is of, and what is told of it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::shown::outln;
use super::spelling::{mountpoints, spellings};
use crate::session::control::answers::HealthState;
use crate::session::control::client::{AskError, SilentMount};
use crate::session::control::place;
use crate::session::dead_at;

/// Why there is no answer, and what to do.
pub fn why(socket: &Path, error: &AskError) -> String {
    let dead = || mountpoint_of(socket).and_then(|it| dead_at(&it));
    match error {
        AskError::Dead => dead().map_or_else(|| error.to_string(), |dead| dead.to_string()),
        error => error.to_string(),
    }
}

/// The same, with the socket.
pub fn told(socket: &Path, error: &AskError) -> String {
    format!("{}: {}", socket.display(), why(socket, error))
}

/// What a program is told of a mount that does not answer.
pub fn as_json(why: &str) -> Value {
    json!({"state": HealthState::Stuck, "reasons": [why]})
}

/// The same of one that was asked for, printed where the command prints an object as JSON.
/// Errors: the outcome's.
pub fn told_to_programs<T>(json: bool, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if let Some(told) = of_silent(json, &outcome) {
        outln!("{told:#}")?;
    }
    outcome
}

/// The same where the command prints an array.
pub fn listed_to_programs<T>(json: bool, outcome: anyhow::Result<T>) -> anyhow::Result<T> {
    if let Some(told) = of_silent(json, &outcome) {
        outln!("{:#}", Value::Array(vec![told]))?;
    }
    outcome
}

fn of_silent<T>(json: bool, outcome: &anyhow::Result<T>) -> Option<Value> {
    let error = outcome.as_ref().err()?;
    let is_told = json && error.is::<SilentMount>();
    is_told.then(|| as_json(&error.to_string()))
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

fn without_symlinks(mountpoint: &Path) -> PathBuf {
    let spelled = spellings(mountpoint).ok().and_then(|mut all| all.pop());
    spelled.unwrap_or_else(|| mountpoint.to_owned())
}
