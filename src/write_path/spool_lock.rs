//! The spool's lock: one daemon at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::lock_owner::is_beyond_return;
use super::spool_error::SpoolError;
use crate::private;

const LOCK_NAME: &str = "lock";

/// A spool that no other process uses as long as this lives.
#[derive(Debug)]
pub struct SpoolLock {
    dir: PathBuf,
    file: File,
}

impl SpoolLock {
    /// Makes the spool's directory where there is none. Errors: `InUse`, `Io`.
    pub fn take(path: &Path) -> Result<Self, SpoolError> {
        private::directory(path)?;
        Ok(Self {
            dir: path.to_owned(),
            file: lock(path)?,
        })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes it also from an owner that was killed and does not end, because a thread
    /// of it waits in the kernel. Errors: `InUse`, `Io`.
    pub fn take_from_dead(path: &Path) -> Result<Self, SpoolError> {
        let io_error = |source| SpoolError::Io {
            path: path.to_owned(),
            source,
        };
        // One at a time: each decides by the lock that it takes away.
        let alone = File::open(path).map_err(io_error)?;
        rustix::fs::flock(&alone, FlockOperation::LockExclusive)
            .map_err(|error| io_error(error.into()))?;
        match Self::take(path) {
            Err(SpoolError::InUse { pid, .. }) if is_beyond_return(&pid) => {
                fs::remove_file(path.join(LOCK_NAME)).map_err(io_error)?;
                Self::take(path)
            }
            outcome => outcome,
        }
    }
}

impl Drop for SpoolLock {
    /// A close alone would leave it locked while a process that was just forked has a
    /// copy of the descriptor, which is until its execve(2).
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(%error, "the spool's lock was not released before its close");
        }
    }
}

fn lock(spool: &Path) -> Result<File, SpoolError> {
    let io_error = |source| SpoolError::Io {
        path: spool.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let path = spool.join(LOCK_NAME);
    let mut file = private::open(&path, &options).map_err(io_error)?;
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
    // A lock that was taken away from its owner meanwhile counts for nothing.
    let is_in_place = fs::symlink_metadata(&path).map_err(io_error)?.ino()
        == file.metadata().map_err(io_error)?.ino();
    if !locked || !is_in_place {
        let mut pid = String::new();
        if let Err(error) = file.read_to_string(&mut pid) {
            tracing::debug!(%error, "pid of the spool's owner unknown");
        }
        return Err(SpoolError::InUse {
            path: spool.to_owned(),
            pid: pid.lines().next().unwrap_or_default().trim().to_owned(),
        });
    }
    if let Err(error) = note_pid(&file) {
        // What counts is the lock.
        tracing::warn!(path = %path.display(), %error, "the spool's lock does not tell the process id");
    }
    Ok(file)
}

/// Over the one before, in the block that the file has: a full disk is enough.
fn note_pid(file: &File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.write_all_at(text.as_bytes(), 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::SpoolLock;
    use crate::write_path::Spool;

    #[test]
    fn two_daemons_cannot_share_a_spool() {
        let dir = tempfile::tempdir().unwrap();
        let (first, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let error = Spool::open(dir.path(), u64::MAX).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(Spool::open(dir.path(), u64::MAX).is_ok());
    }

    #[test]
    fn a_lock_is_released_though_a_copy_of_its_descriptor_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let lock = SpoolLock::take(dir.path()).unwrap();
        let copy = lock.file.try_clone().unwrap();
        drop(lock);
        SpoolLock::take(dir.path()).unwrap();
        drop(copy);
    }
}
