//! Who keeps a mount busy: as the mount's own handles tell, and /proc, without
//! touching the mount, whose daemon this is.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::ops::Opener;
use crate::session::mount::mountinfo::mounts_below;
use crate::session::mount::processes::{descriptors, mapped_files, mount_namespace, name_of, pids};

/// Most holders that are named.
const HOLDERS_LIMIT: usize = 8;

/// A process, or a mount, that keeps a mount from being unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    Process {
        pid: u32,
        name: String,
        /// The first found of its paths in the mount, and what it is to the process.
        path: PathBuf,
        hold: &'static str,
    },
    /// Something is mounted below the mountpoint.
    Mount(PathBuf),
}

/// All who hold a mount, as an operator reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders(Vec<Holder>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process {
                pid,
                name,
                path,
                hold,
            } => write!(f, "{name} (pid {pid}, {hold} {})", path.display()),
            Self::Mount(path) => write!(f, "the mount on {}", path.display()),
        }
    }
}

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(
                "a process that cannot be seen from here ('fuser -vm' as root may name it)",
            );
        }
        for (number, holder) in self.0.iter().take(HOLDERS_LIMIT).enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}{holder}")?;
        }
        match self.0.len().saturating_sub(HOLDERS_LIMIT) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Processes that opened what is open or use something else in the mount, and
/// mounts below it.
///
/// Only of processes that this one may look into is more known than what they
/// opened: of none of other users without the capability to trace them.
/// Source: proc_pid_fd(5), proc_pid_maps(5), proc_pid_cwd(5).
pub fn holders(mountpoint: &Path, openers: Vec<Opener>) -> Holders {
    let mut found: Vec<Holder> = mounts_below(mountpoint)
        .unwrap_or_default()
        .into_iter()
        .map(|entry| Holder::Mount(entry.mountpoint))
        .collect();
    for Opener { pid, path } in openers {
        if let Some(name) = name_of(pid).filter(|_| !names(&found, pid)) {
            found.push(Holder::Process {
                pid,
                name,
                path: mountpoint.join(path),
                hold: "with open",
            });
        }
    }
    let own_namespace = mount_namespace("self").ok();
    for pid in pids().into_iter().flatten() {
        if names(&found, pid) {
            continue;
        }
        // A path of another namespace is that of another mount.
        if mount_namespace(&pid.to_string()).ok() != own_namespace {
            continue;
        }
        if let Some((hold, path)) = hold_of(pid, mountpoint) {
            found.push(Holder::Process {
                pid,
                name: name_of(pid).unwrap_or_default(),
                path,
                hold,
            });
        }
    }
    Holders(found)
}

fn names(found: &[Holder], pid: u32) -> bool {
    let mut found = found.iter();
    found.any(|holder| matches!(holder, Holder::Process { pid: known, .. } if *known == pid))
}

/// How a process holds something below a path: the first that is found.
fn hold_of(pid: u32, mountpoint: &Path) -> Option<(&'static str, PathBuf)> {
    let below = |path: PathBuf| path.starts_with(mountpoint).then_some(path);
    let link = |name: &str| below(fs::read_link(format!("/proc/{pid}/{name}")).ok()?);
    let open = || descriptors(pid).find_map(|(_, path)| below(path));
    let mapped = || {
        let mut files = mapped_files(pid).into_iter();
        files.find_map(|file| below(file.path))
    };
    link("cwd")
        .map(|path| ("working in", path))
        .or_else(|| open().map(|path| ("with open", path)))
        .or_else(|| link("root").map(|path| ("with its root in", path)))
        .or_else(|| link("exe").map(|path| ("running", path)))
        .or_else(|| mapped().map(|path| ("with a map of", path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_open_file_is_named_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let seen = || holders(&path, Vec::new());
        assert_eq!(seen(), Holders(Vec::new()));
        let file = fs::File::create(path.join("f")).unwrap();
        let own = std::process::id();
        let told = seen().to_string();
        let wanted = format!("(pid {own}, with open {}/f)", path.display());
        assert!(told.ends_with(&wanted), "{told}");
        drop(file);
        assert_eq!(seen(), Holders(Vec::new()));
        let opener = |pid| Opener {
            pid,
            path: "d/f".to_owned(),
        };
        // The second has ended: no process has that number.
        let told = holders(&path, vec![opener(own), opener(u32::MAX), opener(own)]);
        let wanted = format!("(pid {own}, with open {}/d/f)", path.display());
        assert!(told.to_string().ends_with(&wanted), "{told}");
        assert_eq!(told.0.len(), 1);
    }

    #[test]
    fn many_holders_are_counted_and_none_is_said() {
        let mount = |number| Holder::Mount(PathBuf::from(format!("/m/{number}")));
        let told = Holders((0..10).map(mount).collect()).to_string();
        assert!(told.starts_with("the mount on /m/0, the mount on /m/1, "));
        assert!(told.ends_with("/m/7 and 2 more"), "{told}");
        assert!(Holders(Vec::new()).to_string().contains("cannot be seen"));
    }
}
