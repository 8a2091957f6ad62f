//! A directory that `mediafs unmount --materialize` had mounted below the mount when it was
//! killed: it lacks what was written since, and whoever ends the mount must not leave it
//! in the mount's place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::shown::plain;
use crate::private;
use crate::session::control::answers::Status;
use crate::session::uncover;

const FILE: &str = "materialize";

/// What the spool has of a directory that is about to take the mount's place.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    directory: PathBuf,
    /// Another mount of the same spool may lie over the directory on purpose.
    mounted_unix_seconds: u64,
}

/// The note of a mount.
#[derive(Debug)]
pub struct LeftBelow {
    path: PathBuf,
    mounted_unix_seconds: u64,
}

impl LeftBelow {
    pub fn of(status: &Status) -> Self {
        Self {
            path: Path::new(&status.spool.dir).join(FILE),
            mounted_unix_seconds: status.mounted_unix_seconds,
        }
    }

    /// To be called before the directory is mounted. Errors: the disk's.
    pub fn note(&self, directory: &Path) -> io::Result<()> {
        let note = Note {
            directory: directory.to_owned(),
            mounted_unix_seconds: self.mounted_unix_seconds,
        };
        private::replace(&self.path, &serde_json::to_vec(&note)?)
    }

    /// It is in the mount's place, or not mounted.
    pub fn forget(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.path.display(), "cannot be removed");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// The directory that may lie below the mount.
    pub fn directory(&self) -> Option<PathBuf> {
        let note: Note = serde_json::from_slice(&private::read(&self.path).ok()?).ok()?;
        (note.mounted_unix_seconds == self.mounted_unix_seconds).then_some(note.directory)
    }
}

/// Whoever looks at the mountpoint is not to see what a directory was before.
pub fn uncovered(directory: &Path, mountpoint: &str) -> anyhow::Result<()> {
    let shown = directory.display();
    let was_there = take_away(directory, Path::new(mountpoint)).with_context(|| {
        format!("{mountpoint}: {shown} is there, which lacks the last changes: 'umount {mountpoint}' takes it away")
    })?;
    if was_there {
        let told = format!(
            "{mountpoint}: {shown} had been left below the mount by an 'unmount --materialize' that was killed: taken away"
        );
        eprintln!("{}", plain(&told));
    }
    Ok(())
}

/// Takes a directory away that is seen at the mountpoint, now that the mount is gone.
/// Returns whether it was. Errors: the kernel's.
fn take_away(directory: &Path, mountpoint: &Path) -> io::Result<bool> {
    match uncover(directory, mountpoint) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        taken => taken,
    }
}
