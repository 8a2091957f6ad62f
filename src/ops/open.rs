//! open: a handle on a file.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Ops;
use crate::error::FsError;
use crate::files::{
    Caller, ChangeNumber, Closes, FailedRead, FileHandle, Handles, OpenFile, PagesAtOpen, Writers,
    check_awaited,
};
use crate::read_path::Cursor;
use crate::vocabulary::{HandleId, Ino, Intent, Kind, OpenMode};

/// Whether opening empties the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncate {
    Yes,
    No,
}

/// A handle, and whether the kernel's cached pages of the file are still good.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    pub handle: HandleId,
    pub pages: CachedPages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachedPages {
    Keep,
    Drop,
}

impl Opened {
    /// A new handle. `change` is that of the open itself, where it made or emptied the file.
    pub(super) fn give(
        handles: &Handles,
        file: Arc<OpenFile>,
        mode: OpenMode,
        (change, opener): (Option<ChangeNumber>, Caller),
    ) -> Self {
        let (generation, pages) = {
            let mut state = file.inode.state();
            state.unprivileged_writers |= mode.writes() && opener.uid != 0;
            let current = state.kernel_generation == Some(state.content_generation);
            let pages = match current {
                true => CachedPages::Keep,
                false => CachedPages::Drop,
            };
            (state.content_generation, pages)
        };
        let handle = handles.add_file(FileHandle {
            file,
            mode,
            uploads_on_close: mode.writes() || change.is_some(),
            cursor: Mutex::new(Cursor::default()),
            failed_read: FailedRead::default(),
            writers: Mutex::new(Writers::opened_by(opener.thread, change)),
            request: opener.request.number,
            closes: Closes::default(),
            pages: PagesAtOpen::of(generation),
        });
        Self { handle, pages }
    }
}

/// Errors: `Stale` when another client removed or replaced the file: look it
/// up again; `IsADirectory`, `ReadOnly`, the store's.
pub async fn open(
    ops: &Ops,
    ino: Ino,
    mode: OpenMode,
    truncate: Truncate,
    caller: Caller,
) -> Result<Opened, FsError> {
    if let Some(handle) = ops.handles.answer_to(caller.request) {
        let pages = CachedPages::Drop;
        return Ok(Opened { handle, pages });
    }
    let inode = ops.namespace.inode(ino)?;
    if inode.kind == Kind::Directory {
        return Err(FsError::IsADirectory);
    }
    if mode.writes() {
        ops.settings.access.check_writable()?;
    }
    ops.subtrees.inode_settled(ino).await?;
    // What the store says in the middle of our own change is neither old nor new.
    if !ops.files.is_held(ino) && !ops.namespace.revalidate(&inode).await? {
        return Err(FsError::STALE);
    }
    let file = ops.named_opens.open_named(inode, mode).await?;
    if truncate == Truncate::Yes {
        ops.attributes.drop_privileges(&file.inode, caller);
    }
    let emptied = match truncate {
        Truncate::Yes => check_awaited()
            .and_then(|()| file.start_over(Intent::Replace))
            .map(Some),
        Truncate::No => Ok(None),
    };
    match emptied {
        Ok(emptied) => Ok(Opened::give(&ops.handles, file, mode, (emptied, caller))),
        Err(error) => {
            ops.files.close(&file, mode);
            Err(error)
        }
    }
}
