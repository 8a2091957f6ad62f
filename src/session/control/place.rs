//! Where the control sockets of a machine are, and what each is called.
//!
//! A mount that a file in a directory of named mounts configures has the file's name, every other
//! that of its mountpoint, as `systemd-escape --path` writes it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, ControlSocketConfig, NamedMount, named_mounts};

/// Of root's mounts. Source: file-hierarchy(7).
const SYSTEM_DIR: &str = "/run/mediafs";
/// Of users' runtime directories. Source: pam_systemd(8).
const USERS_DIR: &str = "/run/user";
const FOLDER: &str = "mediafs";
const ENDING: &str = "sock";
/// A longer name is cut: the path of a socket has 107 bytes. Source: unix(7).
const NAME_LIMIT_BYTES: usize = 64;
/// Sockets that are looked at, of all that a directory has.
const SOCKETS_LIMIT: usize = 1000;

/// What a mount is called where several are listed.
pub fn name_of(config: &Config) -> String {
    match &config.name {
        Some(name) => shortened(name.clone()),
        None => name_of_mountpoint(&config.mountpoint),
    }
}

/// What a mount is called that has no file of its name.
pub fn name_of_mountpoint(mountpoint: &Path) -> String {
    shortened(escaped(mountpoint))
}

/// The socket of a mount; none where it is to have none.
///
/// Errors: this user has no directory for it.
pub fn socket_of(config: &Config) -> io::Result<Option<PathBuf>> {
    match &config.control_socket {
        ControlSocketConfig::None => Ok(None),
        ControlSocketConfig::At(path) => Ok(Some(path.clone())),
        ControlSocketConfig::Default => {
            let none = || {
                let why = "XDG_RUNTIME_DIR is not set: name a place with --control-socket";
                io::Error::new(io::ErrorKind::NotFound, why)
            };
            let dir = own_dir().ok_or_else(none)?;
            Ok(Some(socket_in(&dir, &name_of(config))))
        }
    }
}

fn socket_in(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{ENDING}"))
}

/// The socket of a mount that a file configures, unless it has none, or flags and
/// variables put it elsewhere.
fn socket_of_named(mount: &NamedMount) -> Option<PathBuf> {
    match &mount.control_socket {
        ControlSocketConfig::None => None,
        ControlSocketConfig::At(path) => Some(path.clone()),
        ControlSocketConfig::Default => {
            Some(socket_in(&own_dir()?, &shortened(mount.name.clone())))
        }
    }
}

/// The mounts that files configure, each with its socket.
pub fn named() -> Vec<(NamedMount, PathBuf)> {
    let mounts = named_mounts().into_iter();
    mounts
        .filter_map(|mount| {
            let socket = socket_of_named(&mount)?;
            Some((mount, socket))
        })
        .collect()
}

/// The directory of this user's sockets.
pub fn own_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(SYSTEM_DIR.into());
    }
    let runtime = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    runtime.is_absolute().then(|| runtime.join(FOLDER))
}

/// The sockets of this user's mounts.
pub fn own_sockets() -> Vec<PathBuf> {
    with_placed(sockets_in(own_dir().into_iter().collect()))
}

/// Every socket that this user may ask: its own; for root those of all users.
pub fn sockets() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = own_dir().into_iter().collect();
    if rustix::process::geteuid().is_root() {
        let users = fs::read_dir(USERS_DIR).into_iter().flatten().flatten();
        dirs.extend(users.map(|user| user.path().join(FOLDER)));
    }
    with_placed(sockets_in(dirs))
}

/// With those that are there of mounts whose file puts them elsewhere. One of another
/// user's is root's alone to ask.
fn with_placed(mut sockets: Vec<PathBuf>) -> Vec<PathBuf> {
    let own = rustix::process::geteuid().as_raw();
    let may_ask = |socket: &PathBuf| {
        let found = fs::symlink_metadata(socket);
        found.is_ok_and(|found| own == 0 || found.uid() == own)
    };
    let placed = named_mounts().into_iter().filter_map(|mount| match mount {
        NamedMount {
            control_socket: ControlSocketConfig::At(path),
            ..
        } => Some(path),
        _ => None,
    });
    for socket in placed.filter(may_ask) {
        if !sockets.contains(&socket) {
            sockets.push(socket);
        }
    }
    sockets
}

fn sockets_in(dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in dirs {
        let names = fs::read_dir(dir).into_iter().flatten().flatten();
        let paths = names.map(|name| name.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|it| it == ENDING)));
    }
    found.sort_unstable();
    found.truncate(SOCKETS_LIMIT);
    found
}

/// Source: systemd.unit(5), "String escaping for inclusion in unit names".
fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    let mut parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'/').collect();
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut text = String::new();
    for (at, byte) in parts.join(&b'/').into_iter().enumerate() {
        match byte {
            b'/' => text.push('-'),
            b'.' if at == 0 => text.push_str("\\x2e"),
            b':' | b'_' | b'.' => text.push(char::from(byte)),
            plain if plain.is_ascii_alphanumeric() => text.push(char::from(plain)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text
}

/// Cut where it is too long, and told from others that begin alike.
fn shortened(name: String) -> String {
    if name.len() <= NAME_LIMIT_BYTES {
        return name;
    }
    let sum = format!("-{:08x}", crc32fast::hash(name.as_bytes()));
    let end = name.floor_char_boundary(NAME_LIMIT_BYTES - sum.len());
    let start = name.get(..end).unwrap_or_default();
    format!("{start}{sum}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountpoint_is_written_as_systemd_escape_does() {
        let text = |path: &str| escaped(Path::new(path));
        assert_eq!(text("/"), "-");
        assert_eq!(text("/srv/media"), "srv-media");
        assert_eq!(text("/srv//media/"), "srv-media");
        assert_eq!(text("/a-b/.c d"), "a\\x2db-.c\\x20d");
        assert_eq!(text("/.hidden/ü"), "\\x2ehidden-\\xc3\\xbc");
    }

    #[test]
    fn a_long_name_is_cut_and_stays_one_of_its_own() {
        let first = shortened(format!("{}a", "x".repeat(300)));
        let second = shortened(format!("{}b", "x".repeat(300)));
        assert_eq!(first.len(), NAME_LIMIT_BYTES);
        assert_ne!(first, second);
        assert_eq!(shortened("media".to_owned()), "media");
    }
}
