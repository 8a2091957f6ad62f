//! `mediafs setup`.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use super::daemonize;
use super::migrate_args::Usage;
use super::shown::{self, outln};
use crate::config::{Config, ConfigSource, Options, SseConfig, Target, own_config_dir};
use crate::setup::{self, Lock, OnConflict, Provider, SetupOptions, Step, StepState, Task};
use crate::store::s3::settings::Encryption;

const EXAMPLES: &str = "Examples:
  mediafs setup my-bucket/media /srv/media --region eu-central-1
  mediafs setup my-bucket/media /srv/media --provider garage \\
      --endpoint-url https://s3.example.com
  mediafs setup --from-authentik=.env /srv/media --dry-run";

/// Make a bucket, a configuration and a service, and mount
///
/// Prints what is to be done, asks, and does it; a second run says that there is
/// nothing to do. Rules of others are kept. Settings are those of
/// 'mediafs mount', and are written into the configuration: 'mediafs help setup'.
#[derive(Debug, Args)]
#[command(
    override_usage = "mediafs setup [OPTIONS] <BUCKET[/PREFIX]> <MOUNTPOINT>
       mediafs setup [OPTIONS] --from-authentik[=<FILE>] <MOUNTPOINT>",
    after_help = EXAMPLES
)]
pub struct SetupCommand {
    /// Bucket and key prefix
    #[arg(value_name = "BUCKET[/PREFIX]")]
    place: Option<String>,
    /// Directory to mount on
    mountpoint: Option<PathBuf>,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    /// Print what is to be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace settings that differ from the plan
    #[arg(long)]
    force: bool,
    /// Print the plan or what was done as a JSON array
    #[arg(long)]
    json: bool,
    /// Print the IAM policy that the mount needs, and do nothing
    #[arg(long)]
    print_policy: bool,
    /// Which service it is: its endpoint, region and addressing
    #[arg(long)]
    provider: Option<Provider>,
    /// Name of the mount [default: that of the mountpoint's folder]
    #[arg(long)]
    name: Option<String>,
    /// File to write [default: /etc/mediafs/NAME.toml; of a user ~/.config/mediafs/NAME.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep versions of what is replaced and deleted
    #[arg(long)]
    versioning: bool,
    /// Encrypt new objects by default
    #[arg(long, num_args = 0..=1, default_missing_value = "AES256", require_equals = true)]
    default_encryption: Option<SseConfig>,
    /// KMS key for new objects [default: that of --sse-kms-key-id, or the store's own]
    #[arg(long, value_name = "KEY", requires = "default_encryption")]
    default_encryption_key: Option<String>,
    /// Let browsers read from this origin; may be repeated
    #[arg(long, value_name = "ORIGIN", value_parser = setup::origin)]
    cors_origin: Vec<String>,
    /// Leave the bare mountpoint writable
    #[arg(long)]
    no_guard: bool,
    #[command(flatten)]
    options: Options,
}

impl SetupCommand {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let options = self.setup_options()?;
        let config = self.load(&options.config_file)?;
        if self.print_policy {
            outln!(
                "{}",
                serde_json::to_string_pretty(&setup::policy(&config, options.encryption.as_ref()))?
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        runtime.block_on(self.plan_and_do(&config, &options))
    }

    fn target(&self) -> anyhow::Result<Target> {
        let (place, mountpoint) = (self.place.clone(), self.mountpoint.clone());
        let file = self
            .config
            .as_deref()
            .map(|file| daemonize::folder().join(file));
        let file = file.filter(|file| file.is_file());
        match ConfigSource::target_of(place, mountpoint, (&self.options, file.as_deref())) {
            Target::Named(only) => {
                let usage = match only.starts_with('/') {
                    true => format!("no bucket given: 'mediafs setup BUCKET[/PREFIX] {only}'"),
                    false => format!("no mountpoint given: 'mediafs setup {only} MOUNTPOINT'"),
                };
                Err(Usage(usage).into())
            }
            target => Ok(target),
        }
    }

    fn setup_options(&self) -> anyhow::Result<SetupOptions> {
        let folder = daemonize::folder();
        let mountpoint = match &self.target()? {
            Target::Place { mountpoint, .. } | Target::Mountpoint(mountpoint) => {
                Some(folder.join(mountpoint))
            }
            Target::Named(_) | Target::FromFile => None,
        };
        let named = self.config.as_deref().and_then(Path::file_stem);
        let of_folder = mountpoint.as_deref().and_then(Path::file_name);
        let name = match (&self.name, named.or(of_folder)) {
            (Some(name), _) => name.clone(),
            (None, Some(name)) => name.to_string_lossy().into_owned(),
            (None, None) if mountpoint.is_some() => {
                let usage = "name another mountpoint than /, as in 'mediafs setup BUCKET[/PREFIX] /srv/media'";
                return Err(Usage(usage.to_owned()).into());
            }
            (None, None) => {
                let usage = "no mountpoint given: 'mediafs setup BUCKET[/PREFIX] MOUNTPOINT'";
                return Err(Usage(usage.to_owned()).into());
            }
        };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
            let usage = format!(
                "{name:?} cannot name a mount: pass --name, in letters, digits, '-', '_', '.'"
            );
            return Err(Usage(usage).into());
        }
        let config_file = match &self.config {
            Some(file) => folder.join(file),
            None => {
                let dir = own_config_dir().map_err(anyhow::Error::msg)?;
                dir.join(format!("{name}.toml"))
            }
        };
        Ok(SetupOptions {
            config_file,
            name,
            versioning: self.versioning,
            encryption: self.default_encryption.map(|sse| Encryption {
                algorithm: sse.algorithm().to_owned(),
                kms_key: self
                    .default_encryption_key
                    .clone()
                    .or_else(|| self.options.sse_kms_key_id.clone()),
            }),
            cors_origins: self.cors_origin.clone(),
            guard: !self.no_guard,
        })
    }

