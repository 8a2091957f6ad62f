//! Attributes as applications see them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::content_types::ContentTypes;
use super::layers::LowerLayer;
use super::writers::Thread;
use crate::error::FsError;
use crate::namespace::{Attributes, EntryChange, InodeState, Name, Namespace, Pin, shown_of};
use crate::session_state::{Record, SessionLog};
use crate::store::ObjectHeaders;
use crate::vocabulary::{Ino, Kind, ROOT};

/// Set-group-ID. Source: inode(7).
pub const SET_GID: u16 = 0o2000;
/// Permissions that symlinks have in Linux. Source: symlink(7).
const SYMLINK_MODE: u16 = 0o777;

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

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    pub thread: Thread,
    pub request: KernelRequest,
}

/// A request as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelRequest {
    pub number: u64,
    pub attempt: Delivery,
}

/// Whether a daemon that is dead now may have done what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    First,
    Resent,
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
    /// Of a device, as the kernel writes it.
    pub rdev: u32,
    pub atime: SystemTime,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

/// How long the kernel may take attributes and names for true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttrValidity(pub Duration);

/// What applications see of an inode, and what is stored with its object.
#[derive(Debug)]
pub struct AttributeView {
    pub namespace: Arc<Namespace>,
    pub fixed: FixedAttributes,
    pub content_types: ContentTypes,
    pub session_log: Arc<SessionLog>,
}

impl AttributeView {
    /// Attributes of an inode as they are known now.
    pub fn attr(&self, inode: &Pin) -> (Attr, AttrValidity) {
        self.namespace.directories().recall(inode);
        let named = inode.ino == ROOT || self.namespace.table().place(inode.ino).is_some();
        let state = inode.state();
        let attr = self.attr_of(inode, &state, u32::from(named));
        drop(state);
        (attr, AttrValidity(self.namespace.remaining_ttl(inode)))
    }

    fn attr_of(&self, inode: &Pin, state: &InodeState, links: u32) -> Attr {
        let fixed = &self.fixed;
        let (set, stored) = (&state.overrides, state.attributes.as_deref());
        let mode = set.mode.or(stored.and_then(|stored| stored.mode));
        let uid = set.uid.or(stored.and_then(|stored| stored.uid));
        let gid = set.gid.or(stored.and_then(|stored| stored.gid));
        let atime = set.atime.or(stored.and_then(|stored| stored.atime));
        let (mtime, ctime) = self.times(state);
        Attr {
            ino: inode.ino,
            kind: inode.kind,
            size_bytes: state.size_bytes(),
            links,
            mode: match inode.kind {
                Kind::Directory => mode.unwrap_or(fixed.dir_mode),
                Kind::Symlink => SYMLINK_MODE,
                _ => mode.unwrap_or(fixed.file_mode),
            },
            uid: uid.unwrap_or(fixed.uid),
            gid: gid.unwrap_or(fixed.gid),
            rdev: stored.and_then(|stored| stored.rdev).unwrap_or(0),
            atime: atime.unwrap_or(mtime),
            mtime,
            ctime,
        }
    }

    /// Modification and change time. Directories have none in S3 unless one was
    /// set: the last change that was seen here, or the time when the spool was new.
    fn times(&self, state: &InodeState) -> (SystemTime, SystemTime) {
        let (set, stored) = (&state.overrides, state.attributes.as_deref());
        let written = state.remote.as_ref().map(|remote| remote.last_modified);
        let mtime = state
            .dir
            .changed_at
            .or(set.mtime)
            .or(stored.and_then(|stored| stored.mtime))
            .or(written)
            .unwrap_or(self.namespace.begun_at());
        let own = set.ctime.into_iter().chain(state.dir.changed_at).max();
        let ctime = own.or(written).unwrap_or(self.namespace.begun_at());
        (mtime, ctime)
    }

    /// Gives a new inode its maker's owner and mode, where attributes are stored.
    ///
    /// The group of a set-group-ID directory goes to what is made in it, and the
    /// bit to directories. Source: inode(7).
    pub fn init_attributes(&self, parent: &Pin, inode: &Pin, mode: u16, maker: Caller) {
        let now = SystemTime::now();
        if let Some((_, name)) = self.namespace.table().place(inode.ino) {
            let came = EntryChange::Came(&name);
            self.namespace.directories().entries_changed(parent, came);
        }
        if !self.namespace.stores_attributes() {
            let set = &mut inode.state().overrides;
            set.ctime = Some(now);
            // A file has that of its object.
            if inode.kind == Kind::Directory {
                set.mtime = Some(now);
            }
            return;
        }
        let (above, _) = self.attr(parent);
        let inherits = above.mode & SET_GID != 0;
        let passed_on = match inode.kind {
            Kind::Directory if inherits => SET_GID,
            _ => 0,
        };
        let mut state = inode.state();
        let set = &mut state.overrides;
        set.mode = Some(mode | passed_on);
        set.uid = Some(maker.uid);
        set.gid = Some(if inherits { above.gid } else { maker.gid });
        set.ctime = Some(now);
        set.mtime = Some(now);
    }

    /// Tells the successor what applications set of an inode.
    pub fn record_overrides(&self, inode: &Pin) {
        self.namespace.directories().keep(inode);
        self.session_log.record(|| {
            let state = inode.state();
            let mut set = match inode.kind {
                Kind::Directory => shown_of(&state),
                _ => (*state.overrides).clone(),
            };
            if set.mtime.or(set.ctime).is_some() {
                set.of = state.remote.as_ref().map(|remote| remote.etag.clone());
            }
            let ino = inode.ino.0;
            Record::Set { ino, set }
        });
    }

    /// What is to be stored with an inode's object. The copy's own time is
    /// later, so the file's goes along always.
    pub fn wanted_attributes(&self, inode: &Pin) -> Attributes {
        let (shown, _) = self.attr(inode);
        Attributes {
            mtime: Some(shown.mtime),
            ..inode.state().effective_attributes()
        }
    }

    /// What goes with an upload of a file's bytes.
    pub fn upload_headers(
        &self,
        inode: &Pin,
        name: &Name,
        base: &LowerLayer,
        kept: Option<ObjectHeaders>,
    ) -> Result<ObjectHeaders, FsError> {
        if !self.namespace.stores_attributes() {
            let mut headers = kept.unwrap_or_default();
            headers.content_type = headers.content_type.or_else(|| self.content_types.of(name));
            return Ok(headers);
        }
        let mut headers = self.wanted_attributes(inode).encode(inode.kind)?;
        if matches!(base, LowerLayer::Empty) {
            // New bytes: how the old ones were encoded or cached is not theirs.
            headers = ObjectHeaders {
                content_type: headers.content_type,
                user_metadata: headers.user_metadata,
                ..ObjectHeaders::default()
            };
        }
        headers.content_type = headers.content_type.or_else(|| self.content_types.of(name));
        headers.tags = kept.and_then(|kept| kept.tags);
        Ok(headers)
    }
}

/// Times of objects have no fraction, as in HTTP dates.
pub fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
