//! opendir and releasedir.

use super::Ops;
use crate::error::FsError;
use crate::files::{DirHandle, KernelRequest, Snapshot};
use crate::vocabulary::{HandleId, Ino};

/// Does not list yet. Errors: `NotADirectory`, `Stale`.
pub fn opendir(ops: &Ops, ino: Ino, request: KernelRequest) -> Result<HandleId, FsError> {
    if let Some(answered) = ops.handles.answer_to(request) {
        return Ok(answered);
    }
    let dir = ops.namespace.directory(ino)?;
    let snapshot = Snapshot::of(ino, &ops.namespace)?;
    Ok(ops.handles.add_dir(|id| DirHandle {
        id,
        dir,
        request: request.number,
        snapshot: tokio::sync::Mutex::new(snapshot),
    }))
}

pub fn releasedir(ops: &Ops, handle: HandleId) {
    ops.handles.remove(handle);
}
