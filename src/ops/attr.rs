//! Attributes as applications see them.

use std::time::{Duration, SystemTime};

use super::Ops;
use crate::namespace::{Ino, InodeState, Kind, Pin, ROOT};

/// Owner and mode that files and directories have unless an application changed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedAttributes {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, 0 to 0o7777.
    pub file_mode: u16,
    /// Permission bits, 0 to 0o7777.
    pub dir_mode: u16,
}

/// What stat(2) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    pub kind: Kind,
    pub size_bytes: u64,
    /// Zero once the name is gone.
    pub links: u32,
    /// Permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

/// How long the kernel may take attributes and names for true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttrValidity(pub Duration);

impl Ops {
    /// Attributes of an inode as they are known now.
    pub(super) fn attr(&self, inode: &Pin) -> (Attr, AttrValidity) {
        let named = inode.ino == ROOT || self.namespace.table().place(inode.ino).is_some();
        let state = inode.state();
        let fixed = &self.settings.attributes;
        let default_mode = match inode.kind {
            Kind::File => fixed.file_mode,
            Kind::Directory => fixed.dir_mode,
        };
        let (mtime, ctime) = self.times(&state);
        let attr = Attr {
            ino: inode.ino,
            kind: inode.kind,
            size_bytes: state.size_bytes(),
            links: u32::from(named),
            mode: state.overrides.mode.unwrap_or(default_mode),
            uid: state.overrides.uid.unwrap_or(fixed.uid),
            gid: state.overrides.gid.unwrap_or(fixed.gid),
            atime: state.overrides.atime.unwrap_or(mtime),
            mtime,
            ctime,
        };
        drop(state);
        (attr, AttrValidity(self.namespace.remaining_ttl(inode)))
    }

    /// Modification and change time. Directories have none in S3: the mount's own, or the last local change.
    fn times(&self, state: &InodeState) -> (SystemTime, SystemTime) {
        let stored = match &state.remote {
            Some(remote) => remote.last_modified,
            None => state.dir.changed_at.unwrap_or(self.mounted_at),
        };
        let mtime = state.overrides.mtime.unwrap_or(stored);
        let ctime = if state.local.is_some() { mtime } else { stored };
        (mtime, ctime)
    }
}
