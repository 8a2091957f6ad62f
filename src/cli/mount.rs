//! `mediafs mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use rustix::process::Signal;

use super::background;
use crate::config::{ConfigSource, Options, Target};
use crate::session::{self, Reload, Waiter};
use crate::telemetry;

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
    /// `args` are those that say the same to a process of its own.
    pub fn run(self, args: &[OsString]) -> anyhow::Result<()> {
        let target = Target::new(self.place, self.mountpoint);
        let source = ConfigSource::new(target, self.config.as_deref(), self.options)?;
        let config = source.load()?;
        if config.foreground {
            let logs = telemetry::start_logs(&config.log, config.log_file_in_foreground())?;
            return session::run(config, Reload { source, logs }, &Nobody);
        }
        match background::parent() {
            None => background::start(&config, args),
            Some(parent) => {
                // Without a holder nobody would take this daemon's place.
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                // The folder it was started in can be unmounted and removed.
                std::env::set_current_dir("/")?;
                let outcome =
                    telemetry::start_logs(&config.log, Some(config.log_file_in_background()))
                        .and_then(|logs| session::run(config, Reload { source, logs }, &parent));
                outcome.inspect_err(|error| parent.tell_failure(error))
            }
        }
    }
}

/// In the foreground the log tells it.
#[derive(Debug)]
struct Nobody;

impl Waiter for Nobody {
    fn note(&self, _text: &str) {}

    fn ready(&self) {}
}
