//! setattr: truncate(2), chmod(2), chown(2), utimensat(2).

use std::time::SystemTime;

use super::Ops;
use super::resent::StoredSince;
use crate::error::FsError;
use crate::files::{Attr, AttrValidity, Caller, Shared, check_awaited, unprivileged};
use crate::namespace::{InodeState, Pin, learn_attributes};
use crate::vocabulary::{HandleId, Ino, Kind, OpenMode};

/// A time to set.
#[derive(Debug, Clone, Copy)]
pub enum TimeChange {
    Now,
    At(SystemTime),
}

/// What to change; absent fields stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttrChange {
    /// Permission bits.
    pub mode: Option<u16>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size_bytes: Option<u64>,
    pub atime: Option<TimeChange>,
    pub mtime: Option<TimeChange>,
}

impl AttrChange {
    /// Without what a predecessor has changed, or another client since.
    fn rest(self, since: &StoredSince) -> Self {
        let Self {
            mode,
            uid,
            gid,
            atime,
            mtime,
            ..
        } = self;
        Self {
            mode: mode.filter(|_| since.is_same(|it| it.mode)),
            uid: uid.filter(|_| since.is_same(|it| it.uid)),
            gid: gid.filter(|_| since.is_same(|it| it.gid)),
            atime: atime.filter(|_| since.is_same(|it| it.atime)),
            mtime: mtime.filter(|_| since.is_same(|it| it.mtime)),
            ..self
        }
    }
}

/// Where attributes are stored, they are when this returns: with the object,
/// or with the bytes that wait to be uploaded. Else they live as long as the inode.
///
/// Errors: `Stale`, `ReadOnly`, `IsADirectory` for a size, `NoSpace`; those of
/// an upload where nobody has the file open to flush it.
pub async fn setattr(
    ops: &Ops,
    ino: Ino,
    handle: Option<HandleId>,
    caller: Caller,
    change: AttrChange,
) -> Result<(Attr, AttrValidity), FsError> {
    let outcome = async {
        ops.settings.access.check_writable()?;
        let inode = ops.namespace.inode(ino)?;
        ops.subtrees.inode_settled(ino).await?;
        let asked = learn_attributes(&ops.namespace, &inode).await?;
        learn_version(ops, &inode, &change).await?;
        if let Some(size_bytes) = change.size_bytes {
            let dropped = ops.attributes.drop_privileges(&inode, caller);
            truncate(ops, &inode, handle, caller, size_bytes).await?;
            ops.attribute_writer.store_dropped(&inode, dropped).await?;
        }
        check_awaited()?;
        let request = caller.request;
        let since = ops.executed.stored_since(request, &inode, &ops.namespace);
        let change = since.await?.map_or(change, |since| change.rest(&since));
        let (current, _) = ops.attributes.attr(&inode);
        let before = inode.state().overrides.clone();
        let begin = |inode: &Pin| ops.executed.begin_storing(request, inode);
        if apply(&mut inode.state(), &current, &change) {
            let stored = ops.attribute_writer.store_attributes(&inode, &begin, asked);
            if let Err(error) = stored.await {
                inode.state().overrides = before;
                return Err(error);
            }
        }
        ops.attributes.record_overrides(&inode);
        Ok(ops.attributes.attr(&inode))
    };
    let outcome = outcome.await;
    if !ops.executed.is_superseded(caller.request, &outcome) {
        return outcome;
    }
    // Of the file as it is known: a question could be ESTALE again.
    let inode = ops.namespace.inode(ino)?;
    Ok(ops.attributes.attr(&inode))
}

