//! Inodes: what the kernel refers to by number.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use super::attributes::{Attributes, Described};
use super::dir::{DirState, Unanswered};
use super::rare::Rare;
use crate::vocabulary::{Ino, Kind, ObjectVersion, Overrides};

/// A file or directory. Its name, parent and reference counts are the table's.
pub struct Inode {
    pub ino: Ino,
    pub kind: Kind,
    state: Mutex<InodeState>,
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
        }
    }

    /// Held by whoever lists the directory, so that a listing is asked for once.
    pub(super) fn listing_lock(&self) -> Arc<tokio::sync::Mutex<Unanswered>> {
        let dir: &mut DirState = &mut self.state().dir;
        dir.listing_lock.clone()
    }

    /// Lock order: table, then inode; never two inodes.
    pub fn state(&self) -> MutexGuard<'_, InodeState> {
        self.state.lock()
    }
}

/// What is known of an inode besides its name. There may be a million.
#[derive(Debug, Default)]
pub struct InodeState {
    /// The object version in the store; absent for directories and for files not yet uploaded.
    pub remote: Option<ObjectVersion>,
    /// `remote` is our own doing, its time by our clock: the store may tell another.
    pub mtime_is_ours: bool,
    /// What is stored with `remote`, or with a directory's marker; none where
    /// attributes are not stored, or not known yet.
    pub attributes: Option<Arc<Attributes>>,
    /// `attributes` are those of every object with the ETag and time of `remote`.
    pub settled: bool,
    /// How often this mount has stored an object or attributes: what was asked before is older.
    pub own_stores: u32,
    /// When the store last confirmed `remote`, or a directory's existence.
    pub checked_at: Option<Instant>,
    /// The last `checked_at` before it came into doubt.
    pub last_confirmed_at: Option<Instant>,
    /// Bytes or existence of this inode that the store does not have yet.
    pub local: Option<LocalState>,
    /// Attributes set by applications that the store does not have; they live
    /// as long as the inode does.
    pub overrides: Rare<Overrides>,
    /// Somebody without rights over others' files has had it open for writing.
    pub unprivileged_writers: bool,
    /// Grows whenever the content changes behind the kernel's back.
    pub content_generation: u64,
    /// The `content_generation` that the kernel's cached pages belong to.
    pub kernel_generation: Option<u64>,
    /// Only of directories.
    pub dir: Rare<DirState>,
}

/// What the store does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalState {
    /// A file with staged bytes.
    Staged { size_bytes: u64 },
    /// A directory that no key makes exist.
    BareDirectory,
}

impl InodeState {
    pub fn size_bytes(&self) -> u64 {
        match (self.local, &self.remote) {
            (Some(LocalState::Staged { size_bytes }), _) => size_bytes,
            (_, Some(remote)) => remote.size_bytes,
            _ => 0,
        }
    }

    /// Takes over a version that the store reported now, with what it stores
    /// beside the bytes where that is of interest.
    pub fn adopt(&mut self, version: &ObjectVersion, described: Option<&Described>, at: Instant) {
        let known = self.remote.as_ref();
        if known.is_none_or(|known| known.etag != version.etag) {
            self.content_generation += 1;
            let is_new = known.is_some();
            if let Some(set) = self.overrides.if_set()
                && (is_new || set.of.as_ref() != Some(&version.etag))
            {
                (set.mtime, set.ctime) = (None, None);
            }
        }
        // In stored mode another version has attributes of its own, whatever was set here.
        if let Some(Described {
            attributes,
            settled,
        }) = described
        {
            let known = self.attributes.as_ref();
            let same = known.is_some_and(|known| known.shows_as(attributes));
            if !self.is_version(version) || !same {
                self.overrides = Rare::default();
            }
            self.attributes = Some(attributes.clone());
            self.settled = *settled;
        }
        self.remote = Some(version.clone());
        self.mtime_is_ours = false;
        self.checked_at = Some(at);
    }

    /// The store has the directory, and tells what is stored with its marker where that is of interest.
    pub fn adopt_directory(&mut self, described: Option<&Described>, at: Instant) {
        self.checked_at = Some(at);
        self.adopt_marker(described);
    }

    /// A marker without attributes changes nothing: not every store keeps them.
    pub fn adopt_marker(&mut self, described: Option<&Described>) {
        let attributes = described.map(|described| &described.attributes);
        let Some(attributes) = attributes.filter(|saved| saved.says_something()) else {
            return;
        };
        if self.attributes.as_ref() != Some(attributes) {
            self.overrides = Rare::default();
            self.attributes = Some(attributes.clone());
        }
    }

    /// Whether nothing is known of a file that the store would not tell, but for when an
    /// application has changed its attributes last: what came of that is stored.
    pub fn has_nothing_local(&self) -> bool {
        let Overrides {
            mode,
            uid,
            gid,
            mtime,
            atime,
            ctime: _,
            xattrs,
            of: _,
        } = &*self.overrides;
        let is_unset = mode.is_none()
            && uid.or(*gid).is_none()
            && mtime.or(*atime).is_none()
            && xattrs.is_none()
            && self.dir.is_unset();
        self.local.is_none() && is_unset && !self.unprivileged_writers
    }

    /// Whether `remote` is this version, with all that is stored beside the bytes.
    pub fn is_version(&self, version: &ObjectVersion) -> bool {
        self.remote.as_ref().is_some_and(|known| {
            known.etag == version.etag
                && (self.mtime_is_ours || known.last_modified == version.last_modified)
        })
    }

    /// What the file's attributes are: set here, else stored, else absent.
    pub fn effective_attributes(&self) -> Attributes {
        let stored = self.attributes.as_deref().cloned().unwrap_or_default();
        let set = &self.overrides;
        Attributes {
            kind: stored.kind,
            rdev: stored.rdev,
            mode: set.mode.or(stored.mode),
            uid: set.uid.or(stored.uid),
            gid: set.gid.or(stored.gid),
            mtime: set.mtime.or(stored.mtime),
            atime: set.atime.or(stored.atime),
            xattrs: set.xattrs.clone().unwrap_or(stored.xattrs),
            headers: stored.headers,
        }
    }

    /// The store has these attributes now: what was set here and is among them is not ours alone any more.
    pub fn settle(&mut self, stored: Arc<Attributes>) {
        self.own_stores = self.own_stores.wrapping_add(1);
        let Some(set) = self.overrides.if_set() else {
            self.attributes = Some(stored);
            return;
        };
        let clear = |set: &mut Option<SystemTime>, stored| {
            if *set == stored {
                *set = None;
            }
        };
        clear(&mut set.mtime, stored.mtime);
        clear(&mut set.atime, stored.atime);
        if set.mode == stored.mode {
            set.mode = None;
        }
        if set.uid == stored.uid {
            set.uid = None;
        }
        if set.gid == stored.gid {
            set.gid = None;
        }
        if set.xattrs.as_ref() == Some(&stored.xattrs) {
            set.xattrs = None;
        }
        self.settled &= self.attributes.as_ref() == Some(&stored);
        self.attributes = Some(stored);
    }
}
