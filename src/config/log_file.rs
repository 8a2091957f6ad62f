//! Where a log file is, and how large it may become.

use std::path::PathBuf;

use super::{Config, Options, Wrong, positive};
use crate::telemetry::LogFileSettings;

const NAME: &str = "mediafs.log";
const SIZE_DEFAULT_BYTES: u64 = 10 << 20;
/// Some lines fit into it.
const SIZE_LEAST_BYTES: u64 = 4 << 10;
const COUNT_DEFAULT: usize = 5;

#[derive(Debug, Clone)]
pub struct LogFileConfig {
    /// Absolute.
    path: Option<PathBuf>,
    /// 0: never moved aside.
    limit_bytes: u64,
    count: usize,
}

impl LogFileConfig {
    pub(super) fn resolve(options: &Options) -> Result<Self, Wrong> {
        let limit_bytes = options.log_file_size.as_ref();
        let limit_bytes = limit_bytes.map_or(SIZE_DEFAULT_BYTES, |size| size.0);
        if (1..SIZE_LEAST_BYTES).contains(&limit_bytes) {
            return Err(("log-file-size", "must be 0 or at least 4KiB".to_owned()));
        }
        Ok(Self {
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
    /// The log file of a daemon in the foreground; none for standard error.
    pub fn log_file_in_foreground(&self) -> Option<LogFileSettings> {
        let path = self.log_file.path.clone()?;
        Some(self.log_file.args(path, false))
    }

    /// The log file of a daemon in the background.
    pub fn log_file_in_background(&self) -> LogFileSettings {
        let own = || self.log_file.args(self.state_dir().join(NAME), true);
        self.log_file_in_foreground().unwrap_or_else(own)
    }
}
