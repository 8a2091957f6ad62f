//! `mediafs probe`, which `mediafs mount` starts before it looks into a mount.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::session;

/// Ask a mount for a statfs, and end with the errno; 'mediafs mount' starts it
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct ProbeCommand {
    mountpoint: PathBuf,
}

impl ProbeCommand {
    pub fn run(self) -> ExitCode {
        ExitCode::from(session::probe(&self.mountpoint))
    }
}
