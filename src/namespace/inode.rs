//! Inodes: what the kernel refers to by number.

use std::fmt;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::dir::DirState;
use crate::store::ETag;

/// Inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

/// The mount's root. Source: linux/fuse.h, `FUSE_ROOT_ID`.
pub const ROOT: Ino = Ino(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Directory,
}

/// One version of an object as the store reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectVersion {
    pub etag: ETag,
    pub size_bytes: u64,
    /// Whole seconds.
    pub last_modified: SystemTime,
}

/// A file or directory. Its name, parent and reference counts are the table's.
pub struct Inode {
    pub ino: Ino,
    pub kind: Kind,
    state: Mutex<InodeState>,
    /// Held by whoever lists the directory, so that a listing is asked for once.
    pub(super) listing_turn: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inode({} {:?})", self.ino.0, self.kind)
    }
}

impl Inode {
    pub(super) fn new(ino: Ino, kind: Kind) -> Self {
        Self {
            ino,
            kind,
            state: Mutex::new(InodeState::default()),
            listing_turn: tokio::sync::Mutex::default(),
        }
    }

    /// Lock order: table, then inode; never two inodes.
    pub fn state(&self) -> MutexGuard<'_, InodeState> {
        self.state.lock()
    }
}

/// What is known of an inode besides its name.
#[derive(Debug, Default)]
pub struct InodeState {
    /// The object version in the store; absent for directories and for files not yet uploaded.
    pub remote: Option<ObjectVersion>,
    /// When the store last confirmed `remote`, or a directory's existence.
    pub checked_at: Option<Instant>,
    /// Bytes or existence of this inode that the store does not have yet.
    pub local: Option<LocalState>,
    /// Attributes set by applications; they live as long as the inode does.
    pub overrides: Overrides,
    /// Grows whenever the content changes behind the kernel's back.
    pub content_generation: u64,
    /// The `content_generation` that the kernel's cached pages belong to.
    pub kernel_generation: Option<u64>,
    /// Only of directories.
    pub dir: DirState,
}

/// What the store does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalState {
    /// A file with staged bytes.
    Staged { size_bytes: u64 },
    /// A directory that no key makes exist.
    BareDirectory,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mtime: Option<SystemTime>,
    pub atime: Option<SystemTime>,
}

impl InodeState {
    pub fn size_bytes(&self) -> u64 {
        match (self.local, &self.remote) {
            (Some(LocalState::Staged { size_bytes }), _) => size_bytes,
            (_, Some(remote)) => remote.size_bytes,
            _ => 0,
        }
    }

    /// Takes over a version that the store reported now.
    pub fn adopt(&mut self, version: &ObjectVersion, at: Instant) {
        let changed = self
            .remote
            .as_ref()
            .is_none_or(|known| known.etag != version.etag);
        if changed {
            self.content_generation += 1;
            self.overrides.mtime = None;
        }
        self.remote = Some(version.clone());
        self.checked_at = Some(at);
    }
}
