//! Checks before mounting: each failure with what to do about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

use super::mount::FS_TYPE;
use super::mountinfo::mount_at;

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
        "{path} is a mount whose daemon is gone ({source_name}): clear it with 'umount -l {path}' or 'fusermount3 -uz {path}'"
    )]
    Dead { path: PathBuf, source_name: String },
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

/// Takes away what an earlier daemon of ours has left, if nothing serves it any more.
///
/// For a service, which is started again without anybody who could do it.
pub fn clear_dead(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let ours = mount_at(&path)?.is_some_and(|entry| entry.fs_type == FS_TYPE);
    let dead = ours && is_dead(&path);
    if dead {
        tracing::warn!(path = %path.display(), "the daemon of this mount is gone: mounting anew");
        rustix::mount::unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

fn is_dead(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotConnected)
}

fn refuse_mounted(path: &Path) -> Result<(), MountpointError> {
    let io_error = |source| MountpointError::Io {
        path: path.to_owned(),
        source,
    };
    let Some(entry) = mount_at(path).map_err(io_error)? else {
        return Ok(());
    };
    let path = path.to_owned();
    if is_dead(&path) {
        return Err(MountpointError::Dead {
            path,
            source_name: entry.source,
        });
    }
    Err(MountpointError::AlreadyMounted {
        path,
        source_name: entry.source,
        fs_type: entry.fs_type,
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
