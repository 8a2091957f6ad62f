//! Every open file, by inode: how many handles each has, and what the last one leaves.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::content::{Content, Recorded};
use super::file::{LastClose, OpenFile, StageFactory};
use super::layers::LowerLayer;
use super::long_files;
use crate::error::FsError;
use crate::namespace::{Namespace, Pin};
use crate::session_state::Record;
use crate::store::Key;
use crate::vocabulary::{Ino, OpenMode};
use crate::write_path::{LostFile, LostReason, Stage};

type Files = HashMap<Ino, Arc<OpenFile>>;

/// Every open file, by inode.
#[derive(Debug)]
pub struct OpenFiles {
    files: Mutex<Files>,
    /// Of how many that went the bytes are on their way to lost+found.
    leaving: AtomicUsize,
    pub namespace: Arc<Namespace>,
    pub stage_factory: Arc<StageFactory>,
}

/// A file that stays known as an open one, though nobody may have it open.
#[derive(Debug)]
pub struct HeldFile<'a> {
    files: &'a OpenFiles,
    file: Arc<OpenFile>,
}

impl Deref for HeldFile<'_> {
    type Target = Arc<OpenFile>;

    fn deref(&self) -> &Arc<OpenFile> {
        &self.file
    }
}

impl Drop for HeldFile<'_> {
    fn drop(&mut self) {
        self.files
            .release(&self.file, |content| content.holders -= 1);
    }
}

/// Counts a file as long as its bytes are on their way to lost+found.
struct Leaving<'a>(&'a AtomicUsize);

