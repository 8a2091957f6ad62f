//! opendir and releasedir.

use super::Ops;
use crate::error::FsError;
use crate::files::{Delivery, DirHandle, KernelRequest, Listed, Snapshot};
use crate::namespace::{DirStream, Name};
use crate::session_state::SavedDir;
use crate::vocabulary::{HandleId, Ino};

impl Ops {
    /// Does not list yet. Errors: `NotADirectory`, `Stale`.
    pub fn opendir(&self, ino: Ino, request: KernelRequest) -> Result<HandleId, FsError> {
        if let Some(answered) = self.answered_before(request) {
            return Ok(answered);
        }
        let dir = self.namespace.directory(ino)?;
        let snapshot = self.new_snapshot(ino)?;
        Ok(self.handles.add_dir(|id| DirHandle {
            id,
            dir,
            request: request.number,
            snapshot: tokio::sync::Mutex::new(snapshot),
        }))
    }

    /// The handle with which a predecessor meant to answer a request.
    pub(super) fn answered_before(&self, request: KernelRequest) -> Option<HandleId> {
        match request.attempt {
            Delivery::First => None,
            Delivery::Resent => self.handles.answer_to(request.number),
        }
    }

    /// A handle whose first entries were given out by a predecessor.
    ///
    /// Errors: as `opendir`.
    pub(super) fn restored_dir(
        &self,
        id: HandleId,
        saved: &SavedDir,
    ) -> Result<DirHandle, FsError> {
        let ino = Ino(saved.ino);
        let mut snapshot = self.new_snapshot(ino)?;
        let names = saved.names().ok_or(FsError::BadHandle)?;
        let names = names.iter().filter_map(|name| Name::from_segment(name));
        snapshot.listed = Listed::given_before(names);
        snapshot.recorded = snapshot.listed.len();
        Ok(DirHandle {
            id,
            dir: self.namespace.directory(ino)?,
            request: saved.request,
            snapshot: tokio::sync::Mutex::new(snapshot),
        })
    }

    pub(super) fn new_snapshot(&self, ino: Ino) -> Result<Snapshot, FsError> {
        let stream = DirStream::new(self.namespace.directory(ino)?);
        Ok(Snapshot {
            listed: Listed::default(),
            stream,
            end: false,
            recorded: 0,
        })
    }

    pub fn releasedir(&self, handle: HandleId) {
        self.handles.remove(handle);
    }
}
