//! The handle table: what an application holds open, by number.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::attr::{Delivery, KernelRequest};
use super::changes::ChangeNumber;
use super::dir_handle::DirHandle;
use super::file_handle::FileHandle;
use super::table::OpenFiles;
use super::writers::{Noted, Thread};
use crate::error::FsError;
use crate::session_state::{Record, SavedHandle, SessionLog, SessionState};
use crate::vocabulary::HandleId;

#[derive(Debug, Clone)]
enum Handle {
    File(Arc<FileHandle>),
    Dir(Arc<DirHandle>),
}

#[derive(Debug)]
pub struct Handles {
    next: AtomicU64,
    open: Mutex<HashMap<HandleId, Handle>>,
    session_log: Arc<SessionLog>,
}

impl Handles {
    pub fn new(session_log: Arc<SessionLog>) -> Self {
        Self {
            next: AtomicU64::new(0),
            open: Mutex::default(),
            session_log,
        }
    }

    pub fn add_file(&self, handle: FileHandle) -> HandleId {
        let id = self.next_id();
        self.session_log.record(|| Record::Opened {
            handle: id.0,
            saved: SavedHandle {
                ino: handle.file.inode.ino.0,
                mode: handle.mode,
                uploads_on_close: handle.uploads_on_close,
                request: handle.request,
                writers: Some(handle.writers.lock().to_saved()),
            },
        });
        self.insert(id, Handle::File(Arc::new(handle)))
    }

    pub fn add_dir(&self, handle: impl FnOnce(HandleId) -> DirHandle) -> HandleId {
        let id = self.next_id();
        let handle = handle(id);
        self.session_log.record(|| Record::DirOpened {
            handle: id.0,
            ino: handle.dir.ino.0,
            request: handle.request,
        });
        self.insert(id, Handle::Dir(Arc::new(handle)))
    }

    fn next_id(&self) -> HandleId {
        HandleId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// The handles that a predecessor gave out. No number of its is given out again.
    pub fn restore(&self, saved: &SessionState, files: &OpenFiles) {
        let handles = saved.handles.iter().map(|(number, saved)| {
            let handle = FileHandle::restored(saved, files);
            (*number, handle.map(|it| Handle::File(Arc::new(it))))
        });
        let dirs = saved.dirs.iter().map(|(number, saved)| {
            let handle = DirHandle::restored(HandleId(*number), saved, &files.namespace);
            (*number, handle.map(|it| Handle::Dir(Arc::new(it))))
        });
        for (number, handle) in handles.chain(dirs) {
            match handle {
                Ok(handle) => {
                    self.insert(HandleId(number), handle);
                }
                Err(error) => {
                    tracing::error!(handle = number, %error, "session record ignored: a handle without its file")
                }
            }
        }
        self.next
            .fetch_max(saved.last_handle + 1, Ordering::Relaxed);
    }

    fn insert(&self, id: HandleId, handle: Handle) -> HandleId {
        self.open.lock().insert(id, handle);
        id
    }

    /// The handle with which a predecessor meant to answer a request.
    pub fn answer_to(&self, request: KernelRequest) -> Option<HandleId> {
        let request = match request.attempt {
            Delivery::First => return None,
            Delivery::Resent => request.number,
        };
        let open = self.open.lock();
        let answers = |handle: &Handle| match handle {
            Handle::File(handle) => handle.request == request,
            Handle::Dir(handle) => handle.request == request,
        };
        let found = open.iter().find(|(_, handle)| answers(handle));
        found.map(|(id, _)| *id)
    }

    /// The file was changed through this handle.
    pub fn note_change(
        &self,
        id: HandleId,
        handle: &FileHandle,
        thread: Thread,
        change: ChangeNumber,
    ) {
        let noted = handle.writers.lock().note(thread, change);
        if let Noted::Process(process) = noted {
            let handle = id.0;
            self.session_log
                .record(|| Record::Changed { handle, process });
        }
    }

    /// Every handle of a file.
    pub fn files(&self) -> Vec<Arc<FileHandle>> {
        let open = self.open.lock();
        let files = open.values().filter_map(|handle| match handle {
            Handle::File(handle) => Some(handle.clone()),
            Handle::Dir(_) => None,
        });
        files.collect()
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
        self.session_log
            .record(|| Record::Released { handle: id.0 });
    }
}
