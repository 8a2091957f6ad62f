//! What is mounted where, read from the kernel without touching a file system that may not answer.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of mountinfo. Source: proc_pid_mountinfo(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    pub id: u64,
    /// The mount that it lies on.
    pub parent: u64,
    /// `major:minor`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: PathBuf,
    pub mountpoint: PathBuf,
    /// Of mounts that have the same mounted below them.
    pub peer_group: Option<u64>,
    /// The peer group whose mounts come to this one too.
    pub master: Option<u64>,
    /// Of the mount, then of the file system.
    pub options: Vec<String>,
    pub fs_type: String,
    pub source: String,
}

impl MountEntry {
    /// Whether this user has mounted it, of a mount of FUSE. Source: mount.fuse(8), `user_id`.
    pub fn is_of_user(&self, uid: u32) -> bool {
        let option = format!("user_id={uid}");
        self.options.contains(&option)
    }
}

/// The topmost mount at exactly this path, if any.
pub fn mount_at(path: &Path) -> io::Result<Option<MountEntry>> {
    Ok(topmost(entries()?, path))
}

/// The topmost of these at exactly a path: one that was mounted below another is listed
/// after it.
pub fn topmost(mut entries: Vec<MountEntry>, path: &Path) -> Option<MountEntry> {
    entries.retain(|entry| entry.mountpoint == path);
    let lies_below = |id| entries.iter().any(|entry| entry.parent == id);
    let at = entries.iter().rposition(|entry| !lies_below(entry.id))?;
    Some(entries.swap_remove(at))
}

/// The mounts strictly below a path.
pub fn mounts_below(path: &Path) -> io::Result<Vec<MountEntry>> {
    let mut entries = entries()?;
    entries.retain(|entry| entry.mountpoint.starts_with(path) && entry.mountpoint != path);
    Ok(entries)
}

fn entries() -> io::Result<Vec<MountEntry>> {
    mounts_of("self")
}

/// The mounts of a process's namespace.
pub fn mounts_of(process: &str) -> io::Result<Vec<MountEntry>> {
    let text = fs::read(format!("/proc/{process}/mountinfo"))?;
    let lines = text.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(parse).collect())
}

pub(super) fn parse(line: &[u8]) -> Option<MountEntry> {
    let line = OsString::from_vec(line.to_vec());
    let fields: Vec<&[u8]> = line.as_bytes().split(|byte| *byte == b' ').collect();
    let separator = fields.iter().position(|field| *field == b"-")?;
    let text = |at: usize| Some(String::from_utf8_lossy(&unescape(fields.get(at)?)).into_owned());
    let path = |at: usize| Some(PathBuf::from(OsString::from_vec(unescape(fields.get(at)?))));
    let options = [text(5)?, text(separator + 3).unwrap_or_default()];
    let options = options
        .iter()
        .flat_map(|list| list.split(',').map(str::to_owned));
    let tags = fields.get(6..separator)?;
    let group = |tag: &[u8]| {
        let number = tags.iter().find_map(|it| it.strip_prefix(tag))?;
        std::str::from_utf8(number).ok()?.parse().ok()
    };
    Some(MountEntry {
        options: options.collect(),
        peer_group: group(b"shared:"),
        master: group(b"master:"),
        id: text(0)?.parse().ok()?,
        parent: text(1)?.parse().ok()?,
        device: text(2)?,
        root: path(3)?,
        mountpoint: path(4)?,
        fs_type: text(separator + 1)?,
        source: text(separator + 2)?,
    })
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| first == b'\\');
        let code =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_escapes_and_optional_fields_are_read() {
        let line = br"36 35 0:52 / /srv/a\040b\134c rw,nosuid shared:7 master:1 - fuse.mediafs mediafs:b rw";
        let entry = parse(line).unwrap();
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!(entry.device, "0:52");
        assert_eq!(entry.root, Path::new("/"));
        assert_eq!(entry.mountpoint, Path::new(r"/srv/a b\c"));
        assert_eq!((entry.peer_group, entry.master), (Some(7), Some(1)));
        assert_eq!(entry.fs_type, "fuse.mediafs");
        assert_eq!(entry.source, "mediafs:b");
    }

    #[test]
    fn a_mount_is_on_top_of_one_that_was_mounted_below_it_later() {
        let lines: [&[u8]; 3] = [
            b"7 1 0:5 / /srv rw - ext4 disk rw",
            b"8 9 0:6 / /srv/m rw - fuse.mediafs bucket rw",
            b"9 7 0:5 /d /srv/m rw - ext4 disk rw",
        ];
        let entries = || lines.into_iter().filter_map(parse).collect();
        let top = topmost(entries(), Path::new("/srv/m")).unwrap();
        assert_eq!(top.id, 8);
        assert_eq!(topmost(entries(), Path::new("/srv")).unwrap().id, 7);
        assert_eq!(topmost(entries(), Path::new("/m")), None);
    }

    #[test]
    fn the_root_is_a_mount() {
        assert!(mount_at(Path::new("/")).unwrap().is_some());
    }
}
