//! `mediafs flush`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::mounts::{Chosen, FoundMount, SAYS_WITHIN, SocketArg, as_json};
use super::shown::{counted, outln, pending, plain};
use super::silence::{self, SilentMount};
use crate::config::Period;
use crate::session::control::commands::{Flushed, PathRequest};

/// Wait until S3 has what was written, so that every other client can read it
///
/// Waits for one file, for all below a directory, or for all mounts of this user.
/// Files that a program is writing are waited for until it closes or syncs them.
/// Ends with 1, and says what is missing, when the time is over or an upload failed.
#[derive(Debug, Args)]
pub struct FlushCommand {
    /// A file or directory in a mount, or the name of a mount [default: all mounts]
    path: Option<PathBuf>,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    timeout: Period,
    /// Print a JSON array, an object for each mount: 'mediafs help status'
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl FlushCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let chosen = self.at.chosen(self.path.as_deref());
        let Chosen { mounts, silent } = silence::print_error_array(self.json, chosen)?;
        // Nobody knows what those have to send.
        let mut objects: Vec<Value> = silent.iter().map(SilentMount::as_json).collect();
        let mut wrong: Vec<String> = silent.iter().map(SilentMount::to_string).collect();
        if mounts.is_empty() && silent.is_empty() {
            wrong.push(silence::no_mount());
        }
        for (mount, below) in &mounts {
            match flush(mount, below, self.timeout.0) {
                Ok(flushed) => {
                    objects.push(as_json(mount, &flushed)?);
                    let told = || format!("{}: {}", mount.health.mountpoint, missing(&flushed));
                    wrong.extend((!flushed.done).then(told));
                }
                Err(error) => {
                    objects.push(as_json(mount, &silence::as_json(&error))?);
                    wrong.push(error.to_string());
                }
            }
        }
        if self.json {
            outln!("{:#}", Value::Array(objects))?;
        }
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

/// What the mount says once it has waited.
pub fn flush(mount: &FoundMount, below: &str, timeout: Duration) -> anyhow::Result<Flushed> {
    let request = PathRequest {
        path: below.to_owned(),
        timeout_ms: Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
    };
    let within = timeout.saturating_add(SAYS_WITHIN);
    mount.ask(Method::POST, "/flush", &request, within)
}

/// What is not in S3, why, and where it is.
pub fn missing(flushed: &Flushed) -> String {
    let mut text = flushed.reasons.join("; ");
    for file in &flushed.unsent.files {
        let of_file = pending(file.bytes, file.age_seconds, file.error.as_deref());
        text.push_str(&format!("\n  {}  {}  {of_file}", file.state, file.path));
    }
    for lost in &flushed.lost {
        let key = lost.key.as_deref().unwrap_or("(key unknown)");
        text.push_str(&format!(
            "\n  lost+found  {key}  {}: {}",
            lost.id, lost.reason
        ));
    }
    if flushed.deletes_waiting > 0 {
        let deletes = counted(flushed.deletes_waiting, "delete");
        text.push_str(&format!("\n  {deletes} not sent"));
    }
    text.push_str(&format!("\nthe bytes are in {}", flushed.spool));
    let lines = text.lines().map(plain);
    lines.collect::<Vec<_>>().join("\n")
}
