//! `mediafs notifier`, which the daemon starts.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::session;
use crate::telemetry::{self, LogArgs, LogIs};

/// Tell the kernel what a mount's daemon knows; the daemon starts it
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct NotifierCommand {
    mountpoint: PathBuf,
    /// How long applications may wait for a daemon when there is none, in milliseconds
    abort_after: u64,
    #[command(flatten)]
    log: LogArgs,
}

impl NotifierCommand {
    pub fn run(self) -> anyhow::Result<()> {
        session::close_others()?;
        telemetry::start_logs("info", self.log.output(), LogIs::Optional)?;
        session::notify(&self.mountpoint, Duration::from_millis(self.abort_after))
    }
}
