//! `mediafs config`.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::mount::MountArgs;
use super::shown::{outln, plain};
use crate::config::{Config, Setting, SettingOrigin};
use crate::session;
use crate::store::s3::OnNetworkError;

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
    /// Say what is wrong with a configuration: 2 for a setting, 1 for a file that it names
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

/// The values are checked already; what they name has to be there too.
fn checked(config: &Config) -> Checked {
    let files = [
        ("credentials-file", config.s3.credentials_file.as_deref()),
        ("ca-bundle", config.s3.ca_bundle.as_deref()),
        (
            "sse-customer-key-file",
            config.s3.requests.sse_customer_key_file.as_deref(),
        ),
        ("mime", config.mime.as_deref()),
    ];
    let unreadable = |path: &Path| File::open(path).err();
    let files = files.into_iter().filter_map(|(name, path)| {
        let path = path?;
        let error = unreadable(path)?;
        let path = path.display();
        Some(format!(
            "{name}: {path}: name a file that can be read: {error}"
        ))
    });
    let mut wrong: Vec<String> = files.collect();
    if !config.mountpoint.is_dir() {
        let mountpoint = config.mountpoint.display();
        wrong.push(format!("mountpoint: {mountpoint} is no directory: make it"));
    }
    if wrong.is_empty() {
        wrong.extend(not_connected(config));
    }
    let notes = config.capped.iter().chain(&config.notes);
    Checked {
        wrong,
        notes: notes.cloned().collect(),
    }
}

/// Why no request could be sent as it is configured. None is sent.
fn not_connected(config: &Config) -> Option<String> {
    let runtime = tokio::runtime::Runtime::new().ok()?;
    let connected = runtime.block_on(session::s3(config, OnNetworkError::Refuse));
    connected.err().map(|error| error.to_string())
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
