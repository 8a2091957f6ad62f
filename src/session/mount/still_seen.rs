//! Who still sees a directory that a mount of this namespace covers: containers that were
//! started before it, with private propagation.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use super::elsewhere::Seen;
use super::mountinfo::{MountEntry, mounts_of, topmost};
use super::processes::{Process, link_of, mount_id, name_of, pids};

/// A directory of a file system.
#[derive(Debug, Clone)]
pub struct CoveredDirectory {
    device: String,
    /// In its file system.
    path: PathBuf,
}

impl CoveredDirectory {
    /// Errors: it is on no mount of this namespace.
    pub fn of(directory: BorrowedFd) -> io::Result<Self> {
        let (id, path) = (mount_id(directory)?, link_of(directory)?);
        let entry = mounts_of("self")?.into_iter().find(|entry| entry.id == id);
        let entry = entry.ok_or(io::ErrorKind::NotFound)?;
        let below = path.strip_prefix(&entry.mountpoint);
        let path = entry.root.join(below.map_err(io::Error::other)?);
        let device = entry.device;
        Ok(Self { device, path })
    }

    /// The places of other mount namespaces at which programs may write to it, or to a part
    /// of it.
    pub fn seen(&self) -> Vec<Seen> {
        let own = mounts_of("self").unwrap_or_default();
        let mut known: BTreeSet<u64> = own.iter().map(|entry| entry.id).collect();
        let mut found = Vec::new();
        for pid in pids().into_iter().flatten() {
            // It may have ended meanwhile.
            let entries = mounts_of(&pid.to_string()).unwrap_or_default();
            for entry in &entries {
                if !known.insert(entry.id) {
                    continue;
                }
                if let Some(mountpoint) = self.shown_by(entry, &entries) {
                    let name = name_of(pid).unwrap_or_default();
                    let mut entry = entry.clone();
                    entry.mountpoint = mountpoint;
                    found.push(Seen {
                        process: Some(Process { pid, name }),
                        entry,
                        below: None,
                    });
                }
            }
        }
        found
    }

    /// Where a mount shows it to who may write, unless another mount covers that.
    fn shown_by(&self, entry: &MountEntry, all: &[MountEntry]) -> Option<PathBuf> {
        let is_read_only = entry.options.iter().any(|option| option == "ro");
        if entry.device != self.device || is_read_only {
            return None;
        }
        let shown = match self.path.strip_prefix(&entry.root) {
            Ok(below) if below.as_os_str().is_empty() => entry.mountpoint.clone(),
            Ok(below) => entry.mountpoint.join(below),
            Err(_) if entry.root.starts_with(&self.path) => entry.mountpoint.clone(),
            Err(_) => return None,
        };
        let leads_to = leads_into(all, &shown)?;
        (leads_to == entry.id).then_some(shown)
    }
}

/// The mount that a path leads into.
fn leads_into(entries: &[MountEntry], path: &Path) -> Option<u64> {
    let above = entries.iter().map(|entry| entry.mountpoint.as_path());
    let above = above.filter(|mountpoint| path.starts_with(mountpoint));
    let nearest = above.max_by_key(|mountpoint| mountpoint.components().count())?;
    Some(topmost(entries.to_vec(), nearest)?.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mount::mountinfo::parse;

    fn entries(lines: &[&str]) -> Vec<MountEntry> {
        let lines = lines.iter().map(|line| parse(line.as_bytes()).unwrap());
        lines.collect()
    }

    fn shown(lines: &[&str]) -> Vec<String> {
        let covered = CoveredDirectory {
            device: "8:1".to_owned(),
            path: "/srv/media".into(),
        };
        let all = entries(lines);
        let shown = all.iter().filter_map(|entry| covered.shown_by(entry, &all));
        shown.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_bind_of_the_directory_of_what_is_above_and_of_what_is_below_it_shows_it() {
        let root = "1 0 0:30 / / rw - overlay overlay rw";
        let of = |bind: &str| shown(&[root, bind]);
        assert_eq!(of("2 1 8:1 /srv/media /m rw - ext4 d rw"), ["/m"]);
        assert_eq!(of("2 1 8:1 / /host rw - ext4 d rw"), ["/host/srv/media"]);
        assert_eq!(of("2 1 8:1 /srv/media/a /a rw - ext4 d rw"), ["/a"]);
        assert!(of("2 1 8:1 /srv/mediation /m rw - ext4 d rw").is_empty());
        assert!(of("2 1 8:2 /srv/media /m rw - ext4 d rw").is_empty());
        assert!(of("2 1 8:1 /srv/media /m ro - ext4 d rw").is_empty());
    }

    #[test]
    fn one_that_a_mount_covers_does_not() {
        let (root, bind) = (
            "1 0 8:1 / / rw - ext4 d rw",
            "2 1 8:1 /srv /s rw - ext4 d rw",
        );
        assert_eq!(shown(&[root, bind]), ["/srv/media", "/s/media"]);
        let ours = "3 1 0:40 / /srv/media rw - fuse.mediafs b rw";
        assert_eq!(shown(&[root, bind, ours]), ["/s/media"]);
        let attached = "4 2 0:40 / /s/media rw - fuse.mediafs b rw";
        assert!(shown(&[root, bind, ours, attached]).is_empty());
    }
}
