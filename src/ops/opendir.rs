//! opendir and releasedir.

use super::Ops;
use super::handles::HandleId;
use crate::error::FsError;
use crate::namespace::{DirStream, Ino, Pin, StreamedEntry};

/// An open directory: what has been listed so far, and where the listing stands.
///
/// An entry keeps its offset for as long as the handle lives, whatever happens
/// to the directory; reading from the start lists anew.
#[derive(Debug)]
pub struct DirHandle {
    pub dir: Pin,
    pub(super) snapshot: tokio::sync::Mutex<Snapshot>,
}

#[derive(Debug)]
pub(super) struct Snapshot {
    pub listed: Vec<StreamedEntry>,
    pub stream: DirStream,
    pub end: bool,
}

impl Ops {
    /// Does not list yet. Errors: `NotADirectory`, `Stale`.
    pub fn opendir(&self, ino: Ino) -> Result<HandleId, FsError> {
        let dir = self.namespace.directory(ino)?;
        let snapshot = self.new_snapshot(ino)?;
        Ok(self.handles.add_dir(DirHandle {
            dir,
            snapshot: tokio::sync::Mutex::new(snapshot),
        }))
    }

    pub(super) fn new_snapshot(&self, ino: Ino) -> Result<Snapshot, FsError> {
        let stream = DirStream::new(self.namespace.directory(ino)?);
        Ok(Snapshot {
            listed: Vec::new(),
            stream,
            end: false,
        })
    }

    pub fn releasedir(&self, handle: HandleId) {
        self.handles.remove(handle);
    }
}
