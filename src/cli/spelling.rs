//! By which paths a mount may be meant. No mount of ours is asked: its daemon may hang.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::ensure;

use crate::session::{FS_TYPE, mounts_of};

/// As many as the kernel follows. Source: path_resolution(7).
const SYMLINKS_LIMIT: usize = 40;

/// A path as it is given, and without symlinks up to the first mount of ours.
///
/// Errors: `..` behind a name in a mount: nobody but its daemon could say where that is.
pub fn spellings(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let folder = std::env::current_dir();
    let given = match path.is_absolute() {
        true => path.to_owned(),
        false => folder
            .as_ref()
            .map_or_else(|_| path.to_owned(), |it| it.join(path)),
    };
    let given: PathBuf = std::path::absolute(given)?.components().collect();
    // The kernel's own words: no symlink is in it.
    let followed_already = match folder {
        Ok(folder) if !path.is_absolute() => parts(&folder).count(),
        _ => 0,
    };
    let ours = mountpoints();
    let followed = without_symlinks(&given, followed_already, |path| {
        ours.iter().any(|it| it == path)
    })?;
    // Where `..` leads is known only without symlinks before it.
    let goes_up = given.components().any(|part| part == Component::ParentDir);
    Ok([Some(given).filter(|_| !goes_up), followed]
        .into_iter()
        .flatten()
        .collect())
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
///
/// The first names are no symlinks. Errors: `..` behind another one in a mount.
fn without_symlinks(
    given: &Path,
    mut known: usize,
    is_ours: impl Fn(&Path) -> bool,
) -> anyhow::Result<Option<PathBuf>> {
    let mut left: VecDeque<OsString> = parts(given).collect();
    let mut whole = PathBuf::from("/");
    // Names that are not known to be directories, behind a mountpoint.
    let mut unseen = 0_usize;
    let mut followed = 0;
    while let Some(part) = left.pop_front() {
        let is_known = known > 0;
        known = known.saturating_sub(1);
        if part == ".." {
            ensure!(
                unseen == 0,
                "{}: '..' behind a name in a mount may lead anywhere, if that is a symlink: name the path without it",
                given.display()
            );
            whole.pop();
            continue;
        }
        let next = whole.join(&part);
        if whole.ancestors().any(&is_ours) {
            unseen += usize::from(!is_known);
            whole = next;
            continue;
        }
        let target = match is_ours(&next) {
            false => fs::read_link(&next).ok(),
            true => None,
        };
        let Some(target) = target else {
            whole = next;
            continue;
        };
        followed += 1;
        if followed > SYMLINKS_LIMIT {
            return Ok(None);
        }
        if target.is_absolute() {
            whole = PathBuf::from("/");
        }
        for part in parts(&target).rev() {
            left.push_front(part);
        }
    }
    Ok(Some(whole))
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
        let whole = |path: &str| without_symlinks(&dir.join(path), 0, |it| it == mount).unwrap();
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
            without_symlinks(Path::new("/"), 0, |_| false).unwrap(),
            Some("/".into())
        );
    }

    #[test]
    fn parent_directories_are_where_the_kernel_has_them_or_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mount = dir.join("real/m");
        fs::create_dir_all(&mount).unwrap();
        fs::create_dir(dir.join("other")).unwrap();
        symlink("real/m", dir.join("link")).unwrap();
        let at = |path: &str, known| without_symlinks(&dir.join(path), known, |it| it == mount);
        for (path, expected) in [
            ("real/m/../x", "real/x"),
            ("link/..", "real"),
            ("link/../../other/f", "other/f"),
            ("other/../real/m/f", "real/m/f"),
            ("real/m/../m/f", "real/m/f"),
        ] {
            assert_eq!(at(path, 0).unwrap(), Some(dir.join(expected)), "{path}");
        }
        let told = at("link/d/../f", 0).unwrap_err().to_string();
        assert!(told.contains("'..'"), "{told}");
        // The folder that a process is in is no symlink.
        let known = parts(&dir).count() + 3;
        assert_eq!(at("real/m/d/../f", known).unwrap(), Some(mount.join("f")));
        assert!(at("real/m/d/e/../f", known).is_err());
    }
}
