//! Where a configuration comes from, so that it can be read again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider, Source};
use serde_json::Value;

use crate::store::ProxyUrl;

use super::authentik::{AuthentikSource, Setting, SettingValue, Usage};
use super::explain::{explain, origin};
use super::places::mount_name;
use super::variables::Variables;
use super::{AUTHENTIK_LAYER, Config, ConfigError, NO_PATH, Options, Target, UsageConfig, resolve};

/// What a configuration is read from: file, environment and command line.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    file: Option<PathBuf>,
    flags: Options,
    reads_environment: bool,
    /// Where the command was given: relative paths of flags and variables count from here.
    folder: PathBuf,
}

/// Every layer, and what comes with authentik's.
pub(super) struct Merged {
    pub figment: Figment,
    pub authentik: Option<AuthentikSource>,
    pub notes: Vec<String>,
}

impl ConfigSource {
    /// `file` is read unless the target names one; `folder` is where the command was given.
    ///
    /// Errors: a target that is none, or has no file.
    pub fn new(
        target: Target,
        file: Option<&Path>,
        flags: Options,
        folder: PathBuf,
    ) -> Result<Self, ConfigError> {
        let on_line = flags.proxy.as_ref();
        let on_line = on_line.and_then(|url| ProxyUrl::parse(&url.0).ok());
        if on_line.is_some_and(|url| url.has_credentials()) {
            return Err(ConfigError(
                "proxy (from --proxy): everybody can read a password on the command line: set HTTPS_PROXY or MEDIAFS_PROXY, or write it into the file of --config"
                    .to_owned(),
            ));
        }
        let file = target.config_file()?.or_else(|| file.map(Path::to_owned));
        Ok(Self {
            file: file.map(|file| whole(folder.join(file))),
            flags: target.apply(flags)?,
            reads_environment: true,
            folder,
        })
    }

    /// What arguments name, where authentik's settings may name the bucket: a single one is
    /// the mountpoint then. `file` is the one that `--config` names.
    pub fn target_of(
        first: Option<String>,
        second: Option<PathBuf>,
        (flags, file): (&Options, Option<&Path>),
    ) -> Target {
        match (first, second) {
            (Some(only), None) if Self::is_mountpoint(&only, flags, file) => {
                Target::Mountpoint(only.into())
            }
            (first, second) => Target::new(first, second),
        }
    }

    /// Whether a single argument is a mountpoint.
    pub fn is_mountpoint(only: &str, flags: &Options, file: Option<&Path>) -> bool {
        // Whoever asks for the settings by a flag names no mount.
        flags.from_authentik.is_some()
            || !only.starts_with("s3:") && !Target::is_configured(only) && asks_authentik(file)
    }

    /// The same source, without the `MEDIAFS_*` variables of this process.
    pub fn without_environment(self) -> Self {
        Self {
            reads_environment: false,
            ..self
        }
    }

