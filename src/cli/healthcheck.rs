//! `mediafs healthcheck`.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::mounts::{Asked, SocketArg, Wait, no_mount};
use super::shown::{outln, plain, plain_lines};
use super::silence;
use crate::session;
use crate::session::control::answers::{Health, HealthState};
use crate::session::control::client::{AskError, SilentMount};
use crate::telemetry;

/// Tell whether a mount serves: alive, degraded or stuck
///
/// Answers at once, also while S3 does not: that is "degraded", and ends with 0, since
/// known files can still be read. Ends with 1 where a mount does not answer, its daemon
/// is dead, or there is none.
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
                Err(error) => match error.downcast::<SilentMount>() {
                    Ok(silent) => Ok(vec![Err(format!("stuck: {silent}"))]),
                    Err(error) => Err(error),
                },
            },
            None => self.all(),
        };
        let healths = match healths {
            Ok(healths) => healths,
            Err(error) => {
                let why = plain_lines(&error.to_string());
                telemetry::tell_user(&format!("mediafs: {why}"));
                return ExitCode::FAILURE;
            }
        };
        let worst = healths.iter().map(|health| match health {
            Ok(health) => health.state,
            Err(_) => HealthState::Stuck,
        });
        let worst = worst.max().unwrap_or(HealthState::Stuck);
        if self.json {
            let objects = healths.iter().map(|health| match health {
                Ok(health) => json!(health),
                Err(why) => json!({"state": HealthState::Stuck, "reasons": [why]}),
            });
            said(outln!("{:#}", objects.collect::<Value>()));
        } else {
            for health in &healths {
                let text = health.as_ref().map_or_else(Clone::clone, told);
                said(outln!("{}", plain(&text)));
            }
        }
        match worst {
            HealthState::Alive | HealthState::Degraded => ExitCode::SUCCESS,
            HealthState::Stuck => ExitCode::FAILURE,
        }
    }

    /// Errors: there is no socket at all.
    fn all(&self) -> anyhow::Result<Vec<Result<Health, String>>> {
        let asked = self.at.ask_all("/health");
        if asked.is_empty() {
            anyhow::bail!("{}", no_mount(&[]));
        }
        let told = |it: Asked<Health>| {
            let why = |error| {
                let why = silence::why(&it.socket, &error);
                format!("{}: stuck: {why}", it.socket.display())
            };
            it.answer.map_err(why)
        };
        let is_stale = self.at.socket.is_none() && !has_mount_without_daemon(&asked);
        let of_mounts = asked.into_iter().filter(|it| {
            let is_dead = matches!(it.answer, Err(AskError::Dead));
            !(is_dead && is_stale)
        });
        let healths: Vec<_> = of_mounts.map(told).collect();
        if healths.is_empty() {
            anyhow::bail!("{}", no_mount(&[]));
        }
        Ok(healths)
    }
}

/// Whether a mount of ours is one that no daemon has answered for. Without one, a socket
/// on which nobody listens was left behind by a daemon that has gone with its mount.
fn has_mount_without_daemon(asked: &[Asked<Health>]) -> bool {
    let served = |mountpoint: &Path| {
        let mut healths = asked.iter().filter_map(|it| it.answer.as_ref().ok());
        healths.any(|health| Path::new(&health.mountpoint) == mountpoint)
    };
    let mounts = session::mounts_of("self").unwrap_or_default();
    // Those of other users have their sockets elsewhere.
    let user = rustix::process::geteuid().as_raw();
    let mut ours = mounts
        .iter()
        .filter(|it| it.fs_type == session::FS_TYPE && it.is_of_user(user));
    ours.any(|it| !served(&it.mountpoint))
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
