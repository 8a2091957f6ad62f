//! `mediafs holder`, which `mediafs mount` starts.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::background;
use crate::telemetry;

/// Keep a mount's descriptor and its daemon running; 'mediafs mount' starts it
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct HolderCommand {
    /// Socket for what the daemon has to say
    socket: PathBuf,
    /// The daemon's arguments
    #[arg(last = true, required = true)]
    args: Vec<OsString>,
}

impl HolderCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        telemetry::start_logs("info", None)?;
        background::hold(&self.socket, &self.args)
    }
}
