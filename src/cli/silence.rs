//! Mounts that do not answer: which one a socket is of, and what is told of it.

use std::path::{Path, PathBuf};

use super::spelling::{mountpoints, spellings};
use crate::session::control::client::AskError;
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
