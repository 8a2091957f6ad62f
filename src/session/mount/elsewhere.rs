//! Where else a file system is mounted: in containers, which an unmount here does not reach.

use std::collections::BTreeMap;
use std::fmt;

use super::mountinfo::{MountEntry, mounts_of};
use super::processes::{Process, name_of, pids};

/// Mounts that are named.
const NAMED_LIMIT: usize = 8;

/// A mount of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// One that has it; none where it is in this mount namespace.
    pub process: Option<Process>,
    pub entry: MountEntry,
    /// What it lies on.
    pub below: Option<MountEntry>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "on {}", self.entry.mountpoint.display())?;
        match &self.process {
            Some(process) => write!(f, " of {process}"),
            None => Ok(()),
        }
    }
}

/// The mounts of a file system that other mount namespaces have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere(Vec<Seen>);

impl Elsewhere {
    pub fn is_nowhere(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_nowhere() {
            return f.write_str(
                "in no mount namespace that can be seen from here; files of it may be open still",
            );
        }
        for (number, seen) in self.0.iter().take(NAMED_LIMIT).enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}{seen}")?;
        }
        let more = self.0.len().saturating_sub(NAMED_LIMIT);
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        f.write_str("; 'mediafs detach --pid PID PATH' takes it out")
    }
}

/// Where else the file system with this device number (`major:minor`) is mounted, each
/// with one process that has it. Takes no privileges: mountinfo can be read by all.
pub fn elsewhere(device: &str) -> Elsewhere {
    let mut found = everywhere(device);
    found.retain(|seen| seen.process.is_some());
    Elsewhere(found)
}

/// The same, and where it is mounted in this namespace.
pub fn everywhere(device: &str) -> Vec<Seen> {
    let mut found = BTreeMap::new();
    let mut note = |entries: Vec<MountEntry>, process: Option<u32>| {
        for entry in entries.iter().filter(|entry| entry.device == device) {
            found.entry(entry.id).or_insert_with(|| {
                let below = entries.iter().find(|it| it.id == entry.parent);
                Seen {
                    process: process.map(|pid| {
                        let name = name_of(pid).unwrap_or_default();
                        Process { pid, name }
                    }),
                    entry: entry.clone(),
                    below: below.cloned(),
                }
            });
        }
    };
    note(mounts_of("self").unwrap_or_default(), None);
    for pid in pids().into_iter().flatten() {
        // It may have ended meanwhile.
        note(mounts_of(&pid.to_string()).unwrap_or_default(), Some(pid));
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::mount::mountinfo::mount_at;
    use std::path::Path;

    #[test]
    fn mounts_of_this_namespace_are_not_elsewhere() {
        let root = mount_at(Path::new("/")).unwrap().unwrap();
        let here = mounts_of("self").unwrap();
        let told = elsewhere("4095:1048575");
        assert!(told.is_nowhere());
        assert!(told.to_string().contains("files of it may be open"));
        for seen in elsewhere(&root.device).0 {
            assert!(!here.iter().any(|entry| entry.id == seen.entry.id));
        }
        let all = everywhere(&root.device);
        assert!(all.iter().any(|seen| seen.entry == root));
    }

    #[test]
    fn each_is_named_with_what_takes_it_out() {
        let process = Process {
            pid: 7,
            name: "app".to_owned(),
        };
        let seen = Seen {
            process: Some(process),
            entry: MountEntry {
                mountpoint: "/media".into(),
                ..mount_at(Path::new("/")).unwrap().unwrap()
            },
            below: None,
        };
        let told = Elsewhere(vec![seen; 9]).to_string();
        let end = " and 1 more; 'mediafs detach --pid PID PATH' takes it out";
        assert!(
            told.starts_with("on /media of app (pid 7), on /media of "),
            "{told}"
        );
        assert!(told.ends_with(end), "{told}");
    }
}