impl<'a> Leaving<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl OpenFiles {
    pub fn new(namespace: Arc<Namespace>, stage_factory: Arc<StageFactory>) -> Self {
        Self {
            files: Mutex::default(),
            leaving: AtomicUsize::new(0),
            namespace,
            stage_factory,
        }
    }

    pub fn get(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        self.files.lock().get(&ino).cloned()
    }

    pub fn all(&self) -> Vec<Arc<OpenFile>> {
        self.files.lock().values().cloned().collect()
    }

    /// Whether bytes of a file that is not among `all` any more are not in lost+found yet.
    pub fn are_leaving(&self) -> bool {
        self.leaving.load(Ordering::SeqCst) > 0
    }

    /// Files that have something to be uploaded.
    pub fn sealed(&self) -> Vec<Arc<OpenFile>> {
        let files = self.files.lock();
        let sealed = files
            .values()
            .filter(|file| file.content.lock().base.sealed().is_some());
        sealed.cloned().collect()
    }

    /// Counts one handle more on the file.
    pub fn open(&self, inode: Pin, mode: OpenMode) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        let file = self.entry(&mut files, inode);
        let mut content = file.edit();
        content.handles += 1;
        content.writers += u32::from(mode.writes());
        drop(content);
        file
    }

    /// Keeps the file here until it is dropped, whoever has it open.
    ///
    /// Errors: `Stale` when the inode is gone.
    pub fn hold(&self, ino: Ino) -> Result<HeldFile<'_>, FsError> {
        let inode = self.namespace.inode(ino)?;
        let mut files = self.files.lock();
        let file = self.entry(&mut files, inode);
        file.content.lock().holders += 1;
        Ok(HeldFile { files: self, file })
    }

    /// To be called with the lock of `files`, and counted before that is dropped.
    fn entry(&self, files: &mut Files, inode: Pin) -> Arc<OpenFile> {
        let file = files.entry(inode.ino).or_insert_with(|| {
            let base = self.base_of(&inode);
            Arc::new(OpenFile::new(inode, base, self.stage_factory.clone()))
        });
        file.clone()
    }

    /// A file as a predecessor had it open.
    pub fn restore(&self, inode: Pin, content: Content) -> Arc<OpenFile> {
        let ino = inode.ino;
        let file = Arc::new(OpenFile::with(inode, content, self.stage_factory.clone()));
        self.files.lock().insert(ino, file.clone());
        file
    }

    /// Counts one handle less and cleans up after the last one.
    pub fn close(&self, file: &OpenFile, mode: OpenMode) {
        self.release(file, |content| {
            content.handles -= 1;
            content.writers -= u32::from(mode.writes());
            if content.handles == 0 {
                file.unused.notify_waiters();
            }
        });
    }

    /// To be called once nothing of the file is to be uploaded any more.
    pub fn release_if_unused(&self, file: &OpenFile) {
        self.release(file, |_| {});
    }

    fn release(&self, file: &OpenFile, count: impl FnOnce(&mut Content)) {
        let mut files = self.files.lock();
        let mut content = file.content.lock();
        count(&mut content);
        let remains = self.take_remains(&mut files, file, &mut content);
        // Before the file is missed.
        let _leaving =
            matches!(remains, LastClose::Failed(..)).then(|| Leaving::begin(&self.leaving));
        drop((content, files));
        match remains {
            LastClose::Nothing => {}
            LastClose::Unwanted(stage) => self.stage_factory.spool.discard(stage.file()),
            LastClose::Failed(stage, error, key) => {
                self.move_to_lost_found(key, &stage, why_failed(error));
            }
        }
    }

    /// What a file leaves that nobody has open and nobody uploads.
    fn take_remains(&self, files: &mut Files, file: &OpenFile, content: &mut Content) -> LastClose {
        if content.handles > 0 || content.holders > 0 || content.has_uploader {
            return LastClose::Nothing;
        }
        files.remove(&file.inode.ino);
        let recorded = std::mem::replace(&mut content.recorded, Recorded::Closed);
        let ino = file.inode.ino.0;
        if let Recorded::File(_) = recorded {
            file.stage_factory
                .session_log
                .record(|| Record::FileGone { ino });
        }
        match (content.stage.take(), content.failed.take()) {
            // Whoever opens the file next comes after this.
            (Some(stage), Some(error)) => {
                LastClose::Failed(stage, error, self.fall_back_to_store(file))
            }
            (Some(stage), None) => LastClose::Unwanted(stage),
            (None, _) => LastClose::Nothing,
        }
    }

    /// Forgets every file and returns what is staged and not in the store, and why it
    /// goes to lost+found.
    pub fn take_dirty(&self) -> Vec<(Arc<OpenFile>, Stage, LostReason)> {
        let files = std::mem::take(&mut *self.files.lock());
        let staged = |file: &OpenFile| {
            let content = file.content.lock();
            let stage = content.stage.as_ref();
            let stage = stage
                .filter(|_| content.dirty && !content.is_nameless())
                .cloned()?;
            let failed = content.failed.clone();
            Some((stage, failed.map_or(LostReason::DaemonEnded, why_failed)))
        };
        let staged = |file: Arc<OpenFile>| {
            let (stage, reason) = staged(&file)?;
            Some((file, stage, reason))
        };
        files.into_values().filter_map(staged).collect()
    }

    /// Whether some operation is changing the name of the file.
    pub fn is_held(&self, ino: Ino) -> bool {
        self.get(ino).is_some_and(|file| file.is_held())
    }

    /// Errors: `Offloaded`, where a file below a directory that is to be moved has parts
    /// under its present key alone.
    pub fn check_movable(&self, dir: Ino) -> Result<(), FsError> {
        let table = self.namespace.table();
        let files = self.all().into_iter();
        let mut below = files.filter(|file| table.is_within(file.inode.ino, dir));
        below.try_for_each(|file| long_files::check_renamable(&file))
    }

    /// What the store has of a file that is not open.
    pub fn base_of(&self, inode: &Pin) -> LowerLayer {
        let version = inode.state().remote.clone();
        match (version, self.namespace.file_key(inode.ino)) {
            (Some(version), Ok(key)) => LowerLayer::Object(Arc::new(version.at(key))),
            _ => LowerLayer::Empty,
        }
    }

    /// Keeps staged bytes in lost+found.
    pub fn move_to_lost_found(&self, key: Option<Key>, stage: &Stage, reason: LostReason) {
        let written = stage.written();
        let ends_in_file = stage.file().grow_to(stage.len());
        let is_unusable = stage.file().is_unusable();
        let reason = if is_unusable {
            LostReason::Damaged("a record")
        } else {
            reason
        };
        let lost = LostFile {
            key: key.as_ref(),
            reason,
            written: Some(&written)
                .filter(|_| (stage.depends_on_base() || !ends_in_file) && !is_unusable)
                .map(Vec::as_slice),
        };
        self.stage_factory
            .spool
            .move_to_lost_found(stage.file(), &lost);
    }

    /// The file shows again what the store has of it, or vanishes where the store has
    /// nothing. Returns the key that it had.
    fn fall_back_to_store(&self, file: &OpenFile) -> Option<Key> {
        let key = self.namespace.file_key(file.inode.ino).ok();
        let mut state = file.inode.state();
        state.local = None;
        if let Some(set) = state.overrides.if_set() {
            set.mtime = None;
        }
        state.content_generation += 1;
        let stored = state.remote.is_some();
        drop(state);
        if stored {
            self.namespace.invalidate(&file.inode);
        } else {
            self.namespace.roll_back_create(&file.inode);
        }
        key
    }
}

/// Why the bytes of a failed file go to lost+found.
fn why_failed(error: FsError) -> LostReason {
    match error {
        FsError::Interrupted => LostReason::WriterKilled,
        error => LostReason::UploadFailed(error),
    }
}