/// Of an inode that slept nothing is known but its name: what is set would be compared
/// with nothing, and shown with no size.
///
/// Errors: `Stale`; where a time is set, which belongs to a version, the store's.
async fn learn_version(ops: &Ops, inode: &Pin, change: &AttrChange) -> Result<(), FsError> {
    let is_known = {
        let state = inode.state();
        state.remote.is_some() || state.local.is_some()
    };
    if is_known || inode.kind == Kind::Directory || ops.files.get(inode.ino).is_some() {
        return Ok(());
    }
    match ops.namespace.revalidate(inode).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(FsError::STALE),
        Err(error) if change.atime.or(change.mtime).is_some() => Err(error),
        Err(_) => Ok(()),
    }
}

async fn truncate(
    ops: &Ops,
    inode: &Pin,
    handle: Option<HandleId>,
    caller: Caller,
    len: u64,
) -> Result<(), FsError> {
    if inode.kind == Kind::Directory {
        return Err(FsError::IsADirectory);
    }
    if let Some(id) = handle {
        let handle = ops.handles.file(id)?;
        let change = handle.file.truncate(len)?;
        ops.handles.note_change(id, &handle, caller.thread, change);
        return Ok(());
    }
    if !ops.namespace.revalidate(inode).await? && ops.files.get(inode.ino).is_none() {
        return Err(FsError::STALE);
    }
    let file = ops
        .files
        .open(ops.namespace.inode(inode.ino)?, OpenMode::Read);
    let outcome = async {
        if file.len() == len && !file.needs_upload() {
            return Ok(());
        }
        check_awaited()?;
        let there = inode.state().remote.as_ref().map(|it| it.etag.clone());
        // What the predecessor had not uploaded this daemon has, in the place of it.
        let is_ours = match (&there, ops.namespace.file_key(inode.ino)) {
            (Some(etag), Ok(key)) => ops.store.has_made(&key, etag),
            (None, _) | (_, Err(_)) => false,
        };
        if ops.executed.has_replaced(caller.request, there) && !is_ours {
            // What the predecessor cut may wait for its upload.
            return ops.writeback.persist(&file).await;
        }
        let change = file.truncate(len)?;
        // Whoever may write to the file uploads it at close; else nobody would.
        if file.has_writers() {
            file.share_change(Shared::Named, change);
            Ok(())
        } else {
            ops.writeback.persist(&file).await
        }
    };
    let outcome = outcome.await;
    ops.files.close(&file, OpenMode::Read);
    outcome
}

/// Notes what differs from what is there. Whether anything does.
fn apply(state: &mut InodeState, current: &Attr, change: &AttrChange) -> bool {
    let now = SystemTime::now();
    let at = |time: TimeChange| match time {
        TimeChange::Now => now,
        TimeChange::At(at) => at,
    };
    let owned = change.uid.is_some() || change.gid.is_some();
    let mode = match change.mode {
        Some(mode) => Some(mode),
        // Of all but directories. Source: chown(2), pjdfstest's chown/00.t.
        None if owned && current.kind != Kind::Directory => Some(unprivileged(current.mode)),
        None => None,
    };
    let mode = mode.filter(|mode| *mode != current.mode);
    let uid = change.uid.filter(|uid| *uid != current.uid);
    let gid = change.gid.filter(|gid| *gid != current.gid);
    let atime = change.atime.map(at).filter(|time| *time != current.atime);
    let mtime = change.mtime.map(at).filter(|time| *time != current.mtime);
    let asked = change.mode.is_some() || owned || change.atime.or(change.mtime).is_some();
    let set = &mut state.overrides;
    if asked {
        set.ctime = Some(now);
    }
    if atime.is_some() || mtime.is_some() {
        // What is not set shows the other's value where it has none of its own.
        set.atime = Some(atime.unwrap_or(current.atime));
    }
    if mtime.is_some() && current.kind == Kind::Directory {
        state.dir.changed_at = None;
    }
    let set = &mut state.overrides;
    set.mode = mode.or(set.mode);
    set.uid = uid.or(set.uid);
    set.gid = gid.or(set.gid);
    set.mtime = mtime.or(set.mtime);
    mode.is_some() || uid.or(gid).is_some() || atime.or(mtime).is_some()
}
