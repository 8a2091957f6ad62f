//! `mediafs status`.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use hyper::Method;

use super::mounts::{Asked, SAYS_WITHIN, SocketArg, Wait, no_mount};
use super::shown::{counted, outln, plain, size, span, unless_gone, warning};
use super::silence;
use super::status_shown::whole;
use crate::session::control::answers::{Amount, MountStatus, Status, Uploads};
use crate::session::control::client::SilentMount;

const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Clears a terminal and goes to its top. Source: console_codes(4).
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";
const HEAD: [&str; 6] = ["NAME", "STATE", "MOUNTPOINT", "BUCKET", "NOT IN S3", "UP"];

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

impl StatusCommand {
    pub fn run(self) -> anyhow::Result<()> {
        loop {
            let text = match &self.mount {
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
            if !self.watch || printed.is_err() {
                return Ok(unless_gone(printed)?);
            }
            std::thread::sleep(WATCH_EVERY);
        }
    }

    fn one(&self, mount: &str) -> anyhow::Result<String> {
        let status = match self.status_of(mount) {
            Err(error) if self.json && error.is::<SilentMount>() => {
                let stuck = silence::as_json(&error.to_string());
                outln!("{}", self.as_json(&stuck).trim_end())?;
                return Err(error);
            }
            status => status?,
        };
        if self.json {
            return Ok(self.as_json(&serde_json::to_value(status)?));
        }
        Ok(whole(&status))
    }

    /// Errors: `SilentMount`; there is none.
    fn status_of(&self, mount: &str) -> anyhow::Result<Status> {
        let found = self.at.named(mount, Wait::No)?;
        let status = found.ask(Method::GET, "/status", &(), SAYS_WITHIN);
        Ok(status.map_err(|error| SilentMount(error.to_string()))?)
    }

    fn all(&self) -> anyhow::Result<String> {
        let asked = self.at.ask_all::<Status>("/status");
        // One that was named is there, or is missed.
        let missed = match asked.first() {
            Some(Asked {
                socket,
                answer: Err(error),
            }) if self.at.socket.is_some() => Some(silence::told(socket, error)),
            _ => None,
        };
        match (self.json, missed) {
            (false, None) => Ok(table(&asked)),
            (false, Some(missed)) => bail!("{missed}"),
            (true, None) => self.array(asked),
            (true, Some(missed)) => {
                outln!("{}", self.array(asked)?.trim_end())?;
                bail!("{missed}")
            }
        }
    }

    fn array(&self, asked: Vec<Asked<Status>>) -> anyhow::Result<String> {
        let entries = asked.into_iter().map(|it| {
            let why = |error| silence::why(&it.socket, &error);
            let answer = it.answer.map_err(why);
            MountStatus::new(Some(it.socket), answer)
        });
        let entries: Vec<MountStatus> = entries.collect();
        Ok(self.as_json(&serde_json::to_value(entries)?))
    }

    /// Watched, each is a line.
    fn as_json(&self, value: &serde_json::Value) -> String {
        if self.watch {
            format!("{value}\n")
        } else {
            format!("{value:#}\n")
        }
    }
}

fn table(asked: &[Asked<Status>]) -> String {
    if asked.is_empty() {
        return format!("{}\n", no_mount(&[]));
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut dead = String::new();
    for Asked { socket, answer } in asked {
        match answer {
            Ok(status) => rows.push([
                plain(&status.health.name),
                status.health.state.as_str().to_owned(),
                plain(&status.health.mountpoint),
                plain(&format!("{}/{}", status.bucket, status.prefix)),
                not_in_s3(&status.uploads),
                span(status.uptime_seconds),
            ]),
            Err(error) => {
                let line = silence::told(socket, error);
                dead.push_str(&format!("{}\n", warning(&plain(&line))));
            }
        }
    }
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

fn not_in_s3(uploads: &Uploads) -> String {
    let all = Amount::from(uploads);
    match all.files {
        0 => "nothing".to_owned(),
        count => format!("{}, {}", counted(count, "file"), size(all.bytes)),
    }
}
