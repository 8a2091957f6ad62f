//! `mediafs detach`.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::attach::{OpenFiles, open_files, tell_left, told};
use super::engine::{InsideArg, absolute};
use super::migrate_args::Usage;
use super::shown::{outln, plain};
use crate::session::MountTree;

/// Take a mount out of a container that runs
///
/// What PATH was before is seen again. Files that are open in the mount stay usable as
/// long as it serves; their users are listed. Works without the mount's daemon. Needs
/// root.
#[derive(Debug, Args)]
#[command(override_usage = "mediafs detach --container <NAME> [PATH]
       mediafs detach --pid <N> [PATH]")]
pub struct DetachCommand {
    /// Where it is in the container [default: the only mount of mediafs there]
    path: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inside: InsideArg,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Detached {
    path: String,
    open_files: Vec<OpenFiles>,
}

impl DetachCommand {
    pub fn run(self) -> anyhow::Result<()> {
        if let Some(path) = &self.path {
            absolute(path)?;
        }
        let tree = self.inside.tree()?;
        tree.lock()?;
        let path = match self.path {
            Some(path) => path,
            None => only(&tree)?,
        };
        let place = tree.find(&path)?;
        let Some(mount) = place.ours() else {
            bail!("{}: no mount of mediafs", told(&tree, &place));
        };
        let left = tree.detach(mount, &place)?;
        if self.json {
            let detached = Detached {
                path: place.path.display().to_string(),
                open_files: open_files(left),
            };
            outln!("{}", serde_json::to_string_pretty(&detached)?)?;
        } else {
            outln!("{}: detached", told(&tree, &place))?;
            tell_left(&left, "the mount")?;
        }
        Ok(())
    }
}

/// Errors: there is none; `Usage` where there are several.
fn only(tree: &MountTree) -> anyhow::Result<PathBuf> {
    let mut paths: Vec<PathBuf> = tree.ours()?.into_iter().map(|it| it.mountpoint).collect();
    paths.sort();
    paths.dedup();
    match paths.as_slice() {
        [] => bail!(
            "{} has no mount of mediafs: 'mediafs attach' puts one there",
            plain(&tree.process().to_string())
        ),
        [path] => Ok(path.clone()),
        [..] => {
            let paths: Vec<String> = paths
                .iter()
                .map(|it| plain(&it.display().to_string()))
                .collect();
            let paths = paths.join("\n  ");
            Err(Usage(format!(
                "there is more than one mount of mediafs: name its PATH\n  {paths}"
            ))
            .into())
        }
    }
}
