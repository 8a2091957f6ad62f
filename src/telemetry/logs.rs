//! Logs: to standard error or a file.

use std::fmt;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::reload;

type Replace = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;

/// Decides what is logged.
pub struct LogFilter(Box<Replace>);

impl LogFilter {
    /// Logs by another filter from now on. Errors: a filter that is none.
    pub fn set(&self, filter: &str) -> anyhow::Result<()> {
        (self.0)(parse(filter)?).context("the logs have ended")
    }
}

impl fmt::Debug for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogFilter")
    }
}

/// Starts logging. Errors: a filter that is none, a file that cannot be opened.
pub fn start_logs(filter: &str, file: Option<&Path>) -> anyhow::Result<LogFilter> {
    let writer = match file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path);
            let file = file.with_context(|| format!("log file {}", path.display()))?;
            BoxMakeWriter::new(Mutex::new(file))
        }
    };
    let logs = tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(file.is_none() && std::io::stderr().is_terminal())
        .with_writer(writer)
        .with_env_filter(parse(filter)?)
        .with_filter_reloading();
    let handle = logs.reload_handle();
    logs.init();
    Ok(LogFilter(Box::new(move |filter| handle.reload(filter))))
}

fn parse(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?} is no filter"))
}
