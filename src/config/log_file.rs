//! Where a log file is, and how large it may become.

use std::path::{Path, PathBuf};

use super::{Config, Options, Wrong, positive};
use crate::telemetry::{LogFileSettings, LogFormat, LogOutput};

const NAME: &str = "mediafs.log";
const SIZE_DEFAULT_BYTES: u64 = 10 << 20;
/// Some lines fit into it.
const SIZE_LEAST_BYTES: u64 = 4 << 10;
const COUNT_DEFAULT: usize = 5;

/// Which `LogFileSettings` come of it depends on where the daemon runs.
#[derive(Debug, Clone)]
pub struct LogFileConfig {
    /// Absolute.
    path: Option<PathBuf>,
    /// 0: never moved aside.
    limit_bytes: u64,
    count: usize,
    format: LogFormat,
}

impl LogFileConfig {
    pub(super) fn resolve(options: &Options) -> Result<Self, Wrong> {
        let limit_bytes = options.log_file_size.as_ref();
        let limit_bytes = limit_bytes.map_or(SIZE_DEFAULT_BYTES, |size| size.0);
        if (1..SIZE_LEAST_BYTES).contains(&limit_bytes) {
            return Err(("log-file-size", "must be 0 or at least 4KiB".to_owned()));
        }
        let format = options.log_format.unwrap_or_default();
        if format == LogFormat::Journald && options.log_file.is_some() {
            let why = "journald is no log-file: leave one of the two out";
            return Err(("log-format", why.to_owned()));
        }
        Ok(Self {
            format,
            path: options.log_file.clone(),
            limit_bytes,
            count: positive("log-file-count", options.log_file_count, COUNT_DEFAULT)?,
        })
    }

    fn args(&self, path: PathBuf, is_private: bool) -> LogFileSettings {
        LogFileSettings {
            path,
            limit_bytes: self.limit_bytes,
            count: self.count,
            is_private,
        }
    }
}

impl Config {
    /// The log of a daemon in the foreground.
    pub fn log_in_foreground(&self) -> LogOutput {
        LogOutput {
            file: self.log_file_given(),
            format: self.log_file.format,
        }
    }

    /// The log file that is asked for.
    pub fn log_file_path(&self) -> Option<&Path> {
        self.log_file.path.as_deref()
    }

    /// The log of a daemon in the background.
    pub fn log_in_background(&self) -> LogOutput {
        let format = self.log_file.format;
        let file = (format != LogFormat::Journald).then(|| self.log_file_in_background());
        LogOutput { file, format }
    }

    /// The log file of a daemon in the background, and what else it says.
    pub fn log_file_in_background(&self) -> LogFileSettings {
        let own = || self.log_file.args(self.state_dir().join(NAME), true);
        self.log_file_given().unwrap_or_else(own)
    }

    fn log_file_given(&self) -> Option<LogFileSettings> {
        let path = self.log_file.path.clone()?;
        Some(self.log_file.args(path, false))
    }
}
