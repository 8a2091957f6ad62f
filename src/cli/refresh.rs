//! `mediafs refresh`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::mounts::SocketArg;
use super::shown::counted;
use crate::session::control::answers::{PathRequest, Refreshed};

/// The kernel may be slow to take what it is told.
const WITHIN: Duration = Duration::from_secs(30);

/// Forget what is known of files, so that changes of other clients show at once
///
/// Forgets a file, all below a directory, or all mounts of this user; the kernel
/// forgets it too. What S3 does not have yet stays.
#[derive(Debug, Args)]
pub struct RefreshCommand {
    /// A file or directory in a mount [default: all mounts]
    path: Option<PathBuf>,
    #[command(flatten)]
    at: SocketArg,
}

impl RefreshCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let mounts = match &self.path {
            Some(path) => vec![self.at.holding(path)?],
            None => {
                let all = self.at.all()?.into_iter();
                all.map(|mount| (mount, String::new())).collect()
            }
        };
        for (mount, path) in mounts {
            let request = PathRequest {
                path,
                timeout_ms: None,
            };
            let done: Refreshed = mount.ask(Method::POST, "/refresh", &request, WITHIN)?;
            println!(
                "{}: {} forgotten",
                mount.health.mountpoint,
                counted(done.forgotten, "name")
            );
            if !done.kernel_told {
                println!("in a container the kernel is not told: it forgets after --ttl");
            }
        }
        Ok(())
    }
}
