//! The spool: a local directory that holds every byte until S3 has it.
//!
//! ```text
//! spool/lock         held by the one daemon that uses the spool
//! spool/stage/ID     staged bytes
//! spool/lost+found/  bytes that could not be uploaded, each with a sidecar
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use super::lost_found::{LostFound, LostReason};
use crate::store::Key;

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error(
        "spool {path} is in use by another mediafs (pid {pid}): unmount that one first, or choose another --spool"
    )]
    InUse { path: PathBuf, pid: String },
    #[error("spool {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// An open spool.
#[derive(Debug)]
pub struct Spool {
    stage_dir: PathBuf,
    lost_found: LostFound,
    next_id: AtomicU64,
    /// Locked for as long as it is open.
    _lock: File,
}

/// The local file of one stage.
///
/// It stays on disk until `Spool::discard`: what a crash leaves is found at the next start.
#[derive(Debug)]
pub struct StageFile {
    file: File,
    path: PathBuf,
}

impl StageFile {
    pub(super) fn handle(&self) -> &File {
        &self.file
    }
}

impl Spool {
    /// Opens a spool for this process alone, makes it where there is none, and
    /// keeps what an earlier process left in lost+found.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let io_error = |source| SpoolError::Io {
            path: path.to_owned(),
            source,
        };
        let stage_dir = path.join("stage");
        make_private_dir(path).map_err(io_error)?;
        make_private_dir(&stage_dir).map_err(io_error)?;
        let lock = lock(path)?;
        let lost_found = LostFound::open(&path.join("lost+found")).map_err(io_error)?;
        let spool = Self {
            stage_dir,
            lost_found,
            next_id: AtomicU64::new(first_id()),
            _lock: lock,
        };
        spool.keep_leftovers().map_err(io_error)?;
        Ok(spool)
    }

    /// A new empty stage file.
    pub fn create(&self) -> io::Result<Arc<StageFile>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let path = self.stage_dir.join(format!("{id:016x}"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Arc::new(StageFile { file, path }))
    }

    /// Removes a stage file: its bytes are in S3, or nobody wants them any more.
    ///
    /// Readers that still hold it go on.
    pub fn discard(&self, file: &StageFile) {
        if let Err(error) = fs::remove_file(&file.path) {
            tracing::warn!(path = %file.path.display(), %error, "stage not removed");
        }
    }

    /// Keeps the bytes of a stage that could not be uploaded.
    pub fn keep(&self, file: &StageFile, key: Option<&Key>, reason: &LostReason) {
        match self.lost_found.take(&file.path, key, reason) {
            Ok(kept) => tracing::error!(
                path = %kept.display(), key = key.map(Key::as_str), %reason, "not in S3: bytes kept"
            ),
            Err(error) => tracing::error!(
                path = %file.path.display(), %error, "not in S3: bytes stay in the spool"
            ),
        }
    }

    fn keep_leftovers(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.stage_dir)? {
            let path = entry?.path();
            let kept = self
                .lost_found
                .take(&path, None, &LostReason::DaemonEnded)?;
            tracing::warn!(path = %kept.display(), "an earlier mediafs ended before these bytes were in S3");
        }
        Ok(())
    }
}

/// Names of stages differ between runs, so that lost+found never has two of one name.
fn first_id() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64) << 8
}

pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn lock(spool: &Path) -> Result<File, SpoolError> {
    let io_error = |source| SpoolError::Io {
        path: spool.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    let mut file = options.open(spool.join("lock")).map_err(io_error)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        if let Err(error) = file.read_to_string(&mut pid) {
            tracing::debug!(%error, "pid of the spool's owner unknown");
        }
        return Err(SpoolError::InUse {
            path: spool.to_owned(),
            pid: pid.trim().to_owned(),
        });
    }
    file.set_len(0).map_err(io_error)?;
    writeln!(file, "{}", std::process::id()).map_err(io_error)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_daemons_cannot_share_a_spool() {
        let dir = tempfile::tempdir().unwrap();
        let first = Spool::open(dir.path()).unwrap();
        let error = Spool::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(Spool::open(dir.path()).is_ok());
    }

    #[test]
    fn what_a_crash_left_is_kept_in_lost_and_found() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let stage = spool.create().unwrap();
        std::os::unix::fs::FileExt::write_all_at(stage.handle(), b"precious", 0).unwrap();
        drop((stage, spool));
        Spool::open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("stage")).unwrap().count(), 0);
        let kept: Vec<_> = fs::read_dir(dir.path().join("lost+found"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_none())
            .collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(fs::read(&kept[0]).unwrap(), b"precious");
    }
}
