//! `mediafs mount`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use rustix::process::Signal;

use super::daemonize;
use super::migrate_args::Usage;
use super::silence::without_symlinks;
use super::spelling::spellings;
use crate::config::{
    ConfigError, ConfigSource, Options, Target, config_files, in_words, named_mounts,
};
use crate::session::{self, EarlySignals, Otlp, Reload, Waiter};
use crate::telemetry::{self, LogIs};

const USAGE: &str = "mediafs mount [OPTIONS] <BUCKET[/PREFIX]> <MOUNTPOINT>
       mediafs mount [OPTIONS] <NAME|MOUNTPOINT>
       mediafs mount [OPTIONS] --config <FILE>
       mediafs mount [OPTIONS] --from-authentik[=<FILE>] <MOUNTPOINT>";

const EXAMPLES: &str = "Examples:
  mediafs mount my-bucket/media /srv/media --allow-other
  mediafs mount my-bucket /srv/media --force-path-style \\
      --endpoint-url https://s3.example.com
  mediafs mount media     # as /etc/mediafs/media.toml says";

/// Mount a bucket on a directory
///
/// Returns when the mount serves, and leaves a daemon in the background.
/// Credentials come from the AWS chain: AWS_ACCESS_KEY_ID and
/// AWS_SECRET_ACCESS_KEY, a profile, SSO, or the machine's role.
///
/// Each option is also a key of the TOML file and a variable: --allow-other,
/// allow-other = true, MEDIAFS_ALLOW_OTHER=true. An option beats a variable,
/// which beats the file.
#[derive(Debug, Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub struct MountCommand {
    #[command(flatten)]
    args: MountArgs,
}

// What to mount and how, also for `mediafs config`. Its own words would take the place
// of the command's: no documentation comment.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// Bucket and key prefix; without a prefix the whole bucket, even if a file or
    /// MEDIAFS_PREFIX has one. Alone also the NAME of a file /etc/mediafs/NAME.toml (of a
    /// user: ~/.config/mediafs/NAME.toml), or the mountpoint in such a file
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

impl MountArgs {
    /// Errors: invalid arguments.
    pub fn source(self) -> anyhow::Result<ConfigSource> {
        let target = match self.only_directory() {
            Some(directory) => Target::Named(name_at(directory)?),
            None => {
                let (place, mountpoint) = (self.place.clone(), self.mountpoint.clone());
                let file = self.config_file();
                let layers = (&self.options, file.as_deref());
                ConfigSource::target_of(place, mountpoint, layers)
            }
        };
        Ok(self.source_of(target)?)
    }

    fn config_file(&self) -> Option<PathBuf> {
        let file = self.config.as_deref()?;
        Some(daemonize::folder().join(file))
    }

    /// With another target than the arguments are for a mount. Errors: one that is none.
    pub fn source_of(self, target: Target) -> Result<ConfigSource, ConfigError> {
        let folder = daemonize::folder();
        ConfigSource::new(target, self.config.as_deref(), self.options, folder)
    }

    /// The only argument, where it is a bucket that no mount is named after.
    pub fn only_bucket(&self) -> Option<&str> {
        let is_bucket = |only: &&str| {
            self.mountpoint.is_none()
                && !ConfigSource::is_mountpoint(only, &self.options, self.config_file().as_deref())
                && !Target::is_configured(only)
                && self.only_directory().is_none()
        };
        self.place.as_deref().filter(is_bucket)
    }

    /// The only argument, where it is a directory that a file may say a mount of.
    fn only_directory(&self) -> Option<&Path> {
        let only = self.place.as_deref()?;
        let is_alone = self.mountpoint.is_none() && self.config.is_none();
        let is_directory = is_alone
            && only.starts_with('/')
            && !ConfigSource::is_mountpoint(only, &self.options, None);
        is_directory.then_some(Path::new(only))
    }
}

/// The NAME of the mount that a file configures on this directory.
///
/// Errors: none does; `..` behind a name in a mount.
fn name_at(directory: &Path) -> anyhow::Result<String> {
    let wanted = spellings(directory)?;
    let is_there = |mountpoint: &PathBuf| {
        wanted.contains(mountpoint) || wanted.contains(&without_symlinks(mountpoint))
    };
    let mut named = named_mounts().into_iter();
    let found = named.find(|mount| mount.mountpoint.as_ref().is_some_and(is_there));
    let found = found.ok_or_else(|| {
        let (files, directory) = (in_words(&config_files("*")), directory.display());
        Usage(format!(
            "no {files} has the mountpoint {directory}: name the bucket before it, as in 'BUCKET[/PREFIX] {directory}'"
        ))
    })?;
    Ok(found.name)
}

impl MountCommand {
    /// The flags, and the file that `--config` names.
    pub fn into_flags(self) -> (Options, Option<PathBuf>) {
        (self.args.options, self.args.config)
    }

