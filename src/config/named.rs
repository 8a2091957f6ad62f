//! The mounts that files configure, in the directories of named mounts.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::control_socket::ControlSocketConfig;
use super::places::{config_dirs, mount_name};
use super::source::settings_of_file;

/// Files that are looked at in a directory.
const FILES_LIMIT: usize = 1000;

/// What the file of a mount says of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMount {
    pub name: String,
    /// Absolute. None where another layer has to name it.
    pub mountpoint: Option<PathBuf>,
    pub control_socket: ControlSocketConfig,
}

/// Those whose files this user can read and mediafs understands; of several with a name
/// the one that counts.
pub fn named_mounts() -> Vec<NamedMount> {
    let mut found: Vec<NamedMount> = Vec::new();
    for dir in config_dirs() {
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        let files = files.map(|file| file.path());
        let mut files: Vec<PathBuf> = files
            .filter(|file| file.extension().is_some_and(|it| it == "toml"))
            .collect();
        files.sort_unstable();
        files.truncate(FILES_LIMIT);
        for file in files {
            let Some(name) = mount_name(&file) else {
                continue;
            };
            if found.iter().any(|mount| mount.name == name) {
                continue;
            }
            let Ok(settings) = settings_of_file(&file) else {
                continue;
            };
            let path = |key: &str| settings.get(key).and_then(Value::as_str).map(PathBuf::from);
            found.push(NamedMount {
                mountpoint: path("mountpoint"),
                control_socket: ControlSocketConfig::resolve(path("control-socket")),
                name,
            });
        }
    }
    found
}
