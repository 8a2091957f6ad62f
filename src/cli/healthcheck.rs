//! `mediafs healthcheck`.

use std::io;
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use serde_json::{Value, json};

use super::mounts::{SocketArg, Wait};
use super::shown::{outln, plain, plain_lines};
use super::silence::{self, SilentMount};
use crate::session::control::answers::{Health, HealthState};
use crate::telemetry;

/// Tell whether a mount serves: alive, degraded or stuck
///
/// Answers at once, also while S3 does not: that is "degraded", and ends with 0, since
/// known files can still be read. Ends with 1 where a mount does not answer, its daemon
/// is dead or cannot be asked, or there is none.
#[derive(Debug, Args)]
pub struct HealthcheckCommand {
    /// Name or mountpoint [default: all mounts]
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// Print a JSON array, an object for each mount
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl HealthcheckCommand {
    pub fn run(self) -> ExitCode {
        let healths = match &self.mount {
            Some(mount) => match self.at.named(mount, Wait::No) {
                Ok(found) => Ok(vec![Ok(found.health)]),
                Err(error) => error.downcast().map(|silent| vec![Err(silent)]),
            },
            None => self.all(),
        };
        let healths = match healths {
            Ok(healths) => healths,
            Err(error) => {
                if self.json {
                    let told = Value::Array(vec![silence::as_json(&error)]);
                    said(outln!("{told:#}"));
                }
                let why = plain_lines(&error.to_string());
                telemetry::tell_user(&format!("mediafs: {why}"));
                return ExitCode::FAILURE;
            }
        };
        let states = healths.iter().map(|health| match health {
            Ok(health) => health.state,
            Err(silent) => silent.state,
        });
        let worst = states.max().unwrap_or(HealthState::Stuck);
        if self.json {
            let objects = healths.iter().map(|health| match health {
                Ok(health) => json!(health),
                Err(silent) => silent.as_json(),
            });
            said(outln!("{:#}", objects.collect::<Value>()));
        } else {
            for health in &healths {
                let text = match health {
                    Ok(health) => told(health),
                    Err(SilentMount { of, state, why, .. }) => {
                        format!("{of}: {}: {why}", state.as_str())
                    }
                };
                said(outln!("{}", plain(&text)));
            }
        }
        match worst {
            HealthState::Alive | HealthState::Degraded => ExitCode::SUCCESS,
            HealthState::Unknown | HealthState::Stuck => ExitCode::FAILURE,
        }
    }

    /// Errors: there is no mount at all.
    fn all(&self) -> anyhow::Result<Vec<Result<Health, SilentMount>>> {
        let asked = self.at.ask_all("/health");
        let mut silent = self.at.silent_of(&asked, |health| health);
        if self.at.socket.is_none() {
            silent.retain(|it| !it.is_left_behind);
        }
        let answered = asked.into_iter().filter_map(|it| it.answer.ok());
        let healths: Vec<_> = answered
            .map(Ok)
            .chain(silent.into_iter().map(Err))
            .collect();
        ensure!(!healths.is_empty(), "{}", silence::no_mount());
        Ok(healths)
    }
}

/// The exit code tells it too.
fn said(printed: io::Result<()>) {
    if let Err(error) = printed {
        telemetry::tell_user(&format!("mediafs: {error}"));
    }
}

fn told(health: &Health) -> String {
    let mut text = format!("{}: {}", health.mountpoint, health.state.as_str());
    if !health.reasons.is_empty() {
        text.push_str(&format!(": {}", health.reasons.join("; ")));
    }
    text
}
