//! `mediafs refresh`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::mounts::{Chosen, FoundMount, SocketArg, as_json};
use super::shown::{counted, outln, plain};
use super::silence::{self, SilentMount};
use crate::session::control::commands::{PathRequest, Refreshed};

/// The kernel may be slow to take what it is told.
const WITHIN: Duration = Duration::from_secs(30);

/// Forget what is known of files, so that changes of other clients show at once
///
/// Forgets a file, all below a directory, or all mounts of this user; the kernel
/// forgets it too. What S3 does not have yet stays.
#[derive(Debug, Args)]
pub struct RefreshCommand {
    /// A file or directory in a mount, or the name of a mount [default: all mounts]
    path: Option<PathBuf>,
    /// Print a JSON array, an object for each mount: 'mediafs help status'
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: SocketArg,
}

impl RefreshCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let chosen = self.at.chosen(self.path.as_deref());
        let Chosen { mounts, silent } = silence::print_error_array(self.json, chosen)?;
        let mut objects: Vec<Value> = silent.iter().map(SilentMount::as_json).collect();
        let mut wrong: Vec<String> = silent.iter().map(SilentMount::to_string).collect();
        if mounts.is_empty() && silent.is_empty() {
            wrong.push(silence::no_mount());
        }
        for (mount, path) in mounts {
            match forget(&mount, path) {
                Ok(done) if self.json => objects.push(as_json(&mount, &done)?),
                Ok(done) => tell(&mount, &done)?,
                Err(error) => {
                    objects.push(as_json(&mount, &silence::as_json(&error))?);
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

fn tell(mount: &FoundMount, done: &Refreshed) -> anyhow::Result<()> {
    outln!(
        "{}: {} forgotten",
        plain(&mount.health.mountpoint),
        counted(done.forgotten, "name")
    )?;
    if !done.kernel_told {
        outln!("in a container the kernel is not told: it forgets after --ttl")?;
    }
    Ok(())
}

/// Has a mount ask for all below a path of it again. Errors: its.
pub fn forget(mount: &FoundMount, path: String) -> anyhow::Result<Refreshed> {
    let request = PathRequest {
        path,
        timeout_ms: None,
    };
    mount.ask(Method::POST, "/refresh", &request, WITHIN)
}
