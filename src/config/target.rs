//! What to mount where: arguments, and the checks of their parts.

use std::path::{Component, Path, PathBuf};

pub use super::bucket::{canonical_bucket, check_bucket, split_place};
use super::options::Options;
use super::places;
use super::service;
use super::{ConfigError, Wrong};

/// The arguments of `mediafs mount`.
#[derive(Debug, Clone)]
pub enum Target {
    /// `BUCKET[/PREFIX] MOUNTPOINT`
    Place { bucket: String, mountpoint: PathBuf },
    /// `NAME`: everything stands in `NAME.toml`, in a directory of named mounts.
    Named(String),
    /// `MOUNTPOINT`: authentik's settings name the bucket.
    Mountpoint(PathBuf),
    /// Everything stands in the file of `--config`.
    FromFile,
}

impl Target {
    /// Sorts positional arguments.
    pub fn new(first: Option<String>, second: Option<PathBuf>) -> Self {
        match (first, second) {
            (Some(bucket), Some(mountpoint)) => Self::Place { bucket, mountpoint },
            (Some(name), None) => Self::Named(name),
            (None, _) => Self::FromFile,
        }
    }

    /// Whether there is a mount of this name.
    pub fn is_configured(name: &str) -> bool {
        places::is_name(name) && places::config_file(name).is_ok()
    }

    /// The file that a named mount reads. Errors: there is none of this name.
    pub(super) fn config_file(&self) -> Result<Option<PathBuf>, ConfigError> {
        let found = match self {
            Self::Named(name) if places::is_name(name) => places::config_file(name),
            Self::Named(_) | Self::Place { .. } | Self::Mountpoint(_) | Self::FromFile => {
                return Ok(None);
            }
        };
        found.map(Some).map_err(|places| {
            ConfigError(format!(
                "configuration file {places} does not exist: create it, or name another with --config"
            ))
        })
    }

    /// The settings that the arguments stand for, besides the flags.
    pub(super) fn apply(self, mut flags: Options) -> Result<Options, ConfigError> {
        match self {
            Self::Place { bucket, .. } if bucket.starts_with('/') => {
                return Err(ConfigError(format!(
                    "{bucket:?} is a path, and stands where BUCKET[/PREFIX] belongs: are the arguments in their order?"
                )));
            }
            Self::Place { bucket, mountpoint } => {
                let (bucket, prefix) = split_place(&bucket);
                flags.bucket = Some(bucket);
                // authentik's layout has a prefix for each of its folders.
                if !prefix.is_empty() || flags.from_authentik.is_none() {
                    flags.prefix = Some(prefix);
                }
                flags.mountpoint = Some(mountpoint);
            }
            Self::Named(name) if !places::is_name(&name) => {
                return Err(ConfigError(format!(
                    "no mountpoint given: 'mediafs mount {name} MOUNTPOINT'"
                )));
            }
            Self::Mountpoint(mountpoint) => flags.mountpoint = Some(mountpoint),
            Self::Named(_) | Self::FromFile => {}
        }
        Ok(flags)
    }
}

/// Bucket, prefix and mountpoint.
pub(super) fn place(options: &Options) -> Result<(String, String, PathBuf), Wrong> {
    let missing = |key: &'static str| {
        (
            key,
            "not given: name it on the command line, or in the file of --config".to_owned(),
        )
    };
    let bucket = options.bucket.clone().ok_or_else(|| missing("bucket"))?;
    check_bucket(&bucket).map_err(|why| ("bucket", why))?;
    let prefix = clean_prefix(options.prefix.as_deref().unwrap_or_default());
    let prefix = prefix.map_err(|why| ("prefix", why))?;
    let mountpoint = options.mountpoint.clone();
    let mountpoint = mountpoint.ok_or_else(|| missing("mountpoint"))?;
    if !options.data_root.unwrap_or(false) {
        let of_authentik = options.from_authentik.is_some();
        let place = (bucket.as_str(), prefix.as_str());
        check_data_root(place, &mountpoint, of_authentik).map_err(|why| ("mountpoint", why))?;
    }
    Ok((bucket, prefix, mountpoint))
}

/// Refuses a bucket, and any prefix of one, where authentik looks for a program of its
/// operator: whoever may write there puts it into the root of the mount.
///
/// Source: authentik's settings, which import `/data/user_settings.py`.
pub fn check_data_root(
    (bucket, prefix): (&str, &str),
    mountpoint: &Path,
    of_authentik: bool,
) -> Result<(), String> {
    let whole = without_detours(mountpoint);
    let is_data = whole == Path::new("/data")
        || of_authentik && whole.file_name().is_some_and(|name| name == "data");
    if !is_data {
        return Ok(());
    }
    let folder = mountpoint.display();
    let folders = ["media/", "reports/"].into_iter();
    // One of the two is not below itself.
    let above = folders.filter_map(|it| prefix.strip_suffix(it)).next();
    let place = format!("{bucket}/{}", above.unwrap_or(prefix));
    Err(format!(
        "authentik executes {folder}/user_settings.py as Python when it starts: whoever may write to the bucket could run programs in the identity provider. Mount {place}media on {folder}/media and {place}reports on {folder}/reports: authentik sees the same files. --data-root mounts {bucket}/{prefix} there all the same"
    ))
}

/// Where a path leads: without symlinks where it is there, without `..` in any case.
fn without_detours(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    whole
}

/// A prefix that ends in `/` and that no path can escape from.
pub fn clean_prefix(prefix: &str) -> Result<String, String> {
    let trimmed = prefix.trim_matches('/');
    if trimmed.is_empty() {
        return Ok(String::new());
    }
    if trimmed
        .split('/')
        .any(|segment| matches!(segment, "" | "." | "..") || segment.contains('\0'))
    {
        return Err(format!(
            "{prefix:?} has an empty, '.' or '..' segment: no file could have such a key"
        ));
    }
    Ok(format!("{trimmed}/"))
}

/// Holds a directory for each mount: `/var/lib/mediafs` for root, else below the
/// user's state directory.
pub fn state_base() -> Result<PathBuf, String> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/mediafs"));
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let found = state.filter(|dir| dir.is_absolute()).or_else(home);
    let found = found.ok_or("neither XDG_STATE_HOME nor HOME is set: pass --spool DIR")?;
    Ok(found.join("mediafs"))
}

/// One for each mount, below `state_base`.
pub fn default_spool(bucket: &str, prefix: &str, mountpoint: &Path) -> Result<PathBuf, String> {
    if let Some(dir) = service::state_dir() {
        return Ok(dir.join("spool"));
    }
    let mut hash = crc32fast::Hasher::new();
    for part in [
        bucket.as_bytes(),
        prefix.as_bytes(),
        mountpoint.as_os_str().as_encoded_bytes(),
    ] {
        hash.update(part);
        hash.update(b"\0");
    }
    Ok(state_base()?
        .join(format!("{bucket}-{:08x}", hash.finalize()))
        .join("spool"))
}
