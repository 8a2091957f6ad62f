//! Where the files of named mounts are.

use std::path::{Path, PathBuf};

/// Of root's mounts.
pub const CONFIG_DIR: &str = "/etc/mediafs";

/// Where this user's configurations are; for root `CONFIG_DIR`.
///
/// Errors: there is no such place, in words. Source: XDG Base Directory Specification.
pub fn own_config_dir() -> Result<PathBuf, String> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(CONFIG_DIR));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let found = config.filter(|dir| dir.is_absolute()).or_else(home);
    let found = found.ok_or("neither XDG_CONFIG_HOME nor HOME is set: pass --config FILE")?;
    Ok(found.join("mediafs"))
}

/// The user's own folder comes first.
pub(super) fn config_dirs() -> Vec<PathBuf> {
    let own = own_config_dir().ok();
    let mut dirs: Vec<PathBuf> = own.into_iter().collect();
    if dirs.iter().all(|dir| dir != Path::new(CONFIG_DIR)) {
        dirs.push(PathBuf::from(CONFIG_DIR));
    }
    dirs
}

/// Whether a word can be the name of a mount.
pub fn is_name(word: &str) -> bool {
    !word.contains('/') && !word.starts_with("s3:")
}

/// The files that may configure the mount of this name, in the order in which they count.
pub fn config_files(name: &str) -> Vec<PathBuf> {
    let dirs = config_dirs().into_iter();
    dirs.map(|dir| dir.join(format!("{name}.toml"))).collect()
}

/// The file that configures the mount of this name. Errors: every place where it may be.
pub fn config_file(name: &str) -> Result<PathBuf, String> {
    let files = config_files(name);
    let found = files.iter().find(|file| file.is_file());
    found.cloned().ok_or_else(|| in_words(&files))
}

/// What a file in a directory of named mounts is called after.
pub fn mount_name(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let is_there = config_dirs()
        .iter()
        .any(|dir| file.parent() == Some(dir.as_path()));
    is_there.then(|| stem.to_owned())
}

/// Places, as a message has them.
pub fn in_words(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
    files.join(" or ")
}
