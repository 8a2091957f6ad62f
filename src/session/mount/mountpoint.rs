//! Checks before mounting: each failure with what to do about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::UnmountFlags;

use crate::session::mount::FS_TYPE;
use crate::session::mount::connection::Connection;
use crate::session::mount::mountinfo::mount_at;
use crate::session::mount::probe::{self, Answer};

/// A kernel without a daemon behind it says so at once.
const DEAD_WITHIN: Duration = Duration::from_secs(1);
/// A daemon that is asked by a person has as long as at its control socket.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

/// Why a directory cannot be mounted on.
#[derive(Debug, thiserror::Error)]
pub enum MountpointError {
    #[error("mountpoint {0} does not exist: create it with 'mkdir -p {0}'")]
    Missing(PathBuf),
    #[error("mountpoint {0} is not a directory: choose a directory")]
    NotADirectory(PathBuf),
    #[error(
        "{path} is already mounted ({source_name}, type {fs_type}): unmount it with 'umount {path}' first"
    )]
    AlreadyMounted {
        path: PathBuf,
        source_name: String,
        fs_type: String,
    },
    #[error(
        "{path} is a mount whose daemon is gone ({source_name}): clear it with 'umount -l {path}' or 'fusermount3 -uz {path}', then mount again"
    )]
    Dead { path: PathBuf, source_name: String },
    #[error(
        "{path} is a mount whose daemon does not answer ({source_name}): end that daemon, or clear it with 'umount -f {path}'"
    )]
    Silent { path: PathBuf, source_name: String },
    #[error(
        "mountpoint {0} is not empty: a mount would hide what is in it; move it away, or pass --allow-non-empty"
    )]
    NotEmpty(PathBuf),
    #[error("mountpoint {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// Whether files already in the mountpoint may be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonEmpty {
    Refuse,
    Allow,
}

/// Resolves a mountpoint to its canonical path and checks that it can be mounted on.
pub fn check(path: &Path, non_empty: NonEmpty) -> Result<PathBuf, MountpointError> {
    let io_error = |source| MountpointError::Io {
        path: path.to_owned(),
        source,
    };
    let absolute = std::path::absolute(path).map_err(io_error)?;
    // Before anything looks into it: a dead mount answers no stat.
    refuse_mounted(&absolute)?;
    let canonical = match fs::canonicalize(&absolute) {
        Ok(canonical) => canonical,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(MountpointError::Missing(absolute));
        }
        Err(error) => return Err(io_error(error)),
    };
    refuse_mounted(&canonical)?;
    if !fs::metadata(&canonical).map_err(io_error)?.is_dir() {
        return Err(MountpointError::NotADirectory(canonical));
    }
    if non_empty == NonEmpty::Refuse && fs::read_dir(&canonical).map_err(io_error)?.next().is_some()
    {
        return Err(MountpointError::NotEmpty(canonical));
    }
    Ok(canonical)
}

/// A mount of ours there whose daemon is gone, with what to do about it.
pub fn dead_at(path: &Path) -> Option<MountpointError> {
    let broken = broken_within(path, DEAD_WITHIN);
    broken.filter(|error| matches!(error, MountpointError::Dead { .. }))
}

/// The same of one whose daemon does not answer, too.
pub fn broken_at(path: &Path) -> Option<MountpointError> {
    broken_within(path, SAYS_WITHIN)
}

fn broken_within(path: &Path, within: Duration) -> Option<MountpointError> {
    let entry = mount_at(path).ok()?.filter(|it| it.fs_type == FS_TYPE)?;
    let (path, source_name) = (path.to_owned(), entry.source);
    match probe::ask_within(&path, within).ok()? {
        Answer::Dead => Some(MountpointError::Dead { path, source_name }),
        Answer::Silent => Some(MountpointError::Silent { path, source_name }),
        Answer::Serves => None,
    }
}

/// Takes away what a predecessor of ours has left, if nothing serves it any more.
///
/// For a service, which is started again without anybody who could do it.
pub fn clear_dead(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let Some(entry) = mount_at(&path)?.filter(|entry| entry.fs_type == FS_TYPE) else {
        return Ok(());
    };
    match probe::ask(&path)? {
        Answer::Serves => return Ok(()),
        Answer::Dead => {
            tracing::warn!(path = %path.display(), "the daemon of this mount is gone: mounting again");
        }
        Answer::Silent => {
            tracing::error!(path = %path.display(), "no daemon serves this mount: aborting its connection (programs that wait for it get ENOTCONN) and mounting again");
            let connection = Connection::open(&entry.device);
            // Where it went meanwhile, the number may be another mount's.
            if mount_at(&path)?.is_some_and(|now| now.id == entry.id) {
                connection.abort();
            }
        }
    }
    rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    Ok(())
}

fn refuse_mounted(path: &Path) -> Result<(), MountpointError> {
    let io_error = |source| MountpointError::Io {
        path: path.to_owned(),
        source,
    };
    let Some(entry) = mount_at(path).map_err(&io_error)? else {
        return Ok(());
    };
    let (path, source_name) = (path.to_owned(), entry.source);
    // Of other file systems only what the table says.
    let answer = if entry.fs_type.starts_with("fuse") {
        probe::ask(&path).map_err(io_error)?
    } else {
        Answer::Serves
    };
    Err(match answer {
        Answer::Dead => MountpointError::Dead { path, source_name },
        Answer::Silent => MountpointError::Silent { path, source_name },
        Answer::Serves => MountpointError::AlreadyMounted {
            path,
            source_name,
            fs_type: entry.fs_type,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unsuitable_mountpoint_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(
            check(&missing, NonEmpty::Refuse),
            Err(MountpointError::Missing(_))
        ));
        let file = dir.path().join("file");
        fs::write(&file, b"x").unwrap();
        assert!(matches!(
            check(&file, NonEmpty::Refuse),
            Err(MountpointError::NotADirectory(_))
        ));
        assert!(matches!(
            check(dir.path(), NonEmpty::Refuse),
            Err(MountpointError::NotEmpty(_))
        ));
        assert!(check(dir.path(), NonEmpty::Allow).is_ok());
        let root = Path::new("/");
        assert!(matches!(
            check(root, NonEmpty::Allow),
            Err(MountpointError::AlreadyMounted { .. })
        ));
    }
}
