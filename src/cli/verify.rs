//! `mediafs verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::migrate_args::{MigrateArgs, Usage};
use super::migrate_shown::Console;
use crate::migrate::{Operator, Sides, VerifySettings, Wrong, verify, verify_manifest};

/// Compare a directory with a bucket, by checksums
///
/// Each name that is not the same on both sides is printed, after a symbol:
/// '+' only in DIR, '-' only in the bucket, '*' different, '!' an error.
/// Nothing is changed, but for Content-Types where that is asked. The exit
/// code is 0 where all is equal, 3 where it is not: 'mediafs help migrate'.
#[derive(Debug, Args)]
#[command(
    override_usage = "mediafs verify [OPTIONS] <DIR> <BUCKET[/PREFIX] | NAME>
       mediafs verify [OPTIONS] --manifest <FILE> <BUCKET[/PREFIX] | NAME>"
)]
pub struct VerifyCommand {
    /// Directory to compare
    directory: PathBuf,
    /// Bucket and key prefix; or the NAME of a mount, as 'mediafs mount' takes it
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Compare with what 'mediafs import --manifest' has written, in place of DIR
    #[arg(long, value_name = "FILE", conflicts_with_all = ["content_types", "fix_content_type"])]
    manifest: Option<PathBuf>,
    /// Accept objects that only the bucket has
    #[arg(long)]
    one_way: bool,
    /// Look at Content-Types too, with one request for each object
    #[arg(long)]
    content_types: bool,
    /// Set wrong Content-Types by the name's extension, each by one copy
    #[arg(long)]
    fix_content_type: bool,
    #[command(flatten)]
    args: MigrateArgs,
}

impl VerifyCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (place, directory) = match (&self.manifest, self.place) {
            (Some(manifest), None) => {
                let place = self.directory.to_str().map(str::to_owned);
                (place, manifest.clone())
            }
            (Some(_), Some(_)) => {
                let directory = self.directory.display();
                let why = format!("--manifest stands in place of DIR: leave out {directory}");
                return Err(Usage(why).into());
            }
            (None, place) => (place, self.directory),
        };
        let checked = self.args.check(place, &directory)?;
        let settings = VerifySettings {
            sides: match self.one_way {
                true => Sides::Directory,
                false => Sides::Both,
            },
            types: match (self.fix_content_type, self.content_types) {
                (true, _) => Some(Wrong::Mend),
                (false, true) => Some(Wrong::Name),
                (false, false) => None,
            },
        };
        let console: Arc<dyn Operator> = Arc::new(Console::new(false));
        let report = checked.report()?;
        let job = checked.job(&console);
        let summary = match &self.manifest {
            Some(manifest) => verify_manifest(job, manifest, settings.sides, report)?,
            None => verify(job, &settings, report)?,
        };
        checked.end(summary.as_ref())
    }
}
