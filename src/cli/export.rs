//! `mediafs export`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::migrate_args::{MigrateArgs, MoveArgs};
use super::migrate_shown::Console;
use crate::migrate::{Operator, export};

/// Fetch the objects of a bucket that a directory does not have
///
/// First everything is compared and counted, then asked, then fetched. Each file
/// appears whole, after its checksum was compared; nothing is written outside
/// of DIR. --uid, --gid, --file-mode and --dir-mode say whose files they are:
/// 'mediafs help migrate'.
#[derive(Debug, Args)]
#[command(override_usage = "mediafs export [OPTIONS] <BUCKET[/PREFIX] | NAME> <DIR>")]
pub struct ExportCommand {
    /// Bucket and key prefix; or the NAME of a mount, as 'mediafs mount' takes it
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: String,
    /// Directory to write to
    directory: PathBuf,
    #[command(flatten)]
    moves: MoveArgs,
    #[command(flatten)]
    args: MigrateArgs,
}

impl ExportCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let checked = self.args.check(Some(self.place), &self.directory)?;
        let settings = self.moves.settings(None);
        let console: Arc<dyn Operator> = Arc::new(Console::new(self.moves.yes));
        let report = checked.report()?;
        let summary = export(checked.job(&console), &settings, report)?;
        checked.end(summary.as_ref())
    }
}
