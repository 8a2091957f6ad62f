//! The mountpoint: what is mounted, what it hides, and which containers see it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Report, shown};
use crate::config::Config;
use crate::session::{
    BareDirectory, FS_TYPE, MountEntry, MountpointError, NonEmpty, check_mountpoint, mount_at,
    mounts_of, processes, told_hidden,
};

/// Processes of other namespaces that are named.
const NAMED_LIMIT: usize = 3;

pub(super) fn examine(config: &Config, report: &mut Report) {
    let path = &config.mountpoint;
    let mounted = match check_mountpoint(path, NonEmpty::Refuse) {
        Ok(path) => {
            report.ok("mountpoint", format!("{} can be mounted on", shown(&path)));
            None
        }
        Err(MountpointError::AlreadyMounted { fs_type, .. }) if fs_type == FS_TYPE => {
            let entry = mount_at(path).ok().flatten();
            let source = entry.as_ref().map(|entry| entry.source.as_str());
            let source = source.unwrap_or_default();
            report.ok("mountpoint", format!("{} serves {source}", shown(path)));
            entry
        }
        Err(error) => {
            let advice = match error {
                MountpointError::NotEmpty(_) => {
                    "move the files away, or import them into the bucket"
                }
                _ => "do what it says",
            };
            report.fail("mountpoint", error.to_string(), advice);
            None
        }
    };
    if let Some(entry) = mounted {
        stacked(path, report);
        hidden(path, report);
        namespaces(path, &entry, report);
    }
}

/// Whether one mount lies on another.
fn stacked(path: &Path, report: &mut Report) {
    let Ok(entries) = mounts_of("self") else {
        return;
    };
    let here = entries.iter().filter(|entry| entry.mountpoint == path);
    let here: Vec<&str> = here.map(|entry| entry.source.as_str()).collect();
    if here.len() > 1 {
        report.warn(
            "mounts",
            format!("{} mounts on each other: {}", here.len(), here.join(", ")),
            format!("umount {} until one is left", path.display()),
        );
    }
}

/// Files in the bare directory that the mount hides.
fn hidden(path: &Path, report: &mut Report) {
    match BareDirectory::open(path).and_then(|bare| bare.entries()) {
        Ok(0) => report.ok("hidden files", "none under the mount"),
        Ok(count) => report.warn(
            "hidden files",
            told_hidden(path, count),
            "write nothing there while nothing is mounted: 'mediafs setup' makes the directory immutable",
        ),
        // Looking under a mount takes root.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => report.warn(
            "hidden files",
            format!("cannot look under the mount: {error}"),
            "run it as root",
        ),
    }
}

/// A mount namespace that has the folder above the mountpoint.
struct Container {
    pid: u32,
    program: String,
    sees: bool,
}

/// Whether the mount reaches those who bind the folder that it is in.
fn namespaces(path: &Path, ours: &MountEntry, report: &mut Report) {
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
    let place = Place::of(path)?;
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
        let wanted: Vec<PathBuf> = entries
            .iter()
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
    fn of(mountpoint: &Path) -> io::Result<Self> {
        let parent = mountpoint.parent().unwrap_or(mountpoint);
        let entries = mounts_of("self")?;
        let above = entries
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

    /// Where the mountpoint is in a bind of itself or of a folder above it. A bind of the
    /// whole file system is a container's own root.
    fn through(&self, entry: &MountEntry) -> Option<PathBuf> {
        let is_bind = entry.device == self.device && entry.root != Path::new("/");
        let inside = self.path.strip_prefix(&entry.root).ok();
        let inside = inside.filter(|_| is_bind)?;
        Some(if inside.as_os_str().is_empty() {
            entry.mountpoint.clone()
        } else {
            entry.mountpoint.join(inside)
        })
    }
}