    /// What is written already counts, and the options come before it.
    fn load(&self, config_file: &Path) -> anyhow::Result<Config> {
        let present = config_file.is_file().then_some(config_file);
        let load = |flags: Options| -> anyhow::Result<Config> {
            let folder = daemonize::folder();
            Ok(ConfigSource::new(self.target()?, present, flags, folder)?.load()?)
        };
        let config = load(self.options.clone())?;
        let Some(provider) = self.provider else {
            return Ok(config);
        };
        let mut flags = self.options.clone();
        provider.fill(&config, &mut flags).map_err(Usage)?;
        load(flags)
    }

    async fn plan_and_do(
        &self,
        config: &Config,
        options: &SetupOptions,
    ) -> anyhow::Result<ExitCode> {
        let tasks = setup::tasks(config, options).await?;
        let plan = setup::look(&tasks).await?;
        let has = |state| plan.iter().any(|step| step.state == state);
        let conflicts = has(StepState::Conflict);
        if !self.json {
            let mut out = anstream::stdout();
            for note in &config.notes {
                writeln!(out, "note: {}", shown::plain(note))?;
            }
            print(&mut out, &plan)?;
        }
        if conflicts && !self.force {
            self.end(&plan, "nothing was done: --force replaces what differs")?;
            return Ok(ExitCode::FAILURE);
        }
        if !conflicts && !has(StepState::Todo) {
            self.end(&plan, "nothing to do")?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.dry_run {
            self.end(&plan, "nothing was done: --dry-run")?;
            return Ok(ExitCode::SUCCESS);
        }
        if !self.yes && !self.agrees(&plan)? {
            self.end(&plan, "nothing was done")?;
            return Ok(ExitCode::FAILURE);
        }
        self.carry_out(&tasks, &plan, options).await
    }

    async fn carry_out(
        &self,
        tasks: &[Box<dyn Task>],
        plan: &[Step],
        options: &SetupOptions,
    ) -> anyhow::Result<ExitCode> {
        let _lock = Lock::take(options)?;
        let on_conflict = if self.force {
            OnConflict::Replace
        } else {
            OnConflict::Refuse
        };
        let mut printed = Ok(());
        let done = setup::carry_out(tasks, on_conflict, |step| {
            let mut planned = plan.iter().filter(|planned| planned.name == step.name);
            let is_news = match step.state {
                StepState::Ok => false,
                StepState::Skipped => planned.all(|planned| planned.state != StepState::Skipped),
                _ => true,
            };
            if is_news && !self.json && printed.is_ok() {
                printed = print(&mut anstream::stdout(), std::slice::from_ref(step));
            }
        });
        let done = done.await;
        printed?;
        let failed = |step: &Step| matches!(step.state, StepState::Failed | StepState::Conflict);
        if done.iter().any(failed) {
            self.end(&done, "not all is done: fix what failed, run it again")?;
            return Ok(ExitCode::FAILURE);
        }
        let file = options.config_file.display();
        self.end(
            &done,
            &format!("done; 'mediafs doctor --config {file}' checks it"),
        )?;
        Ok(ExitCode::SUCCESS)
    }

    /// The question is for who is at the terminal, and no part of what is printed.
    /// Errors: nobody is there to be asked.
    fn agrees(&self, plan: &[Step]) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            bail!("no terminal to ask on: --yes does it without asking, --dry-run prints the plan");
        }
        let mut out = anstream::stderr();
        if self.json {
            print(&mut out, plan)?;
        }
        write!(out, "Do this? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn end(&self, steps: &[Step], word: &str) -> anyhow::Result<()> {
        if self.json {
            outln!("{}", serde_json::to_string_pretty(steps)?)?;
        } else {
            outln!("{word}")?;
        }
        Ok(())
    }
}

fn print(out: &mut impl Write, steps: &[Step]) -> io::Result<()> {
    for step in steps {
        let (word, text) = (shown::step(step.state), shown::plain(&step.text));
        writeln!(out, "{word}  {:18}  {text}", step.name)?;
        for line in &step.differences {
            writeln!(out, "      {:18}    {}", "", shown::plain(line))?;
        }
    }
    Ok(())
}