    /// The file that is read, if one is.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The layers, one over the other, authentik's settings below them. Errors: a file
    /// that is not there, or cannot be understood.
    pub(super) fn merged(&self) -> Result<Merged, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = &self.file {
            check_readable(file)?;
            figment = figment.merge(Toml::file_exact(file));
        }
        if self.reads_environment {
            figment = figment.merge(Variables::of_process());
        }
        let figment = figment.merge(Serialized::defaults(&self.flags));
        let Some(source) = self.authentik(&extract(&figment)?, &figment) else {
            return Ok(Merged {
                figment,
                authentik: None,
                notes: Vec::new(),
            });
        };
        let read = source.settings();
        let read = read.map_err(|why| ConfigError(format!("from-authentik: {why}")))?;
        let layers = read.settings.into_iter().map(Layer);
        Ok(Merged {
            figment: layers.fold(figment, Figment::join),
            authentik: Some(source),
            notes: read.notes,
        })
    }

    /// Merges the layers and checks the outcome.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let Merged {
            figment: merged,
            authentik,
            notes,
        } = self.merged()?;
        let mut options = extract(&merged)?;
        let wrong = |(key, why): (&'static str, String)| {
            let metadata = merged.find_metadata(key);
            let origin = metadata.map(|it| origin(key, it)).unwrap_or_default();
            ConfigError(format!("{key}{origin}: {why}"))
        };
        for (key, path) in options.paths_mut() {
            if is_none(key, path.as_deref()) {
                continue;
            }
            if let Some(relative) = path.take() {
                let whole = self.folder_of(key, &merged).join(relative);
                let whole = std::path::absolute(whole);
                *path = Some(whole.map_err(|error| wrong((key, error.to_string())))?);
            }
        }
        let mut config = resolve(options).map_err(wrong)?;
        config.notes.extend(notes);
        config.s3.authentik = authentik;
        let of_profile = merged.find_metadata("profile");
        if of_profile.is_some_and(|it| it.name.starts_with(AUTHENTIK_LAYER)) {
            // It is asked for each time that credentials are read: another may be named by then.
            config.s3.profile = None;
        }
        config.name = self.file.as_deref().and_then(mount_name);
        Ok(config)
    }

    /// Where authentik's settings are, if they are asked for.
    fn authentik(&self, options: &Options, merged: &Figment) -> Option<AuthentikSource> {
        let named = options.from_authentik.as_ref()?;
        let folder = self.folder_of("from-authentik", merged);
        // Nothing after `=` names none beside those that authentik has anyhow.
        let named = named.iter().filter(|file| !file.as_os_str().is_empty());
        let usage = match options.usage {
            Some(UsageConfig::Reports) => Usage::Reports,
            Some(UsageConfig::Media) | None => Usage::Media,
        };
        Some(AuthentikSource::new(
            named.map(|file| folder.join(file)).collect(),
            usage,
        ))
    }

    /// Where a relative path counts from: a file may be read from any folder.
    fn folder_of(&self, key: &str, merged: &Figment) -> &Path {
        let source = merged.find_metadata(key).and_then(|it| it.source.as_ref());
        let file = self
            .file
            .as_deref()
            .filter(|_| matches!(source, Some(Source::File(_))));
        file.and_then(Path::parent).unwrap_or(&self.folder)
    }
}

/// Errors: no file is there, or this user may not read it.
fn check_readable(file: &Path) -> Result<(), ConfigError> {
    let shown = file.display();
    let denied = |error: io::Error| {
        ConfigError(format!(
            "configuration file {shown} is not for this user to read: run the command as root or as the file's owner, or name another file with --config: {error}"
        ))
    };
    match File::open(file).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(denied(error)),
        Ok(_) | Err(_) => Err(ConfigError(format!(
            "configuration file {shown} does not exist: create it, or name another with --config"
        ))),
    }
}

/// Without `.` in it.
fn whole(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// Whether a setting says that there is to be no such place.
fn is_none(key: &str, path: Option<&Path>) -> bool {
    let may_be_none = ["cache", "control-socket"].contains(&key);
    may_be_none && path == Some(Path::new(NO_PATH))
}

/// Whether a file, or a variable of this process, asks for authentik's settings.
fn asks_authentik(file: Option<&Path>) -> bool {
    let of_file = file.map_or_else(Figment::new, |file| Figment::from(Toml::file_exact(file)));
    let layers = of_file.merge(Variables::of_process());
    // What cannot be understood is told once it is loaded.
    extract(&layers).is_ok_and(|options| options.from_authentik.is_some())
}

fn extract(merged: &Figment) -> Result<Options, ConfigError> {
    let options = merged.extract();
    options.map_err(|errors| explain(errors.into_iter().next()))
}

/// The settings of a file alone, by their name; its paths count from its folder.
///
/// Errors: a file that cannot be understood.
pub fn settings_of_file(file: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let mut options = extract(&Figment::from(Toml::file_exact(file)))?;
    let folder = file.parent().unwrap_or(Path::new("/"));
    for (key, path) in options.paths_mut() {
        if !is_none(key, path.as_deref()) {
            *path = path.take().map(|path| folder.join(path));
        }
    }
    Ok(options.by_name())
}

/// One of authentik's settings, with its own origin.
struct Layer(Setting);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("{AUTHENTIK_LAYER}{}", self.0.origin))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        match &self.0.value {
            SettingValue::Text(text) => Serialized::default(self.0.name, text).data(),
            SettingValue::Bool(value) => Serialized::default(self.0.name, value).data(),
        }
    }
}
