//! `mediafs import`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::migrate_args::{MigrateArgs, MoveArgs};
use super::migrate_shown::Console;
use crate::migrate::{Job, Operator, Source, import};

/// Send the files of a directory that a bucket does not have
///
/// First everything is compared and counted, then asked, then sent. An object
/// that another client writes meanwhile is kept, and named. A run that was
/// killed goes on with the same command: 'mediafs help migrate'.
#[derive(Debug, Args)]
#[command(override_usage = "mediafs import [OPTIONS] <DIR> <BUCKET[/PREFIX] | NAME>")]
pub struct ImportCommand {
    /// Directory to send
    directory: PathBuf,
    /// Bucket and key prefix; or the NAME of a mount, as 'mediafs mount' takes it
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Write each file's path, size and checksums, for 'mediafs verify --manifest'
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Send what lies under the mount on DIR, and replace nothing that is stored
    #[arg(long, conflicts_with_all = ["delete", "manifest"])]
    hidden: bool,
    #[command(flatten)]
    moves: MoveArgs,
    #[command(flatten)]
    args: MigrateArgs,
}

impl ImportCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let checked = self.args.check(self.place, &self.directory)?;
        let manifest = checked.manifest(self.manifest.as_deref())?;
        let settings = self.moves.settings(manifest);
        let console: Arc<dyn Operator> = Arc::new(Console::new(self.moves.yes));
        let report = checked.report()?;
        let job = Job {
            source: match self.hidden {
                true => Source::Hidden,
                false => Source::Directory,
            },
            ..checked.job(&console)
        };
        let summary = import(job, &settings, report)?;
        checked.end(summary.as_ref())
    }
}
