//! The mountpoint: that it is there, and that nobody writes into it while nothing is
//! mounted on it.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, bail};
use async_trait::async_trait;

use super::plan::{Found, Lacking, Task};
use crate::config::Config;
use crate::session::{BareDirectory, MountpointError, check_mountpoint, is_read_only, mount_at};

#[derive(Debug)]
pub struct Mountpoint {
    pub config: Config,
}

#[async_trait(?Send)]
impl Task for Mountpoint {
    fn name(&self) -> &'static str {
        "mountpoint"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let path = self.config.mountpoint.display();
        match check_mountpoint(&self.config) {
            Ok(_) => Ok(Found::Done(format!("{path} can be mounted on"))),
            Err(MountpointError::AlreadyMounted { source_name, .. })
                if source_name == self.config.fsname =>
            {
                Ok(Found::Done(format!("{path} serves {source_name}")))
            }
            Err(MountpointError::Missing(_)) if self.config.mountpoint.is_symlink() => {
                bail!(
                    "mountpoint {path} is a symlink that leads nowhere: make the directory, or name another"
                )
            }
            Err(MountpointError::Missing(_)) if is_read_only(&self.config.mountpoint)? => {
                bail!("mountpoint {path} cannot be made: its file system is read-only")
            }
            Err(MountpointError::Missing(_)) => Ok(Found::ToDo(format!("make {path}"))),
            Err(error) => Err(error.into()),
        }
    }

    async fn change(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.config.mountpoint).context("it cannot be made")
    }

    fn is_needed(&self) -> bool {
        true
    }
}

/// What is written into a bare mountpoint is lost from sight when the mount comes.
#[derive(Debug)]
pub struct Guard {
    pub path: PathBuf,
}

impl Guard {
    fn bare(&self) -> io::Result<BareDirectory> {
        BareDirectory::open(&self.path)
    }
}

#[async_trait(?Send)]
impl Task for Guard {
    fn name(&self) -> &'static str {
        "guard"
    }

    async fn look(&self) -> anyhow::Result<Found> {
        let wanted =
            "make the bare directory immutable: nobody writes there while nothing is mounted";
        let skipped = |why: String| Ok(Found::Skipped(why));
        if !rustix::process::geteuid().is_root() {
            return skipped("only root makes a directory immutable".to_owned());
        }
        let bare = match self.bare() {
            Ok(bare) => bare,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Found::ToDo(wanted.to_owned()));
            }
            Err(error) => return skipped(format!("cannot look at the bare directory: {error}")),
        };
        match bare.is_immutable() {
            Ok(true) => return Ok(Found::Done("the bare directory is immutable".to_owned())),
            Ok(false) => {}
            Err(error) => return skipped(format!("its file system has no such flag ({error})")),
        }
        if mount_at(&self.path)?.is_none() && is_read_only(&self.path)? {
            return Ok(Found::Done("its file system is read-only".to_owned()));
        }
        match bare.entries()? {
            0 => Ok(Found::ToDo(wanted.to_owned())),
            count => skipped(format!("the bare directory is not empty ({count} entries)")),
        }
    }

    async fn change(&self) -> anyhow::Result<()> {
        let made = self.bare().and_then(|bare| bare.make_immutable());
        made.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "it takes CAP_LINUX_IMMUTABLE, which this container lacks".to_owned()
                }
                _ => format!("its file system refuses the flag ({error})"),
            };
            Lacking(why).into()
        })
    }
}
