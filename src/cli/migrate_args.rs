//! What the commands that move data have in common: places, names, reports.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::{daemonize, migrate_shown};
use crate::config::{ByteSize, Config, ConfigSource, Options, Target};
use crate::migrate::{
    Comparison, Extra, Force, HardLinks, Job, Line, MoveSettings, OddPolicies, OddPolicy, Operator,
    Outcome, Report, Selection, Source, Specials, Summary, Symlinks, outside, resolved,
};
use crate::telemetry;

/// Heading of what follows in a help text.
const NAMES: &str = "Names";
const REPORTS: &str = "Reports";

/// A bucket without a mountpoint reads the settings of a mount all the same.
const NOWHERE: &str = "/";

// No documentation comment: it would take the place of the command's. Of every command.
#[derive(Debug, Args)]
pub struct CommonArgs {
    /// Take only names that match, such as 'public/**' or '*.png'; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = NAMES)]
    include: Vec<String>,
    /// Leave out names that match, and what is below them; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = NAMES)]
    exclude: Vec<String>,
    /// What to do with names that are not UTF-8 or too long, and with keys that no file can have
    #[arg(long, value_enum, default_value = "refuse", help_heading = NAMES)]
    pub bad_names: OddPolicy,

    /// Count files of the same size and time as equal, which proves nothing
    #[arg(long)]
    fast: bool,
    /// Accept an empty directory as a source, and two empty sides as equal
    #[arg(long)]
    pub allow_empty: bool,
    /// Write the report to a file: a line of JSON for each name, then the summary
    #[arg(long, value_name = "FILE", help_heading = REPORTS)]
    report: Option<PathBuf>,
    /// Print the report in place of text
    #[arg(long, help_heading = REPORTS)]
    json: bool,

    /// TOML file with any settings of a mount
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub options: Options,
}

// Of commands that have a directory.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// What to do with symlinks
    #[arg(long, value_enum, default_value = "refuse", help_heading = NAMES)]
    symlinks: SymlinksArg,
    /// What to do with FIFOs, sockets and devices
    #[arg(long, value_enum, default_value = "refuse", help_heading = NAMES)]
    special: OddPolicy,
    /// What to do with what cannot be read
    #[arg(long, value_enum, default_value = "refuse", help_heading = NAMES)]
    unreadable: OddPolicy,
    /// What to do with 'a' where there is 'a/b' too: a mount shows the directory alone
    #[arg(long, value_enum, default_value = "refuse", help_heading = NAMES)]
    beside: OddPolicy,
    /// What to do with files that have more than one name
    #[arg(long, value_enum, default_value = "each", help_heading = NAMES)]
    hard_links: HardLinks,
    /// Take a directory on which fstab or systemd would mount something else
    #[arg(long)]
    allow_unmounted: bool,
    #[command(flatten)]
    common: CommonArgs,
}

// Of commands that change one side.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Only print what would be done; the exit code is 3 if anything would be
    #[arg(long)]
    dry_run: bool,
    /// Delete what the other side does not have, once all else is done
    #[arg(long)]
    delete: bool,
    /// Delete more than half of what there is
    #[arg(long)]
    force: bool,
    /// Limit of bytes a second, such as 10MiB; 0: no limit
    #[arg(long, value_name = "SIZE")]
    bwlimit: Option<ByteSize>,
}

impl MoveArgs {
    pub fn settings(&self, manifest: Option<PathBuf>) -> MoveSettings {
        MoveSettings {
            extra: match self.delete {
                true => Extra::Delete,
                false => Extra::Keep,
            },
            force: match self.force {
                true => Force::Yes,
                false => Force::No,
            },
            dry_run: self.dry_run,
            bandwidth: self.bwlimit.map(|limit| limit.0),
            manifest,
        }
    }
}

/// What to do with symlinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SymlinksArg {
    /// Name them, leave them out, and exit with 3
    Refuse,
    /// Name them and leave them out
    Skip,
    /// Take what they lead to, where that is inside DIR; refuse others
    Inside,
    /// Take what they lead to, wherever that is
    Follow,
}

/// What a job is made of, read and checked.
pub struct Checked {
    pub config: Config,
    pub directory: PathBuf,
    pub selection: Selection,
    args: MigrateArgs,
}

impl MigrateArgs {
    /// Errors: invalid arguments or settings, a missing directory.
    pub fn check(self, place: Option<String>, directory: &Path) -> anyhow::Result<Checked> {
        let mut args = self;
        let target = match place {
            None if args.common.options.from_authentik.is_some() => {
                Target::Mountpoint(NOWHERE.into())
            }
            place => target_of(place),
        };
        let options = std::mem::take(&mut args.common.options);
        let folder = daemonize::folder();
        let directory = folder.join(directory);
        let file = args.common.config.as_deref();
        let source = ConfigSource::new(target, file, options, folder)?;
        Ok(Checked {
            config: source.load()?,
            directory: resolved(&directory),
            selection: args.common.selection()?,
            args,
        })
    }
}

