//! `mediafs mount`.

use std::path::PathBuf;

use clap::Args;
use rustix::process::Signal;

use super::background;
use crate::config::{Config, Options, Target};
use crate::{session, telemetry};

/// Mount a bucket on a directory
///
/// Returns once the mount serves, and leaves the daemon in the background.
/// Credentials come from the AWS chain: AWS_ACCESS_KEY_ID and
/// AWS_SECRET_ACCESS_KEY, a profile, SSO, or the machine's role.
#[derive(Debug, Args)]
pub struct MountCommand {
    /// BUCKET or BUCKET/PREFIX; or, alone, the name of a file /etc/mediafs/NAME.toml
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Directory to mount on
    mountpoint: Option<PathBuf>,
    /// TOML file with any of these settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

impl MountCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let target = Target::new(self.place, self.mountpoint);
        let config = Config::load(target, self.config.as_deref(), self.options)?;
        if config.foreground {
            telemetry::start_logs(&config.log, config.log_file.as_deref())?;
            return session::run(config, Box::new(|| {}));
        }
        match background::parent() {
            None => background::start(&config),
            Some(parent) => {
                // Without a holder nobody would take this daemon's place.
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                // The folder it was started in can be unmounted and removed.
                std::env::set_current_dir("/")?;
                let outcome = telemetry::start_logs(&config.log, None)
                    .and_then(|()| session::run(config, parent.when_ready()));
                outcome.inspect_err(|error| parent.tell_failure(error))
            }
        }
    }
}
