//! By which paths a mount may be meant. No mount of ours is asked: its daemon may hang.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::session::{FS_TYPE, mounts_of};

/// As many as the kernel follows. Source: path_resolution(7).
const SYMLINKS_LIMIT: usize = 40;

/// A path as it is given, and without symlinks up to the first mount of ours.
pub fn spellings(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let given: PathBuf = std::path::absolute(path)?.components().collect();
    let ours = mountpoints();
    let followed = without_symlinks(&given, |path| ours.iter().any(|it| it == path));
    Ok([Some(given), followed].into_iter().flatten().collect())
}

/// Where the mount is that a path is in, as far as this process sees it.
pub fn mountpoint_above(path: &Path) -> Option<PathBuf> {
    let mounts = mounts_of("self").ok()?.into_iter();
    let above = mounts.filter(|mount| path.starts_with(&mount.mountpoint));
    let nearest = above.max_by_key(|mount| mount.mountpoint.as_os_str().len())?;
    (nearest.fs_type == FS_TYPE).then_some(nearest.mountpoint)
}

/// Where mounts of ours are, as far as this process sees them.
pub fn mountpoints() -> Vec<PathBuf> {
    let mounts = mounts_of("self").unwrap_or_default().into_iter();
    let ours = mounts.filter(|mount| mount.fs_type == FS_TYPE);
    ours.map(|mount| mount.mountpoint).collect()
}

/// None where symlinks lead in a circle. A name is looked at only where nothing of ours
/// is mounted: readlink(2) of a mountpoint would ask nobody, but that of a name in it does.
fn without_symlinks(given: &Path, is_ours: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut left: VecDeque<OsString> = parts(given).collect();
    let mut whole = PathBuf::from("/");
    let mut followed = 0;
    while let Some(part) = left.pop_front() {
        if part == ".." {
            whole.pop();
            continue;
        }
        let next = whole.join(&part);
        if is_ours(&next) {
            return Some(left.into_iter().fold(next, |path, part| path.join(part)));
        }
        let Ok(target) = fs::read_link(&next) else {
            whole = next;
            continue;
        };
        followed += 1;
        if followed > SYMLINKS_LIMIT {
            return None;
        }
        if target.is_absolute() {
            whole = PathBuf::from("/");
        }
        for part in parts(&target).rev() {
            left.push_front(part);
        }
    }
    Some(whole)
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn symlinks_are_followed_up_to_a_mount_and_no_further() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mount = dir.join("real/m");
        fs::create_dir_all(&mount).unwrap();
        symlink("real", dir.join("above")).unwrap();
        symlink(&mount, dir.join("link")).unwrap();
        symlink("../link", dir.join("real/second")).unwrap();
        symlink("elsewhere", mount.join("inside")).unwrap();
        symlink("circle", dir.join("circle")).unwrap();
        let whole = |path: &str| without_symlinks(&dir.join(path), |it| it == mount);
        for path in [
            "real/m",
            "above/m",
            "link",
            "above/second",
            "nosuch/../link",
        ] {
            assert_eq!(whole(path).as_ref(), Some(&mount), "{path}");
        }
        assert_eq!(whole("link/inside/x"), Some(mount.join("inside/x")));
        assert_eq!(whole("nosuch/x"), Some(dir.join("nosuch/x")));
        assert_eq!(whole("circle/x"), None);
        assert_eq!(
            without_symlinks(Path::new("/"), |_| false),
            Some("/".into())
        );
    }
}
