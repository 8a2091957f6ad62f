//! Where a configuration comes from, so that it can be read again.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use super::{Config, ConfigError, ENV_PREFIX, Options, Target, explain, origin, resolve};

/// What a configuration is read from: file, environment and command line.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    file: Option<PathBuf>,
    flags: Options,
    /// Relative paths count from here, also after the process has left it.
    folder: PathBuf,
}

impl ConfigSource {
    /// `file` is read unless the target names one.
    ///
    /// Errors: a target that is none.
    pub fn new(target: Target, file: Option<&Path>, flags: Options) -> Result<Self, ConfigError> {
        // A folder that is gone matters to nobody but relative paths, which then are absent too.
        let folder = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let file = target.config_file().or_else(|| file.map(Path::to_owned));
        Ok(Self {
            file: file.map(|file| folder.join(file)),
            flags: target.apply(flags)?,
            folder,
        })
    }

    /// Merges the layers and checks the outcome.
    pub fn load(&self) -> Result<Config, ConfigError> {
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
        let merged = figment.merge(env).merge(flags);
        let options: Options = merged
            .extract()
            .map_err(|errors| explain(errors.into_iter().next()))?;
        resolve(options, &self.folder).map_err(|(key, why)| {
            let origin = merged.find_metadata(key).map(origin).unwrap_or_default();
            ConfigError(format!("{key}{origin}: {why}"))
        })
    }
}
