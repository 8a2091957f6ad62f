//! The processes of this machine, as /proc tells of them.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A process by its number and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The numbers of all processes, as this PID namespace has them.
pub fn pids() -> io::Result<impl Iterator<Item = u32>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()))
}

/// None when the process is gone.
pub fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Errors: the process is gone, or is one that this one may not look into.
pub fn mount_namespace(process: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/{process}/ns/mnt"))?.ino())
}

/// What a process has open: descriptor numbers, with what they lead to.
pub fn descriptors(pid: u32) -> impl Iterator<Item = (String, PathBuf)> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    let descriptors = descriptors.into_iter().flatten().flatten();
    descriptors.filter_map(|entry| {
        let number = entry.file_name().into_string().ok()?;
        Some((number, fs::read_link(entry.path()).ok()?))
    })
}

/// What /proc says that a descriptor of this process leads to.
pub fn link_of(descriptor: BorrowedFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

/// The mount that a descriptor of this process is in: its file system is not asked.
pub fn mount_id(descriptor: BorrowedFd) -> io::Result<u64> {
    mount_id_in(&format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))
}

/// Source: proc_pid_fdinfo(5).
pub fn mount_id_in(fdinfo: &str) -> io::Result<u64> {
    let text = fs::read_to_string(fdinfo)?;
    let mut ids = text.lines().filter_map(|line| line.strip_prefix("mnt_id:"));
    let id = ids.next().and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// A file that a process has mapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// `major:minor` in decimal, as mountinfo has it.
    pub device: String,
    pub path: PathBuf,
}

/// Of a process that this one may not look into: none.
pub fn mapped_files(pid: u32) -> Vec<Mapped> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter_map(mapped).collect()
}

/// Source: proc_pid_maps(5).
fn mapped(line: &str) -> Option<Mapped> {
    let path = PathBuf::from(line.get(line.find('/')?..)?);
    let (major, minor) = line.split_whitespace().nth(3)?.split_once(':')?;
    let number = |hex| u32::from_str_radix(hex, 16).ok();
    let device = format!("{}:{}", number(major)?, number(minor)?);
    Some(Mapped { device, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read() {
        let line = "7f0-7f1 r--p 00000000 00:2d 131  /srv/a b.so";
        let wanted = Mapped {
            device: "0:45".to_owned(),
            path: "/srv/a b.so".into(),
        };
        assert_eq!(mapped(line), Some(wanted));
        assert_eq!(mapped("7f0-7f1 rw-p 00000000 00:00 0  [heap]"), None);
    }

    #[test]
    fn this_process_is_among_all() {
        let own = std::process::id();
        assert!(pids().unwrap().any(|pid| pid == own));
        assert!(name_of(own).is_some());
        assert!(mount_namespace("self").is_ok());
        assert!(!mapped_files(own).is_empty());
    }
}