    /// `args` are those that say the same to a process of its own.
    pub fn run(self, args: &[OsString]) -> anyhow::Result<()> {
        let early = EarlySignals::keep().context("cannot handle signals")?;
        let outcome = self.run_until_unmounted(args, &early);
        outcome.map_err(|error| early.unheard(error))
    }

    fn run_until_unmounted(self, args: &[OsString], early: &EarlySignals) -> anyhow::Result<()> {
        let source = self.args.source()?;
        let config = source.load()?;
        if config.foreground {
            let filter = session::log_filter_at_start(&config);
            let (otlp, spans) = Otlp::new(&config);
            let output = config.log_in_foreground();
            let logs = telemetry::start_logs_with_spans(&filter, output, log_is(), spans)?;
            let reload = Reload { source, logs };
            return session::run(config, (reload, otlp), early, &Nobody);
        }
        match daemonize::parent() {
            None => daemonize::start(&config, args),
            Some(parent) => {
                // Without a supervisor nobody would take this daemon's place.
                rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
                // The folder it was started in can be unmounted and removed.
                std::env::set_current_dir("/")?;
                let filter = session::log_filter_at_start(&config);
                let (otlp, spans) = Otlp::new(&config);
                let output = config.log_in_background();
                let logs = telemetry::start_logs_with_spans(&filter, output, log_is(), spans);
                let outcome = logs.and_then(|logs| {
                    let reload = Reload { source, logs };
                    session::run(config, (reload, otlp), early, &parent)
                });
                outcome.inspect_err(|error| parent.tell_failure(error))
            }
        }
    }
}

/// A log alone is no reason to leave applications waiting for a successor.
fn log_is() -> LogIs {
    if session::has_predecessor() {
        LogIs::Optional
    } else {
        LogIs::Required
    }
}

/// In the foreground the log tells it.
#[derive(Debug)]
struct Nobody;

impl Waiter for Nobody {
    fn note(&self, _text: &str) {}

    fn ready(&self) {}
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::Cli;

    /// Options that a help text shows: those that begin a line.
    fn shown(help: &str) -> Vec<&str> {
        let lines = help.lines().map(str::trim_start);
        let options = lines.filter_map(|line| line.strip_prefix("--"));
        options
            .filter_map(|option| option.split([' ', '[', '=']).next())
            .collect()
    }

    fn command() -> clap::Command {
        let mut cli = Cli::command();
        cli.build();
        cli.find_subcommand("mount").unwrap().clone()
    }

    #[test]
    fn short_help_has_the_ten_options_that_matter_and_fits_a_terminal() {
        let help = command().render_help().to_string();
        let ten = [
            "config",
            "endpoint-url",
            "region",
            "force-path-style",
            "attributes",
            "uid",
            "allow-other",
            "ttl",
            "durability",
            "spool",
        ];
        let options = help.split("Examples:").next().unwrap();
        assert_eq!(shown(options), ten, "{help}");
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
    }

    #[test]
    fn long_help_has_every_setting_below_one_of_five_headings() {
        let mut headings = Vec::new();
        let command = command();
        for arg in command.get_opts() {
            assert!(arg.get_help().is_some(), "{arg}");
            let heading = arg.get_help_heading();
            if !["config", "help"].contains(&arg.get_id().as_str()) {
                headings.push(heading.unwrap_or_else(|| panic!("{arg} has no heading")));
            }
        }
        headings.dedup();
        let five = [
            "Bucket and credentials",
            "Permissions",
            "Caching",
            "Writing and spool",
            "Process and logs",
        ];
        assert_eq!(headings, five);
        let help = command.clone().render_long_help().to_string();
        assert!(
            help.lines().all(|line| line.chars().count() <= 80),
            "{help}"
        );
    }

    /// A command, and all below it.
    fn with_those_below(command: &clap::Command) -> Vec<&clap::Command> {
        let below = command.get_subcommands().flat_map(with_those_below);
        std::iter::once(command).chain(below).collect()
    }

    #[test]
    fn the_examples_of_every_command_are_understood() {
        let all = Cli::command();
        let mut commands = 0;
        for command in with_those_below(&all) {
            let text = command.get_after_help().map(ToString::to_string);
            let joined = text.unwrap_or_default().replace("\\\n", "");
            let Some(examples) = joined.strip_prefix("Examples:\n") else {
                continue;
            };
            commands += 1;
            // Others' programs are not ours to read.
            let own = examples.lines().map(str::trim);
            for line in own.filter(|line| line.starts_with("mediafs ")) {
                let words = line.split('#').next().unwrap_or_default();
                let parsed = Cli::try_parse_from(words.split_whitespace());
                assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
            }
        }
        assert!(commands > 3, "{commands} commands have examples");
    }
}
