//! `mediafs move`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::daemonize;
use super::migrate_args::{CommonArgs, MoveArgs, Usage, target_of};
use super::migrate_shown::Console;
use crate::config::{Config, ConfigSource, Options, Target};
use crate::migrate::{MoveJob, OddPolicies, Operator, move_objects};

/// Heading of what follows in a help text.
const OLD_PLACE: &str = "OLD, if it differs from NEW";
/// Comes before every profile. Source: AWS SDKs and Tools Reference Guide, "Credential
/// provider chain".
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";

/// Copy into one bucket the objects of another that it does not have
///
/// First everything is compared and counted, then asked, then brought over, with
/// headers, metadata and tags; then each object is compared. OLD stays as it is.
/// Options hold for both places; an OLD that is the NAME of a mount, or has
/// --source-config, takes its own: 'mediafs help migrate'.
#[derive(Debug, Args)]
#[command(
    override_usage = "mediafs move [OPTIONS] <s3://OLD[/PREFIX]|NAME> <s3://NEW[/PREFIX]|NAME>"
)]
pub struct MoveCommand {
    /// Bucket and key prefix that objects are taken from; or the NAME of a configured mount
    #[arg(value_name = "OLD")]
    source: String,
    /// Bucket and key prefix that they come to; or the NAME of a configured mount
    #[arg(value_name = "NEW")]
    target: String,
    /// Profile of the AWS configuration for OLD
    #[arg(long, value_name = "PROFILE", help_heading = OLD_PLACE)]
    source_profile: Option<String>,
    /// URL of the S3 service that has OLD
    #[arg(long, value_name = "URL", help_heading = OLD_PLACE)]
    source_endpoint_url: Option<String>,
    /// AWS region of OLD
    #[arg(long, value_name = "REGION", help_heading = OLD_PLACE)]
    source_region: Option<String>,
    /// AWS credentials file for OLD
    #[arg(long, value_name = "FILE", help_heading = OLD_PLACE)]
    source_credentials_file: Option<PathBuf>,
    /// TOML file with the settings of OLD
    #[arg(long, value_name = "FILE", help_heading = OLD_PLACE)]
    source_config: Option<PathBuf>,
    #[command(flatten)]
    moves: MoveArgs,
    #[command(flatten)]
    common: CommonArgs,
}

impl MoveCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let (source, target) = (self.source()?, self.target()?);
        let selection = self.common.selection()?;
        let settings = self.moves.settings(None);
        let console: Arc<dyn Operator> = Arc::new(Console::new(self.moves.yes));
        let report = self.common.report()?;
        let job = MoveJob {
            source: &source,
            target: &target,
            selection: &selection,
            odd: OddPolicies::of_names(self.common.bad_names),
            comparison: self.common.comparison(),
            allow_empty: self.common.allow_empty,
            operator: &console,
        };
        let summary = move_objects(job, &settings, report)?;
        self.common.end(summary.as_ref())
    }

    /// Errors: settings that are none.
    fn source(&self) -> anyhow::Result<Config> {
        let target = target_of(Some(self.source.clone()));
        let has_own = matches!(target, Target::Named(_)) || self.source_config.is_some();
        let mut options = match has_own {
            true => Options::default(),
            false => self.common.options.clone(),
        };
        if self.source_profile.is_some() && std::env::var_os(ACCESS_KEY).is_some() {
            let why = format!(
                "{ACCESS_KEY} is set, and comes before --source-profile: unset it, and name a profile for each place"
            );
            return Err(Usage(why).into());
        }
        let own = [
            (&self.source_profile, &mut options.profile),
            (&self.source_endpoint_url, &mut options.endpoint_url),
            (&self.source_region, &mut options.region),
        ];
        for (given, option) in own {
            if given.is_some() {
                option.clone_from(given);
            }
        }
        if self.source_credentials_file.is_some() {
            options
                .credentials_file
                .clone_from(&self.source_credentials_file);
        }
        let file = match has_own {
            true => self.source_config.as_deref(),
            false => self.common.config.as_deref(),
        };
        Ok(ConfigSource::new(target, file, options, daemonize::folder())?.load()?)
    }

    /// Errors: settings that are none.
    fn target(&self) -> anyhow::Result<Config> {
        let target = target_of(Some(self.target.clone()));
        let (file, options) = (self.common.config.as_deref(), self.common.options.clone());
        Ok(ConfigSource::new(target, file, options, daemonize::folder())?.load()?)
    }
}
