//! What a node keeps of a volume that no pod has any more.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::host;
use crate::write_path::{SpoolError, SpoolView};

/// A folder for each volume, as `CacheDirectory=`.
const CACHES: &str = "/var/cache/mediafs/csi";
/// The cache of a volume is kept for the next pod so long.
const CACHES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Removes the folder of a volume, unless something of its spool is in S3 not yet or is kept.
pub fn forget(volume: &str, folder: &Path) {
    let is_of_no_use = match SpoolView::at(&folder.join("spool")) {
        Ok(spool) => spool.is_of_no_use(),
        Err(SpoolError::NotASpool(_)) => Ok(true),
        Err(error) => Err(error),
    };
    match is_of_no_use {
        Ok(true) => match fs::remove_dir_all(folder) {
            Ok(()) => released(volume),
            Err(error) => tracing::warn!(volume, %error, "an empty spool cannot be removed"),
        },
        Ok(false) => {
            tracing::warn!(
                volume,
                "the spool has bytes that wait for the next pod, or lost bytes: see 'mediafs spool list'"
            );
        }
        Err(error) => tracing::warn!(volume, %error, "the spool is kept"),
    }
}

/// The volume has no state on this node any more: its cache is kept for a while.
fn released(volume: &str) {
    let touched = File::open(Path::new(CACHES).join(volume))
        .and_then(|cache| cache.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(volume, %error, "no cache");
    }
    remove_old_caches(Path::new(CACHES), Path::new(host::STATE));
}

/// Removes caches of volumes that no pod has had for long.
fn remove_old_caches(caches: &Path, state: &Path) {
    for cache in fs::read_dir(caches).into_iter().flatten().flatten() {
        let age = cache.metadata().and_then(|it| it.modified());
        let age = age.map(|at| at.elapsed().unwrap_or_default());
        let is_used = state.join(cache.file_name()).exists();
        if is_used || age.is_ok_and(|age| age < CACHES_KEPT) {
            continue;
        }
        let path = cache.path();
        match fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!(path = %path.display(), "removed the cache of a volume that no pod has had for long")
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an old cache cannot be removed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_of_a_volume_goes_once_no_pod_has_had_it_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let (caches, state) = (dir.path().join("caches"), dir.path().join("state"));
        for name in ["old", "new", "used"] {
            fs::create_dir_all(caches.join(name).join("blocks")).unwrap();
            let age = if name == "new" {
                CACHES_KEPT / 2
            } else {
                CACHES_KEPT * 2
            };
            let cache = File::open(caches.join(name)).unwrap();
            cache.set_modified(SystemTime::now() - age).unwrap();
        }
        fs::create_dir_all(state.join("used")).unwrap();
        remove_old_caches(&caches, &state);
        let left = ["old", "new", "used"].map(|name| caches.join(name).exists());
        assert_eq!(left, [false, true, true]);
        remove_old_caches(&dir.path().join("none"), &state);
    }
}
