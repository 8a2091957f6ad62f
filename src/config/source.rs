//! Where a configuration comes from, so that it can be read again.

use std::path::{Path, PathBuf};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::{Figment, Source};

use crate::store::ProxyUrl;

use super::control_socket::NO_SOCKET;
use super::{
    CONFIG_DIR, Config, ConfigError, ENV_PREFIX, Options, Target, explain, origin, resolve,
};

/// What a configuration is read from: file, environment and command line.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    file: Option<PathBuf>,
    flags: Options,
    /// Where the command was given: relative paths of flags and variables count from here.
    folder: PathBuf,
}

impl ConfigSource {
    /// `file` is read unless the target names one; `folder` is where the command was given.
    ///
    /// Errors: a target that is none.
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
        let file = target.config_file().or_else(|| file.map(Path::to_owned));
        Ok(Self {
            file: file.map(|file| folder.join(file)),
            flags: target.apply(flags)?,
            folder,
        })
    }

    /// The file that is read, if one is.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The layers, one over the other. Errors: there is no such file.
    pub(super) fn merged(&self) -> Result<Figment, ConfigError> {
        let mut figment = Figment::new();
        if let Some(file) = &self.file {
            if !file.is_file() {
                let file = file.display();
                return Err(ConfigError(format!(
                    "configuration file {file} does not exist: create it, or name another with --config"
                )));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        let env = Env::prefixed(ENV_PREFIX)
            .map(|name| name.as_str().replace('_', "-").to_lowercase().into());
        let flags = Serialized::defaults(&self.flags);
        Ok(figment.merge(env).merge(flags))
    }

    /// Merges the layers and checks the outcome.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let merged = self.merged()?;
        let mut options: Options = merged
            .extract()
            .map_err(|errors| explain(errors.into_iter().next()))?;
        let wrong = |(key, why): (&'static str, String)| {
            let metadata = merged.find_metadata(key);
            let origin = metadata.map(|it| origin(key, it)).unwrap_or_default();
            ConfigError(format!("{key}{origin}: {why}"))
        };
        for (key, path) in options.paths_mut() {
            if path.as_deref() == Some(Path::new(NO_SOCKET)) && key == "control-socket" {
                continue;
            }
            if let Some(relative) = path.take() {
                let whole = self.folder_of(key, &merged).join(relative);
                let whole = std::path::absolute(whole);
                *path = Some(whole.map_err(|error| wrong((key, error.to_string())))?);
            }
        }
        let name = self.file.as_deref().and_then(mount_name);
        let config = resolve(options).map_err(wrong)?;
        Ok(Config { name, ..config })
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

/// What a file in the directory of named mounts is called after.
fn mount_name(file: &Path) -> Option<String> {
    let stem = file.file_stem()?.to_str()?;
    let is_there = file.parent() == Some(Path::new(CONFIG_DIR));
    is_there.then(|| stem.to_owned())
}
