//! `mediafs doctor`.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::daemonize;
use crate::config::{ConfigSource, Options, Target};
use crate::doctor::{self, Finding, Scope, State};

/// Checks without a mountpoint read the settings of a mount all the same.
const NOWHERE: &str = "/";

/// Check what a mount needs: this host, the bucket, the mountpoint
///
/// One line a check: ok, warn or fail, what was found, and what to type. The
/// requests that a mount sends are tried on scratch objects under its prefix
/// (.mediafs-doctor-*), which are deleted again. Settings are those of
/// 'mediafs mount'. The exit code is 1 if a check failed.
#[derive(Debug, Args)]
#[command(
    override_usage = "mediafs doctor [OPTIONS] <BUCKET[/PREFIX]> [MOUNTPOINT]
       mediafs doctor [OPTIONS] <NAME>
       mediafs doctor [OPTIONS] --config <FILE>"
)]
pub struct DoctorCommand {
    /// Bucket and key prefix; or, alone and without a bucket of that name in
    /// mind, the NAME of a file /etc/mediafs/NAME.toml
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Directory that is mounted on, or is to be
    mountpoint: Option<PathBuf>,
    /// TOML file with any of these settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print a JSON array: 'mediafs help doctor'
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: Options,
}

impl DoctorCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (target, scope) = self.target();
        let folder = daemonize::folder();
        let source = ConfigSource::new(target, self.config.as_deref(), self.options, folder)?;
        let findings = doctor::examine(&source.load()?, scope)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&findings)?);
        } else {
            print(&findings)?;
        }
        let failed = findings.iter().any(|finding| finding.state == State::Fail);
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn target(&self) -> (Target, Scope) {
        let place = self.place.clone();
        match (place, self.mountpoint.clone()) {
            (None, _) => (Target::FromFile, Scope::Mount),
            (Some(bucket), Some(mountpoint)) => {
                (Target::new(Some(bucket), Some(mountpoint)), Scope::Mount)
            }
            (Some(only), None) if self.options.from_authentik.is_some() => {
                (Target::Mountpoint(only.into()), Scope::Mount)
            }
            (Some(only), None) if Target::is_configured(&only) => {
                (Target::Named(only), Scope::Mount)
            }
            (Some(bucket), None) => (
                Target::new(Some(bucket), Some(NOWHERE.into())),
                Scope::Bucket,
            ),
        }
    }
}

fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let colour = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let width = findings.iter().map(|finding| finding.check.len()).max();
    let width = width.unwrap_or_default();
    for finding in findings {
        let (word, code) = match finding.state {
            State::Ok => ("ok  ", "32"),
            State::Warn => ("warn", "33"),
            State::Fail => ("fail", "31"),
        };
        let word = if colour {
            format!("\x1b[{code}m{word}\x1b[0m")
        } else {
            word.to_owned()
        };
        writeln!(out, "{word}  {:width$}  {}", finding.check, finding.found)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "      {:width$}  -> {advice}", "")?;
        }
    }
    let count = |state| findings.iter().filter(|it| it.state == state).count();
    writeln!(
        out,
        "{} ok, {} to look at, {} failed",
        count(State::Ok),
        count(State::Warn),
        count(State::Fail)
    )
}
