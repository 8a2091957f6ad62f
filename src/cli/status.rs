//! `mediafs status`.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::mounts::{Asked, SAYS_WITHIN, SocketArg, Wait};
use super::shown::{counted, plain, size, span, unless_gone, warning};
use super::silence::{self, SilentMount};
use super::status_shown::whole;
use crate::session::control::answers::{Amount, HealthState, MountStatus, Status, Uploads};
use crate::session::control::place;

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its top. Source: console_codes(4).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
const HEAD: [&str; 6] = ["NAME", "STATE", "MOUNTPOINT", "BUCKET", "NOT IN S3", "UP"];

const UNKNOWN: &str = "?";

const EXAMPLES: &str = "Examples:
  mediafs status              # every mount, a line each
  mediafs status /srv/media   # all that is known of one
  curl --unix-socket /run/mediafs/media.sock http://localhost/status";

/// Show the state of a mount: S3, what waits for it, what failed, spool, cache, requests
///
/// Without arguments every mount of this user is listed; root sees those of all
/// users. See 'mediafs help status'.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct StatusCommand {
    /// Name or mountpoint of one mount
    #[arg(value_name = "NAME|MOUNTPOINT")]
    mount: Option<String>,
    /// Print JSON: an object of one mount, an array of all
    #[arg(long)]
    json: bool,
    /// Print it again every two seconds
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    at: SocketArg,
}

/// What is printed, and what is missing in it.
struct Told {
    text: String,
    missing: Vec<SilentMount>,
}

impl StatusCommand {
    pub fn run(self) -> anyhow::Result<()> {
        loop {
            let Told { text, missing } = match &self.mount {
                Some(mount) => self.one(mount)?,
                None => self.all()?,
            };
            let clear = if self.watch && !self.json && stdout().is_terminal() {
                CLEAR
            } else {
                ""
            };
            let mut out = anstream::stdout();
            let printed = write!(out, "{clear}{text}").and_then(|()| out.flush());
            let ends = !self.watch || self.at.socket.is_some() && !missing.is_empty();
            if ends || printed.is_err() {
                unless_gone(printed)?;
                let missing: Vec<String> = missing.iter().map(SilentMount::to_string).collect();
                ensure!(missing.is_empty(), "{}", missing.join("\n"));
                return Ok(());
            }
            std::thread::sleep(WATCH_EVERY);
        }
    }

    fn one(&self, mount: &str) -> anyhow::Result<Told> {
        let status = self.status_of(mount).inspect_err(|error| {
            if self.json {
                // The error is told in any case.
                drop(write!(
                    anstream::stdout(),
                    "{}",
                    self.as_json(&silence::as_json(error))
                ));
            }
        })?;
        let text = match self.json {
            true => self.as_json(&serde_json::to_value(status)?),
            false => whole(&status),
        };
        let missing = Vec::new();
        Ok(Told { text, missing })
    }

    /// Errors: `SilentMount`; there is none.
    fn status_of(&self, mount: &str) -> anyhow::Result<Status> {
        let found = self.at.named(mount, Wait::No)?;
        let status = found.ask(Method::GET, "/status", &(), SAYS_WITHIN);
        Ok(status.map_err(|error| SilentMount {
            of: found.health.mountpoint.clone(),
            socket: Some(found.socket.clone()),
            mountpoint: Some(found.health.mountpoint.clone().into()),
            state: HealthState::Stuck,
            is_left_behind: false,
            why: error.to_string(),
        })?)
    }

    fn all(&self) -> anyhow::Result<Told> {
        let asked = self.at.ask_all::<Status>("/status");
        let silent = self.at.silent_of(&asked, |status| &status.health);
        let text = match self.json {
            true => self.array(asked, &silent)?,
            false => table(&asked, &silent),
        };
        // One that was named is there, or is missed.
        let is_missed = |it: &SilentMount| self.at.socket.is_some() || !it.is_left_behind;
        let missing = silent.into_iter().filter(is_missed).collect();
        Ok(Told { text, missing })
    }

    fn array(&self, asked: Vec<Asked<Status>>, silent: &[SilentMount]) -> anyhow::Result<String> {
        let mut entries = Vec::new();
        for Asked { socket, answer } in asked {
            if let Ok(status) = answer {
                entries.push(serde_json::to_value(MountStatus::new(
                    Some(socket),
                    Ok(status),
                ))?);
            }
        }
        entries.extend(silent.iter().map(|it| {
            json!({
                "socket": it.socket,
                "mountpoint": it.mountpoint,
                "state": it.state,
                "status": null,
                "error": it.why,
            })
        }));
        Ok(self.as_json(&Value::Array(entries)))
    }

    /// Watched, each is a line.
    fn as_json(&self, value: &Value) -> String {
        if self.watch {
            format!("{value}\n")
        } else {
            format!("{value:#}\n")
        }
    }
}

fn table(asked: &[Asked<Status>], silent: &[SilentMount]) -> String {
    if asked.is_empty() && silent.is_empty() {
        return format!("{}\n", silence::no_mount());
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let answered = asked.iter().filter_map(|it| it.answer.as_ref().ok());
    rows.extend(answered.map(|status| {
        [
            plain(&status.health.name),
            status.health.state.as_str().to_owned(),
            plain(&status.health.mountpoint),
            plain(&format!("{}/{}", status.bucket, status.prefix)),
            not_in_s3(&status.uploads),
            span(status.uptime_seconds),
        ]
    }));
    let (left_behind, mounts): (Vec<_>, Vec<_>) = silent.iter().partition(|it| it.is_left_behind);
    rows.extend(mounts.into_iter().map(row_of_silent));
    let left_behind = left_behind.into_iter();
    let dead = left_behind.map(|it| format!("{}\n", warning(&plain(&it.to_string()))));
    let dead: String = dead.collect();
    if rows.len() == 1 {
        return dead;
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(&format!("{}\n", cells.join("  ").trim_end()));
    }
    text + &dead
}

/// Of a mount that does not say how it is.
fn row_of_silent(mount: &SilentMount) -> [String; 6] {
    let socket = mount.socket.as_deref().and_then(Path::file_stem);
    let name = socket.map(|it| it.to_string_lossy().into_owned());
    let by_mountpoint = mount.mountpoint.as_deref().map(place::name_of_mountpoint);
    let mountpoint = mount.mountpoint.as_ref().map(|it| it.display().to_string());
    let shown = |text: Option<String>| text.map_or_else(|| UNKNOWN.to_owned(), |it| plain(&it));
    [
        shown(name.or(by_mountpoint)),
        mount.state.as_str().to_owned(),
        shown(mountpoint),
        shown(mount.bucket()),
        UNKNOWN.to_owned(),
        UNKNOWN.to_owned(),
    ]
}

fn not_in_s3(uploads: &Uploads) -> String {
    let all = Amount::from(uploads);
    match all.files {
        0 => "nothing".to_owned(),
        count => format!("{}, {}", counted(count, "file"), size(all.bytes)),
    }
}
