//! By which paths a mount may be meant.

use std::path::{Path, PathBuf};

use crate::session::{FS_TYPE, mounts_of};

/// A path as it is given, and without symlinks above it.
pub fn spellings(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let given = as_given(path)?;
    let followed = without_symlinks(&given);
    Ok([Some(given), followed].into_iter().flatten().collect())
}

/// Where the mount is that a path is in, as far as this process sees it.
pub fn mountpoint_above(path: &Path) -> Option<PathBuf> {
    let mounts = mounts_of("self").ok()?.into_iter();
    let above = mounts.filter(|mount| path.starts_with(&mount.mountpoint));
    let nearest = above.max_by_key(|mount| mount.mountpoint.as_os_str().len())?;
    (nearest.fs_type == FS_TYPE).then_some(nearest.mountpoint)
}

/// Whether one of ours is mounted there, as far as this process sees it.
pub fn is_mountpoint(path: &Path) -> bool {
    let spellings = spellings(path).unwrap_or_default();
    let mounts = mounts_of("self").unwrap_or_default();
    let mut ours = mounts.iter().filter(|mount| mount.fs_type == FS_TYPE);
    ours.any(|mount| spellings.contains(&mount.mountpoint))
}

fn as_given(path: &Path) -> anyhow::Result<PathBuf> {
    Ok(std::path::absolute(path)?.components().collect())
}

/// The path itself is not looked at, which may be a mount that hangs.
fn without_symlinks(given: &Path) -> Option<PathBuf> {
    let mut above = given.ancestors().skip(1);
    above.find_map(|above| {
        let rest = given.strip_prefix(above).ok()?;
        Some(above.canonicalize().ok()?.join(rest))
    })
}