/// What a place of objects stands for.
pub fn target_of(place: Option<String>) -> Target {
    match place {
        Some(name) if Target::is_configured(&name) => Target::Named(name),
        Some(bucket) => Target::new(Some(bucket), Some(NOWHERE.into())),
        None => Target::FromFile,
    }
}

impl CommonArgs {
    /// Errors: `Usage`.
    pub fn selection(&self) -> Result<Selection, Usage> {
        let selection = Selection::new(&self.include, &self.exclude);
        selection.map_err(|why| Usage(format!("a glob is wrong: {why}")))
    }

    pub fn comparison(&self) -> Comparison {
        match self.fast {
            true => Comparison::SizeAndTime,
            false => Comparison::Checksums,
        }
    }

    /// Ends a command: none where a signal ended the job.
    pub fn end(&self, summary: Option<&Summary>) -> anyhow::Result<ExitCode> {
        let outcome = match summary {
            None => {
                telemetry::tell_user(
                    "mediafs: interrupted: to continue, run the same command again",
                );
                Outcome::Interrupted
            }
            Some(summary) => {
                if !self.json {
                    migrate_shown::summary(summary)?;
                }
                summary.outcome
            }
        };
        Ok(ExitCode::from(outcome.exit_code()))
    }

    /// Where lines go. Errors: the file of --report.
    pub fn report(&self) -> anyhow::Result<Report> {
        let stdout = self.json.then(io::stdout);
        let file = self.report.as_deref().map(|path| {
            let file = File::create(path);
            file.map_err(|error| anyhow::anyhow!("--report {}: {error}", path.display()))
        });
        let file = file.transpose()?.map(BufWriter::new);
        let out: Option<Box<dyn Write + Send>> = match (file, stdout) {
            (Some(file), Some(stdout)) => Some(Box::new(Both(file, stdout))),
            (Some(file), None) => Some(Box::new(file)),
            (None, Some(stdout)) => Some(Box::new(stdout)),
            (None, None) => None,
        };
        let is_text = !self.json;
        let tell = move |line: &Line| {
            if is_text {
                migrate_shown::line(line);
            }
        };
        Ok(Report::new(out, Box::new(tell)))
    }
}

/// The command line asks for what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

impl Checked {
    pub fn job<'a>(&'a self, operator: &'a Arc<dyn Operator>) -> Job<'a> {
        let args = &self.args;
        let (symlinks, refused) = match args.symlinks {
            SymlinksArg::Refuse => (Symlinks::Name, OddPolicy::Refuse),
            SymlinksArg::Skip => (Symlinks::Name, OddPolicy::Skip),
            SymlinksArg::Inside => (Symlinks::Inside, OddPolicy::Refuse),
            SymlinksArg::Follow => (Symlinks::Everywhere, OddPolicy::Refuse),
        };
        Job {
            config: &self.config,
            directory: &self.directory,
            source: Source::Directory,
            selection: &self.selection,
            symlinks,
            odd: OddPolicies {
                symlinks: refused,
                special: args.special,
                specials: Specials::Named,
                unreadable: args.unreadable,
                bad_names: args.common.bad_names,
                beside: args.beside,
                hard_links: args.hard_links,
            },
            comparison: args.common.comparison(),
            allow_empty: args.common.allow_empty,
            allow_unmounted: args.allow_unmounted,
            operator,
        }
    }

    /// Ends a command: none where a signal ended the job.
    pub fn end(&self, summary: Option<&Summary>) -> anyhow::Result<ExitCode> {
        self.args.common.end(summary)
    }

    /// Where a manifest is written.
    ///
    /// Errors: it would be moved with the directory, or take the place of what is no file
    /// or of the report.
    pub fn manifest(&self, path: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
        let Some(path) = path else {
            return Ok(None);
        };
        let place = outside(&self.directory, "--manifest", path)?;
        let is_no_file = std::fs::metadata(&place).is_ok_and(|found| !found.is_file());
        let report = self.args.common.report.as_deref().map(resolved);
        if is_no_file || report.is_some_and(|report| report == place) {
            let path = path.display();
            let why = format!("--manifest {path}: name another regular file");
            return Err(Usage(why).into());
        }
        Ok(Some(place))
    }

    /// Where lines go. Errors: the file of --report; it would be moved with the directory.
    pub fn report(&self) -> anyhow::Result<Report> {
        if let Some(path) = &self.args.common.report {
            outside(&self.directory, "--report", path)?;
        }
        self.args.common.report()
    }
}

/// Writes to a file and to standard output.
struct Both(BufWriter<File>, io::Stdout);

impl Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}
