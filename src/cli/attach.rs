//! `mediafs attach`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::engine::{InsideArg, absolute};
use super::migrate_args::Usage;
use super::mounts::{Chosen, FoundMount, SocketArg, Wait};
use super::refresh::forget;
use super::shown::{counted, outln, plain, warning};
use super::silence;
use crate::session::{AttachPoint, Attachable, LeftBehind, MountTree};

/// Processes with open files that are named.
const NAMED_LIMIT: usize = 20;

/// Put a mount into a container that runs already
///
/// For a container that was started before the mount and does not see it: PATH, a
/// directory in the container, becomes the mount, without a restart. Files that are open
/// there stay those of the old directory; their users are listed. The container's next
/// start needs the mount as a bind, which is printed. Needs root. 'mediafs detach' takes
/// the mount out again; 'mediafs help containers' says more.
#[derive(Debug, Args)]
#[command(
    override_usage = "mediafs attach --container <NAME> [NAME|MOUNTPOINT] <PATH>
       mediafs attach --pid <N> [NAME|MOUNTPOINT] <PATH>"
)]
pub struct AttachCommand {
    /// The mount, which may be left out if there is one only, and the directory in the container
    #[arg(value_name = "MOUNT|PATH", required = true, num_args = 1..=2)]
    places: Vec<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    inside: InsideArg,
    #[command(flatten)]
    at: SocketArg,
}

/// What was done, for programs.
#[derive(Debug, Serialize)]
struct Attached {
    mountpoint: String,
    path: String,
    source: String,
    /// Nothing was to be done.
    was_attached: bool,
    /// What the container's next start needs.
    bind: String,
    open_files: Vec<OpenFiles>,
}

/// A process that keeps files open which are not seen at the path any more.
#[derive(Debug, Serialize)]
pub struct OpenFiles {
    pid: u32,
    name: String,
    count: usize,
}

impl AttachCommand {
    pub fn run(self) -> anyhow::Result<()> {
        let (mount, path) = match self.places.as_slice() {
            [mount, path] => (Some(mount.to_string_lossy()), path),
            [path] => (None, path),
            _ => return Err(Usage("give a PATH".to_owned()).into()),
        };
        let path = absolute(path)?;
        let found = self.mount(mount.as_deref())?;
        let mountpoint = Path::new(&found.health.mountpoint);
        let tree = self.inside.tree()?;
        tree.lock()?;
        let place = tree.find(path)?;
        let mount = Attachable::at(mountpoint)?;
        let was_attached = self.is_there(&tree, &place, &mount)?;
        let left = if was_attached {
            Vec::new()
        } else {
            let left = tree.attach(&mount, &place)?;
            refresh(&found);
            left
        };
        if self.json {
            let attached = Attached {
                mountpoint: mountpoint.display().to_string(),
                path: place.path.display().to_string(),
                source: mount.entry.source.clone(),
                was_attached,
                bind: volume(mountpoint, &place.path),
                open_files: open_files(left),
            };
            outln!("{}", serde_json::to_string_pretty(&attached)?)?;
        } else if was_attached {
            outln!("{}: attached already", told(&tree, &place))?;
        } else {
            let source = plain(&mount.entry.source);
            outln!("{}: attached, and shows {source}", told(&tree, &place))?;
            tell_left(&left, "the old directory")?;
        }
        if !mount.entry.options.iter().any(|it| it == "allow_other") {
            let text =
                "the mount lacks --allow-other: only its own user can use it, in containers too";
            eprintln!("{}", warning(text));
        }
        if !self.json {
            outln!("{}", bind(mountpoint, &place.path))?;
        }
        Ok(())
    }

    fn mount(&self, named: Option<&str>) -> anyhow::Result<FoundMount> {
        if let Some(named) = named {
            return self.at.named(named, Wait::ForASuccessor);
        }
        let Chosen { mut mounts, silent } = self.at.chosen(None)?;
        match mounts.pop() {
            Some((mount, _)) if mounts.is_empty() && silent.is_empty() => Ok(mount),
            last => {
                mounts.extend(last);
                let mut names: Vec<String> = mounts
                    .into_iter()
                    .map(|(mount, _)| mount.health.mountpoint)
                    .collect();
                names.extend(silent.iter().map(ToString::to_string));
                if names.is_empty() {
                    bail!("{}", silence::no_mount());
                }
                let names = names.join("\n  ");
                Err(Usage(format!(
                    "give the mount before PATH: there is more than one, or one does not answer\n  {names}"
                ))
                .into())
            }
        }
    }

    /// Whether the place is this mount already. Errors: it is another one of mediafs.
    fn is_there(
        &self,
        tree: &MountTree,
        place: &AttachPoint,
        mount: &Attachable,
    ) -> anyhow::Result<bool> {
        let Some(there) = place.ours() else {
            return Ok(false);
        };
        if (&there.device, &there.root) == (&mount.entry.device, &mount.entry.root) {
            return Ok(true);
        }
        bail!(
            "{}: another mount of mediafs is there ({}): 'mediafs detach {} {}' takes it out",
            told(tree, place),
            plain(&there.source),
            self.inside.as_given(),
            plain(&place.path.display().to_string())
        )
    }
}

/// Programs of the container may have changed what the mount knows of an old directory.
fn refresh(mount: &FoundMount) {
    if let Err(error) = forget(mount, String::new()) {
        let path = plain(&mount.health.mountpoint);
        let text = format!("{path}: what was changed before shows after --ttl: {error:#}");
        eprintln!("{}", warning(&text));
    }
}

/// A place, as a line begins with it.
pub fn told(tree: &MountTree, place: &AttachPoint) -> String {
    plain(&format!("{} in {}", place.path.display(), tree.process()))
}

/// Says who has files open that are not seen at the path any more.
pub fn tell_left(left: &[LeftBehind], of: &str) -> io::Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    outln!("these programs have files open in {of}, and keep them until they close them:")?;
    for LeftBehind { process, count } in left.iter().take(NAMED_LIMIT) {
        outln!(
            "  {}: {}",
            plain(&process.to_string()),
            counted(*count, "file")
        )?;
    }
    if let more @ 1.. = left.len().saturating_sub(NAMED_LIMIT) {
        outln!("  and {more} more")?;
    }
    Ok(())
}

/// The same for programs.
pub fn open_files(left: Vec<LeftBehind>) -> Vec<OpenFiles> {
    let left = left.into_iter();
    let open = left.map(|LeftBehind { process, count }| OpenFiles {
        pid: process.pid,
        name: process.name,
        count,
    });
    open.collect()
}

/// As podman and docker take it.
fn volume(mountpoint: &Path, path: &Path) -> String {
    format!("{}:{}:rslave", mountpoint.display(), path.display())
}

/// What the container's next start needs, in words.
fn bind(mountpoint: &Path, path: &Path) -> String {
    let volume = volume(mountpoint, path);
    let (mountpoint, path) = (mountpoint.display(), path.display());
    let text = format!(
        "a restart of the container does not bring it back: add this bind to the container
  podman or docker: -v {volume}
  compose.yml, at its volumes:
      - type: bind
        source: {mountpoint}
        target: {path}
        bind:
          propagation: rslave
          create_host_path: false
with it the container has to be restarted after each unmount on the host; a bind of a
folder above the mount, as in 'mediafs help containers', shows every later mount too"
    );
    let lines: Vec<String> = text.lines().map(plain).collect();
    lines.join("\n")
}
