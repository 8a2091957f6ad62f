//! Where else a file system is mounted: in containers, which an unmount here does not reach.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::mountinfo::mounts_of;
use super::processes::{Process, name_of, pids};

/// Mounts that are named.
const NAMED_LIMIT: usize = 8;

/// The mounts of a file system that other mount namespaces have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere(Vec<(Process, PathBuf)>);

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
        for (number, (process, path)) in self.0.iter().take(NAMED_LIMIT).enumerate() {
            let separator = if number > 0 { ", " } else { "" };
            write!(f, "{separator}on {} of {process}", path.display())?;
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
    let here = mounts_of("self").unwrap_or_default();
    let here: BTreeSet<u64> = here.into_iter().map(|entry| entry.id).collect();
    let mut found = BTreeMap::new();
    for pid in pids().into_iter().flatten() {
        // It may have ended meanwhile.
        for entry in mounts_of(&pid.to_string()).unwrap_or_default() {
            if entry.device != device || here.contains(&entry.id) {
                continue;
            }
            found.entry(entry.id).or_insert_with(|| {
                let name = name_of(pid).unwrap_or_default();
                (Process { pid, name }, entry.mountpoint)
            });
        }
    }
    Elsewhere(found.into_values().collect())
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
        for (_, path) in elsewhere(&root.device).0 {
            assert!(!here.is_empty() && path.is_absolute());
        }
    }

    #[test]
    fn each_is_named_with_what_takes_it_out() {
        let process = Process {
            pid: 7,
            name: "app".to_owned(),
        };
        let told = Elsewhere(vec![(process, "/media".into()); 9]).to_string();
        let end = " and 1 more; 'mediafs detach --pid PID PATH' takes it out";
        assert!(
            told.starts_with("on /media of app (pid 7), on /media of "),
            "{told}"
        );
        assert!(told.ends_with(end), "{told}");
    }
}
