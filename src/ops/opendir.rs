//! opendir and releasedir.

use super::Ops;
use crate::error::FsError;
use crate::files::{DirHandle, KernelRequest, Snapshot};
use crate::vocabulary::{HandleId, Ino};

impl Ops {
    /// Does not list yet. Errors: `NotADirectory`, `Stale`.
    pub fn opendir(&self, ino: Ino, request: KernelRequest) -> Result<HandleId, FsError> {
        if let Some(answered) = self.handles.answer_to(request) {
            return Ok(answered);
        }
        let dir = self.namespace.directory(ino)?;
        let snapshot = Snapshot::of(ino, &self.namespace)?;
        Ok(self.handles.add_dir(|id| DirHandle {
            id,
            dir,
            request: request.number,
            snapshot: tokio::sync::Mutex::new(snapshot),
        }))
    }

    pub fn releasedir(&self, handle: HandleId) {
        self.handles.remove(handle);
    }
}
