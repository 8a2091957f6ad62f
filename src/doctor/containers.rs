//! Which containers bind a folder above the mountpoint, and whether the mount reaches them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::session::{MountEntry, mounts_of, processes};

/// Processes of other namespaces that are named.
const NAMED_LIMIT: usize = 3;

/// A mount namespace that has the folder above the mountpoint.
struct Container {
    pid: u32,
    program: String,
    sees: bool,
}

/// Whether the mount reaches those who bind the folder that it is in.
pub(super) fn examine(path: &Path, ours: &MountEntry, report: &mut Findings) {
    let found = match containers(path, ours) {
        Ok(found) => found,
        Err(error) => {
            report.warn(
                "containers",
                format!("cannot look into other mount namespaces: {error}"),
                "run it as root",
            );
            return;
        }
    };
    let name = |container: &Container| format!("{} (pid {})", container.program, container.pid);
    let (seeing, blind): (Vec<_>, Vec<_>) = found.iter().partition(|container| container.sees);
    if !blind.is_empty() {
        let named: Vec<String> = blind.iter().take(NAMED_LIMIT).copied().map(name).collect();
        report.fail(
            "containers",
            format!(
                "{} bind a folder above the mountpoint and do not see the mount: {}",
                blind.len(),
                named.join(", ")
            ),
            "bind the folder with propagation rslave, and start the container again; until then 'mediafs attach --pid PID PATH' puts the mount into it: 'mediafs help containers'",
        );
    } else if !seeing.is_empty() {
        report.ok("containers", format!("{} see the mount", seeing.len()));
    }
}

fn containers(path: &Path, ours: &MountEntry) -> io::Result<Vec<Container>> {
    let own = processes::mount_namespace("self")?;
    let host = mounts_of("self")?;
    let place = Place::of(path, &host)?;
    let mut found = BTreeMap::new();
    for pid in processes::pids()? {
        let process = pid.to_string();
        // A process may end meanwhile, or be another user's.
        let Ok(namespace) = processes::mount_namespace(&process) else {
            continue;
        };
        if namespace == own || found.contains_key(&namespace) {
            continue;
        }
        let Ok(entries) = mounts_of(&process) else {
            continue;
        };
        let is_copy = is_copy(&host, &entries);
        let wanted: Vec<PathBuf> = entries
            .iter()
            .filter(|entry| !(is_copy && is_of_host(&host, entry)))
            .filter_map(|entry| place.through(entry))
            .collect();
        if !wanted.is_empty() {
            let sees = wanted.iter().all(|wanted| {
                let mut here = entries.iter().filter(|entry| entry.mountpoint == *wanted);
                here.any(|entry| entry.device == ours.device)
            });
            let program = processes::name_of(pid).unwrap_or_default();
            found.insert(namespace, Container { pid, program, sees });
        }
    }
    Ok(found.into_values().collect())
}

/// Where the mountpoint is within its file system.
struct Place {
    device: String,
    path: PathBuf,
}

impl Place {
    fn of(mountpoint: &Path, host: &[MountEntry]) -> io::Result<Self> {
        let parent = mountpoint.parent().unwrap_or(mountpoint);
        let above = host
            .iter()
            .filter(|entry| parent.starts_with(&entry.mountpoint))
            .max_by_key(|entry| entry.mountpoint.as_os_str().len())
            .ok_or(io::ErrorKind::NotFound)?;
        let inside = mountpoint.strip_prefix(&above.mountpoint);
        let inside = inside.map_err(io::Error::other)?;
        Ok(Self {
            device: above.device.clone(),
            path: above.root.join(inside),
        })
    }

    /// Where the mountpoint is in a bind of itself or of a folder above it.
    fn through(&self, entry: &MountEntry) -> Option<PathBuf> {
        let inside = self.path.strip_prefix(&entry.root).ok();
        let inside = inside.filter(|_| entry.device == self.device)?;
        Some(if inside.as_os_str().is_empty() {
            entry.mountpoint.clone()
        } else {
            entry.mountpoint.join(inside)
        })
    }
}

/// Whether a namespace has the host's own root: that of a service or of unshare(1), not
/// of a container.
fn is_copy(host: &[MountEntry], entries: &[MountEntry]) -> bool {
    let root = |entries: &[MountEntry]| {
        let mut entries = entries.iter();
        let root = entries.find(|entry| entry.mountpoint == Path::new("/"))?;
        Some((root.device.clone(), root.root.clone()))
    };
    root(host) == root(entries)
}

/// A whole file system that is where the host has it: nobody has bound it.
fn is_of_host(host: &[MountEntry], entry: &MountEntry) -> bool {
    let is_same = |of_host: &MountEntry| {
        of_host.device == entry.device && of_host.mountpoint == entry.mountpoint
    };
    entry.root == Path::new("/") && host.iter().any(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(device: &str, root: &str, mountpoint: &str) -> MountEntry {
        MountEntry {
            id: 1,
            parent: 0,
            device: device.to_owned(),
            root: root.into(),
            mountpoint: mountpoint.into(),
            peer_group: None,
            master: None,
            options: Vec::new(),
            fs_type: "ext4".to_owned(),
            source: "disk".to_owned(),
        }
    }

    #[test]
    fn a_bind_of_a_whole_file_system_is_told_from_the_hosts_own_mounts() {
        let host = [entry("8:1", "/", "/"), entry("8:2", "/", "/srv")];
        let place = Place::of(Path::new("/srv/media"), &host).unwrap();
        let seen_through = |entries: &[MountEntry]| -> Vec<PathBuf> {
            let is_copy = is_copy(&host, entries);
            let bound = entries
                .iter()
                .filter(|entry| !(is_copy && is_of_host(&host, entry)));
            bound.filter_map(|entry| place.through(entry)).collect()
        };
        assert_eq!(seen_through(&host), Vec::<PathBuf>::new());
        let container = entry("0:9", "/", "/");
        let whole = [container.clone(), entry("8:2", "/", "/srv")];
        assert_eq!(seen_through(&whole), [Path::new("/srv/media")]);
        let elsewhere = [host[0].clone(), entry("8:2", "/", "/data")];
        assert_eq!(seen_through(&elsewhere), [Path::new("/data/media")]);
        let folder = [container.clone(), entry("8:2", "/media", "/media")];
        assert_eq!(seen_through(&folder), [Path::new("/media")]);
        let other = [container, entry("8:2", "/other", "/media")];
        assert_eq!(seen_through(&other), Vec::<PathBuf>::new());
    }
}
