//! Who has files open in what is not seen at a path any more: in an old directory under
//! a mount, or in a mount that is taken out.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::mountinfo::MountEntry;
use super::processes::{
    Process, descriptors, link_of, mapped_files, mount_id, mount_id_in, mount_namespace, name_of,
    pids,
};

const WALK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A process that has files open in what is not seen at a path any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftBehind {
    pub process: Process,
    /// Files, directories and maps.
    pub count: usize,
}

/// What is looked for among open files.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Of this mount.
    In(&'a MountEntry),
    /// Below a path, but not in this mount.
    Below(&'a Path, &'a MountEntry),
}

/// Processes of the mount namespace of one that have such files open. The file system is
/// not asked: its daemon may be dead. Paths are as /proc tells them to this process.
pub fn left_behind(of: u32, wanted: Wanted) -> io::Result<Vec<LeftBehind>> {
    let namespace = mount_namespace(&of.to_string())?;
    let there = pids()?.filter(|pid| {
        let own = mount_namespace(&pid.to_string());
        own.is_ok_and(|own| own == namespace)
    });
    let found = there.filter_map(|pid| {
        let count = count_of(pid, wanted);
        let name = name_of(pid).filter(|_| count > 0)?;
        let process = Process { pid, name };
        Some(LeftBehind { process, count })
    });
    Ok(found.collect())
}

impl Wanted<'_> {
    fn takes(self, path: &Path, is_in: impl Fn(&MountEntry) -> bool) -> bool {
        match self {
            Self::In(mount) => is_in(mount),
            Self::Below(place, mount) => path.starts_with(place) && !is_in(mount),
        }
    }
}

/// How many such files a process has open, is in, or has mapped.
fn count_of(pid: u32, wanted: Wanted) -> usize {
    let open = descriptors(pid).filter(|(number, path)| {
        let id = mount_id_in(&format!("/proc/{pid}/fdinfo/{number}"));
        wanted.takes(path, |mount| id.as_ref().is_ok_and(|id| *id == mount.id))
    });
    let places = ["cwd", "root", "exe"].into_iter().filter(|name| {
        let place = openat(CWD, format!("/proc/{pid}/{name}"), WALK, Mode::empty());
        let Ok(place) = place else { return false };
        let (Ok(path), Ok(id)) = (link_of(place.as_fd()), mount_id(place.as_fd())) else {
            return false;
        };
        wanted.takes(&path, |mount| id == mount.id)
    });
    let mut mapped = mapped_files(pid);
    mapped.retain(|file| wanted.takes(&file.path, |mount| file.device == mount.device));
    mapped.dedup();
    open.count() + places.count() + mapped.len()
}
