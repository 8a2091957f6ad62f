//! `mediafs doctor`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::mount::MountArgs;
use super::shown::{self, outln};
use crate::config::{Target, is_name};
use crate::doctor::{self, Examination, Extent, Finding, LeftScratch, Scope, State};

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
       mediafs doctor [OPTIONS] <NAME|MOUNTPOINT>
       mediafs doctor [OPTIONS] --config <FILE>"
)]
pub struct DoctorCommand {
    /// Print a JSON array: 'mediafs help doctor'
    #[arg(long)]
    json: bool,
    /// Look at every object, with one request for each [default: the first 20,000 keys, and
    /// the Content-Type of 20]
    #[arg(long)]
    all: bool,
    /// Delete scratch copies of mounts that are older than a day
    #[arg(long)]
    delete_scratch: bool,
    #[command(flatten)]
    args: MountArgs,
}

impl DoctorCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let bucket = self.args.only_bucket().map(str::to_owned);
        let (source, scope) = match bucket {
            Some(bucket) => {
                let scope = if is_name(&bucket) {
                    Scope::Word
                } else {
                    Scope::Bucket
                };
                let target = Target::new(Some(bucket), Some(NOWHERE.into()));
                (self.args.source_of(target)?, scope)
            }
            None => (self.args.source()?, Scope::Mount),
        };
        let extent = if self.all {
            Extent::All
        } else {
            Extent::Sample
        };
        let left_scratch = if self.delete_scratch {
            LeftScratch::Delete
        } else {
            LeftScratch::Tell
        };
        let asked = Examination {
            scope,
            extent,
            left_scratch,
        };
        let findings = doctor::examine(&source.load()?, asked)?;
        if self.json {
            outln!("{}", serde_json::to_string_pretty(&findings)?)?;
        } else {
            shown::unless_gone(print(&findings))?;
        }
        let failed = findings.iter().any(|finding| finding.state == State::Fail);
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

fn print(findings: &[Finding]) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    let width = findings.iter().map(|finding| finding.check.len()).max();
    let width = width.unwrap_or_default();
    for finding in findings {
        let word = shown::checked(finding.state);
        // Keys are in it.
        let found = shown::plain(&finding.found);
        writeln!(out, "{word}  {:width$}  {found}", finding.check)?;
        if let Some(advice) = &finding.advice {
            writeln!(out, "      {:width$}  -> {}", "", shown::plain(advice))?;
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
