//! `mediafs supervise`, which `mediafs mount` starts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::daemonize;
use crate::telemetry::{self, LogArgs, LogIs};

/// Keep a mount's descriptor and its daemon running; 'mediafs mount' starts it
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct SuperviseCommand {
    /// Socket for what the daemon has to say
    socket: PathBuf,
    /// How long the daemon may be silent, in milliseconds; 0: no limit
    watchdog_ms: u64,
    #[command(flatten)]
    log: LogArgs,
    /// The daemon's arguments
    #[arg(last = true, required = true)]
    args: Vec<OsString>,
}

impl SuperviseCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start_logs("info", self.log.output(), LogIs::Required)?;
        telemetry::write_logs();
        let watchdog = Duration::from_millis(self.watchdog_ms);
        let watchdog = (!watchdog.is_zero()).then_some(watchdog);
        daemonize::hold(&self.socket, watchdog, &self.args)
    }
}
