//! `mediafs config`.

use std::io;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::config_check;
use super::mount::MountArgs;
use super::shown::{outln, plain};
use crate::config::{Config, Setting, SettingOrigin};

const EXAMPLES: &str = "Examples:
  mediafs config show media    # as /etc/mediafs/media.toml says
  mediafs config check media";

/// Show or check a configuration, without mounting
///
/// Takes what 'mediafs mount' takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print every setting with its value and where that comes from
    Show {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: Box<MountArgs>,
    },
    /// Check a configuration; exit code 2: a wrong setting, 1: an unusable file
    Check {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: Box<MountArgs>,
    },
}

impl ConfigCommand {
    pub fn run(self) -> anyhow::Result<()> {
        match self.action {
            Action::Show { json, args } => {
                let settings = args.source()?.settings()?;
                if json {
                    outln!("{}", serde_json::to_string_pretty(&settings)?)?;
                    return Ok(());
                }
                for setting in &settings {
                    outln!("{}", plain(&line(setting)))?;
                }
                Ok(())
            }
            Action::Check { json, args } => {
                let config = match args.source()?.load() {
                    Ok(config) => config,
                    Err(error) if json => {
                        let checked = Checked::wrong(error.to_string());
                        outln!("{}", serde_json::to_string_pretty(&checked)?)?;
                        return Err(error.into());
                    }
                    Err(error) => return Err(error.into()),
                };
                let checked = checked(&config);
                let Checked { wrong, notes } = &checked;
                if json {
                    outln!("{}", serde_json::to_string_pretty(&checked)?)?;
                } else if wrong.is_empty() {
                    print(&config, notes)?;
                }
                ensure!(wrong.is_empty(), "{}", wrong.join("\nmediafs: "));
                Ok(())
            }
        }
    }
}

fn line(setting: &Setting) -> String {
    let origin = match &setting.origin {
        SettingOrigin::Default => "default".to_owned(),
        SettingOrigin::File {
            path,
            line: Some(line),
        } => format!("{}:{line}", path.display()),
        SettingOrigin::File { path, line: None } => path.display().to_string(),
        SettingOrigin::Variable(name)
        | SettingOrigin::Flag(name)
        | SettingOrigin::Authentik(name) => name.clone(),
        SettingOrigin::Profile(name) => format!("AWS profile {name}"),
        SettingOrigin::Argument => "command line".to_owned(),
    };
    let name = &setting.name;
    match (&setting.value, &setting.default) {
        (Some(Value::String(text)), _) => format!("{name} = {text}  # {origin}"),
        (Some(value), _) => format!("{name} = {value}  # {origin}"),
        (None, Some(default)) => format!("# {name} is not set; default: {default}"),
        (None, None) => format!("# {name} is not set"),
    }
}

/// What came of a check.
#[derive(Debug, Serialize)]
struct Checked {
    wrong: Vec<String>,
    notes: Vec<String>,
}

impl Checked {
    fn wrong(why: String) -> Self {
        Self {
            wrong: vec![why],
            notes: Vec::new(),
        }
    }
}

fn checked(config: &Config) -> Checked {
    let notes = config.capped.iter().chain(&config.notes);
    Checked {
        wrong: config_check::wrong(config),
        notes: notes.cloned().collect(),
    }
}

/// For people, of a configuration in which nothing is wrong.
fn print(config: &Config, notes: &[String]) -> io::Result<()> {
    for told in notes {
        outln!("{told}")?;
    }
    let (bucket, prefix) = (&config.bucket, &config.prefix);
    outln!(
        "nothing is wrong: s3://{bucket}/{prefix} on {}",
        config.mountpoint.display()
    )
}
