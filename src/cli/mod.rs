//! The command line: one file a subcommand.
//!
//! The one place that prints an error and picks the exit code: 2 for what was
//! asked wrongly, 1 for what failed; those of mount(8) when mount(8) asks. Commands that
//! move data have more of them.

mod attach;
mod completions;
mod config;
mod config_check;
mod csi;
mod daemonize;
mod detach;
mod doctor;
mod drain;
mod engine;
mod export;
mod flush;
mod foreign_options;
mod fstab;
mod healthcheck;
mod help;
mod import;
mod left_below;
mod log_level;
mod materialize;
mod migrate_args;
mod migrate_shown;
mod mount;
mod mounts;
mod move_objects;
mod notifier;
mod probe;
mod refresh;
mod reload;
mod setup;
mod shown;
mod silence;
mod spelling;
mod spool;
mod status;
mod status_overlay;
mod status_shown;
mod stop;
mod supervise;
mod unasked;
mod unmount;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigError;
use crate::migrate::{Outcome, Refused};
use crate::session::{self, UnheardStop};
use crate::telemetry;

/// Mounts an S3 bucket as a directory.
#[derive(Debug, Parser)]
#[command(
    name = "mediafs",
    version,
    disable_help_subcommand = true,
    max_term_width = 80
)]
#[command(after_help = help::topics())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Mount(Box<mount::MountCommand>),
    Setup(Box<setup::SetupCommand>),
    Doctor(Box<doctor::DoctorCommand>),
    Import(Box<import::ImportCommand>),
    Export(Box<export::ExportCommand>),
    Verify(Box<verify::VerifyCommand>),
    Move(Box<move_objects::MoveCommand>),
    Status(status::StatusCommand),
    Unmount(unmount::UnmountCommand),
    Flush(flush::FlushCommand),
    Refresh(refresh::RefreshCommand),
    Reload(reload::ReloadCommand),
    LogLevel(log_level::LogLevelCommand),
    Attach(attach::AttachCommand),
    Detach(detach::DetachCommand),
    Healthcheck(healthcheck::HealthcheckCommand),
    Spool(spool::SpoolCommand),
    Config(config::ConfigCommand),
    Csi(csi::CsiCommand),
    Completions(completions::CompletionsCommand),
    Help(help::HelpCommand),
    Man(help::ManCommand),
    Supervise(supervise::SuperviseCommand),
    Notifier(notifier::NotifierCommand),
    Probe(probe::ProbeCommand),
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let code = run_command();
    telemetry::flush_logs();
    code
}

fn run_command() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let helpers = [fstab::PROGRAM, fstab::PROGRAM_OF_SHOWN_TYPE];
    let name = Path::new(&program).file_name().unwrap_or_default();
    if helpers.iter().any(|helper| name == *helper) {
        return fstab::run(&args);
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Mount(command) => command.run(&args),
        Command::Status(command) => command.run(),
        Command::Unmount(command) => command.run(),
        Command::Flush(command) => command.run(),
        Command::Refresh(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::LogLevel(command) => command.run(),
        Command::Attach(command) => command.run(),
        Command::Detach(command) => command.run(),
        Command::Healthcheck(command) => return command.run(),
        Command::Spool(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Csi(command) => command.run(),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Help(command) => command.run(Cli::command()),
        Command::Man(command) => command.run(),
        Command::Notifier(command) => command.run(),
        Command::Probe(command) => return command.run(),
        Command::Doctor(command) => return ended(command.run()),
        Command::Setup(command) => return ended(command.run()),
        Command::Import(command) => return ended(command.run()),
        Command::Export(command) => return ended(command.run()),
        Command::Verify(command) => return ended(command.run()),
        Command::Move(command) => return ended(command.run()),
        Command::Supervise(command) => return ended(command.run()),
    };
    ended(outcome.map(|()| ExitCode::SUCCESS))
}

/// The exit code of a command, whose error is told.
fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Names in it may be of a container, or of anybody's objects.
            let text = format!("mediafs: {}", session::in_words(&error));
            let lines: Vec<String> = text.lines().map(shown::plain).collect();
            telemetry::tell_user(&lines.join("\n"));
            if let Some(stop) = error.downcast_ref::<UnheardStop>() {
                telemetry::flush_logs();
                stop.die();
            }
            if error.is::<ConfigError>()
                || error.is::<help::NoSuchPage>()
                || error.is::<migrate_args::Usage>()
            {
                ExitCode::from(2)
            } else if error.is::<Refused>() {
                ExitCode::from(Outcome::Declined.exit_code())
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
