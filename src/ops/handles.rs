//! The handle table: what an application holds open, by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::open::OpenMode;
use super::open_file::OpenFile;
use super::opendir::DirHandle;
use super::writers::Writers;
use crate::error::FsError;
use crate::read_path::Cursor;

/// Number of a handle, as the kernel repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

/// An open file description.
#[derive(Debug)]
pub struct FileHandle {
    pub file: Arc<OpenFile>,
    pub mode: OpenMode,
    /// Whether closing it uploads the file: it may write, or it made or emptied the file.
    pub publishes: bool,
    pub cursor: Mutex<Cursor>,
    pub writers: Mutex<Writers>,
}

#[derive(Debug, Clone)]
enum Handle {
    File(Arc<FileHandle>),
    Dir(Arc<DirHandle>),
}

#[derive(Debug, Default)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<HandleId, Handle>>,
}

impl Handles {
    pub fn add_file(&self, handle: FileHandle) -> HandleId {
        self.add(Handle::File(Arc::new(handle)))
    }

    pub fn add_dir(&self, handle: DirHandle) -> HandleId {
        self.add(Handle::Dir(Arc::new(handle)))
    }

    fn add(&self, handle: Handle) -> HandleId {
        let id = HandleId(self.next.fetch_add(1, Ordering::Relaxed));
        self.open.lock().insert(id, handle);
        id
    }

    /// Errors: `BadHandle`.
    pub fn file(&self, id: HandleId) -> Result<Arc<FileHandle>, FsError> {
        match self.open.lock().get(&id) {
            Some(Handle::File(handle)) => Ok(handle.clone()),
            _ => Err(FsError::BadHandle),
        }
    }

    /// Errors: `BadHandle`.
    pub fn dir(&self, id: HandleId) -> Result<Arc<DirHandle>, FsError> {
        match self.open.lock().get(&id) {
            Some(Handle::Dir(handle)) => Ok(handle.clone()),
            _ => Err(FsError::BadHandle),
        }
    }

    pub fn remove(&self, id: HandleId) {
        self.open.lock().remove(&id);
    }
}
