//! Every open file, by inode: how many handles each has, and what the last one leaves.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::content::LowerLayer;
use super::open_file::{Content, LastClose, OpenFile, StageFactory};
use crate::namespace::Pin;
use crate::session_state::Record;
use crate::store::Key;
use crate::vocabulary::{Ino, OpenMode};
use crate::write_path::Stage;

/// Has a file whose upload failed show what the store has, and tells the key that it had.
pub trait FailedFile: FnOnce(&OpenFile) -> Option<Key> {}

impl<F: FnOnce(&OpenFile) -> Option<Key>> FailedFile for F {}

/// Every open file, by inode.
#[derive(Debug)]
pub struct OpenFiles {
    files: Mutex<HashMap<Ino, Arc<OpenFile>>>,
    desk: Arc<StageFactory>,
}

impl OpenFiles {
    pub fn new(desk: Arc<StageFactory>) -> Self {
        Self {
            files: Mutex::default(),
            desk,
        }
    }

    pub fn get(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        self.files.lock().get(&ino).cloned()
    }

    pub fn all(&self) -> Vec<Arc<OpenFile>> {
        self.files.lock().values().cloned().collect()
    }

    /// Files that have something to be uploaded.
    pub fn sealed(&self) -> Vec<Arc<OpenFile>> {
        let files = self.files.lock();
        let sealed = files
            .values()
            .filter(|file| file.content.lock().base.sealed().is_some());
        sealed.cloned().collect()
    }

    /// Counts one handle more on the file; `base` tells what a file that was not open shows.
    pub fn open(
        &self,
        inode: Pin,
        mode: OpenMode,
        base: impl FnOnce(&Pin) -> LowerLayer,
    ) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        let file = files.entry(inode.ino).or_insert_with(|| {
            let base = base(&inode);
            Arc::new(OpenFile::new(inode, base, self.desk.clone()))
        });
        let mut content = file.edit();
        content.handles += 1;
        content.writers += u32::from(mode.writes());
        drop(content);
        file.clone()
    }

    /// Keeps the file here until `let_go`, whoever has it open.
    pub fn hold(&self, inode: Pin, base: impl FnOnce(&Pin) -> LowerLayer) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        let file = files.entry(inode.ino).or_insert_with(|| {
            let base = base(&inode);
            Arc::new(OpenFile::new(inode, base, self.desk.clone()))
        });
        file.content.lock().holders += 1;
        file.clone()
    }

    pub fn let_go(&self, file: &OpenFile, fail: impl FailedFile) -> LastClose {
        let mut files = self.files.lock();
        let mut content = file.content.lock();
        content.holders -= 1;
        take_remains(&mut files, file, &mut content, fail)
    }

    /// A file as a predecessor had it open.
    pub(super) fn restore(&self, inode: Pin, content: Content) -> Arc<OpenFile> {
        let ino = inode.ino;
        let file = Arc::new(OpenFile::with(inode, content, self.desk.clone()));
        self.files.lock().insert(ino, file.clone());
        file
    }

    /// Counts one handle less; the last one leaves nothing behind in memory.
    pub fn close(&self, file: &OpenFile, mode: OpenMode, fail: impl FailedFile) -> LastClose {
        let mut files = self.files.lock();
        let mut content = file.content.lock();
        content.handles -= 1;
        content.writers -= u32::from(mode.writes());
        if content.handles == 0 {
            file.unused.notify_waiters();
        }
        take_remains(&mut files, file, &mut content, fail)
    }

    /// To be called once nothing of the file is to be uploaded any more.
    pub fn release_if_unused(&self, file: &OpenFile, fail: impl FailedFile) -> LastClose {
        let mut files = self.files.lock();
        let mut content = file.content.lock();
        take_remains(&mut files, file, &mut content, fail)
    }

    /// Forgets every file and returns what is staged and not in the store.
    pub fn take_dirty(&self) -> Vec<(Arc<OpenFile>, Stage)> {
        let files = std::mem::take(&mut *self.files.lock());
        let staged = |file: &OpenFile| {
            let content = file.content.lock();
            content
                .stage
                .as_ref()
                .filter(|_| content.dirty && !content.orphan)
                .cloned()
        };
        files
            .into_values()
            .filter_map(|file| staged(&file).map(|stage| (file, stage)))
            .collect()
    }
}

/// What a file leaves that nobody has open and nobody uploads.
fn take_remains(
    files: &mut HashMap<Ino, Arc<OpenFile>>,
    file: &OpenFile,
    content: &mut Content,
    fail: impl FailedFile,
) -> LastClose {
    if content.handles > 0 || content.holders > 0 || content.has_uploader {
        return LastClose::Nothing;
    }
    files.remove(&file.inode.ino);
    content.is_over = true;
    let ino = file.inode.ino.0;
    if content.saved.is_some() {
        file.desk.session_log.record(|| Record::FileGone { ino });
    }
    match (content.stage.take(), content.failed.take()) {
        // Whoever opens the file next comes after this.
        (Some(stage), Some(error)) => LastClose::Failed(stage, error, fail(file)),
        (Some(stage), None) => LastClose::Unwanted(stage),
        (None, _) => LastClose::Nothing,
    }
}
