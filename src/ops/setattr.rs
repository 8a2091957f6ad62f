//! setattr: truncate(2), chmod(2), chown(2), utimensat(2).

use std::time::SystemTime;

use super::Ops;
use super::attr::{Attr, AttrValidity};
use super::handles::HandleId;
use super::open::OpenMode;
use super::writers::Thread;
use crate::error::FsError;
use crate::namespace::{Ino, Kind, Overrides, Pin};

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

impl Ops {
    /// Mode, owner and times always succeed and live as long as the inode.
    ///
    /// Errors: `Stale`, `ReadOnly`, `IsADirectory` for a size; those of an
    /// upload where nobody has the file open to flush it.
    pub async fn setattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
        thread: Thread,
        change: AttrChange,
    ) -> Result<(Attr, AttrValidity), FsError> {
        self.check_writable()?;
        let inode = self.namespace.inode(ino)?;
        if let Some(size_bytes) = change.size_bytes {
            self.truncate(&inode, handle, thread, size_bytes).await?;
        }
        apply(&mut inode.state().overrides, &change);
        Ok(self.attr(&inode))
    }

    async fn truncate(
        &self,
        inode: &Pin,
        handle: Option<HandleId>,
        thread: Thread,
        len: u64,
    ) -> Result<(), FsError> {
        if inode.kind == Kind::Directory {
            return Err(FsError::IsADirectory);
        }
        if let Some(handle) = handle {
            let handle = self.handles.file(handle)?;
            handle.writers.lock().note(thread);
            return handle.file.truncate(&self.spool, len);
        }
        if !self.namespace.revalidate(inode).await? && self.files.get(inode.ino).is_none() {
            return Err(FsError::Stale);
        }
        let file = self.open_inode(self.namespace.inode(inode.ino)?, OpenMode::Read);
        let outcome = async {
            if file.len() == len && !file.needs_upload() {
                return Ok(());
            }
            file.truncate(&self.spool, len)?;
            // Whoever writes to the file uploads it at close; else nobody would.
            if file.has_writers() {
                Ok(())
            } else {
                self.upload(&file).await
            }
        };
        let outcome = outcome.await;
        self.close(&file, OpenMode::Read);
        outcome
    }
}

fn apply(overrides: &mut Overrides, change: &AttrChange) {
    let at = |time: TimeChange| match time {
        TimeChange::Now => SystemTime::now(),
        TimeChange::At(at) => at,
    };
    overrides.mode = change.mode.or(overrides.mode);
    overrides.uid = change.uid.or(overrides.uid);
    overrides.gid = change.gid.or(overrides.gid);
    overrides.atime = change.atime.map(at).or(overrides.atime);
    overrides.mtime = change.mtime.map(at).or(overrides.mtime);
}
