//! `mediafs reload`.

use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::mounts::{SocketArg, Wait, as_json};
use super::shown::outln;
use super::silence;
use crate::session::control::commands::Reloaded;

/// Credentials may come from a program.
const WITHIN: Duration = Duration::from_secs(60);

/// Have a mount read its configuration and credentials again
///
/// As SIGHUP does, with an answer: which settings hold from now on, and which need a
/// new mount.
#[derive(Debug, Args)]
pub struct ReloadCommand {
    /// Name or mountpoint
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl ReloadCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let found = self.at.named(&self.mount, Wait::ForASuccessor);
        let mount = silence::print_error_object(self.json, found)?;
        let reloaded = mount.ask(Method::POST, "/reload", &(), WITHIN);
        let reloaded: Reloaded = silence::print_error_object(self.json, reloaded)?;
        if self.json {
            outln!("{:#}", as_json(&mount, &reloaded)?)?;
            return Ok(());
        }
        let Reloaded { changed, waiting } = reloaded;
        match changed.is_empty() {
            true => outln!("credentials read again; no live setting differs from the mount's")?,
            false => outln!("credentials read again; live: {}", changed.join(" "))?,
        }
        if !waiting.is_empty() {
            outln!("these need a new mount: {}", waiting.join(" "))?;
        }
        Ok(())
    }
}
