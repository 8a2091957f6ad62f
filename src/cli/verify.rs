//! `mediafs verify`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::migrate_args::MigrateArgs;
use super::migrate_shown::{self, Console};
use crate::migrate::{Operator, Sides, VerifySettings, Wrong, verify};

/// Compare a directory with a bucket, by checksums
///
/// Each name that is not the same on both sides is printed, after a symbol:
/// '+' only in DIR, '-' only in the bucket, '*' different, '!' an error.
/// Nothing is changed, but for Content-Types where that is asked. The exit
/// code is 0 where all is equal, 3 where it is not: 'mediafs help migrate'.
#[derive(Debug, Args)]
#[command(override_usage = "mediafs verify [OPTIONS] <DIR> <BUCKET[/PREFIX] | NAME>")]
pub struct VerifyCommand {
    /// Directory to compare
    directory: PathBuf,
    /// Bucket and key prefix; or the NAME of a file /etc/mediafs/NAME.toml
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Take what only the bucket has for no difference
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
        let checked = self.args.check(self.place, &self.directory)?;
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
        let summary = verify(checked.job(&console), &settings, report)?;
        migrate_shown::end(&checked, summary.as_ref())
    }
}
