//! `mediafs log-level`.

use clap::Args;
use hyper::Method;

use super::mounts::{SAYS_WITHIN, SocketArg, Wait, as_json};
use super::shown::{outln, plain};
use super::silence;
use crate::session::control::commands::LogFilter;
use crate::telemetry;

const EXAMPLES: &str = "Examples:
  mediafs log-level media                            # what is logged
  mediafs log-level media mediafs::requests=debug    # each S3 request
  mediafs reload media                               # as configured again";

/// Show or change what a mount logs, while it serves
///
/// A daemon that takes over from this one logs the same. The change ends with the mount, or
/// with 'mediafs reload', which takes what the configuration says.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct LogLevelCommand {
    /// Name or mountpoint
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: String,
    /// error, warn, info, debug, trace, or a filter such as
    /// mediafs::requests=debug [default: show the present one]
    filter: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl LogLevelCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let found = self.at.named(&self.mount, Wait::ForASuccessor);
        let mount = silence::print_error_object(self.json, found)?;
        let answer = match self.filter {
            None => mount.ask(Method::GET, "/log", &(), SAYS_WITHIN),
            Some(filter) => {
                let unkept = None;
                let wanted = LogFilter { filter, unkept };
                mount.ask(Method::POST, "/log", &wanted, SAYS_WITHIN)
            }
        };
        let answer: LogFilter = silence::print_error_object(self.json, answer)?;
        if self.json {
            outln!("{:#}", as_json(&mount, &answer)?)?;
            return Ok(());
        }
        outln!("{}", plain(&answer.filter))?;
        if let Some(why) = &answer.unkept {
            let told = format!(
                "mediafs: a daemon that starts later will not use this filter: {}",
                plain(why)
            );
            telemetry::tell_user(&told);
        }
        Ok(())
    }
}
