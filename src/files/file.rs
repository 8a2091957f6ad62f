//! Open files: content shared by all handles of an inode.
//!
//! How it gets to the store is in `sealing`.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::cancel::Cancels;
use super::changes::{ChangeNumber, Changes};
use super::layers::{LowerLayer, ReadSegment, plan_staged};
use crate::error::FsError;
use crate::namespace::{KeySpace, LocalState, Pin};
use crate::session_state::{Record, SavedFile, SessionLog};
use crate::store::Key;
use crate::vocabulary::{Intent, ObjectId};
use crate::write_path::{Spool, Stage};

/// Where stages are made.
#[derive(Debug)]
pub struct StageFactory {
    pub spool: Spool,
    pub keys: KeySpace,
    pub session_log: Arc<SessionLog>,
}

/// A file that is open, or being changed without being open.
#[derive(Debug)]
pub struct OpenFile {
    pub inode: Pin,
    /// Held while the store's copy of this file is being changed.
    pub upload_lock: tokio::sync::Mutex<()>,
    /// Held while the journal is told of this file's sealed stages.
    pub seal_lock: tokio::sync::Mutex<()>,
    pub cancels: Cancels,
    pub given_up: watch::Sender<bool>,
    /// Nobody has the file open any more.
    pub unused: tokio::sync::Notify,
    /// Held alone while the file loses its name, before `upload_lock`.
    pub removal: tokio::sync::RwLock<()>,
    pub stage_factory: Arc<StageFactory>,
    pub content: Mutex<Content>,
}

#[derive(Debug)]
pub struct Content {
    pub base: LowerLayer,
    pub stage: Option<Stage>,
    pub intent: Intent,
    /// The stage differs from what the store has.
    pub dirty: bool,
    /// Set by the first upload that failed; every later flush reports it.
    pub failed: Option<FsError>,
    /// The name is gone: nothing of this file goes to the store any more.
    pub orphan: bool,
    /// The file took the name of another, whose object is there until the next upload.
    pub covers: bool,
    /// Someone uploads what is sealed, and goes on until nothing is.
    pub has_uploader: bool,
    pub handles: u32,
    pub writers: u32,
    /// Operations that change the file's name.
    pub holders: u32,
    /// What the successor was told of it.
    pub saved: Option<SavedFile>,
    /// Nobody has it open and nobody uploads it: it is not to be told of any more.
    pub is_over: bool,
    pub changes: Changes,
}

/// Content while it is changed.
#[derive(Debug)]
pub struct Edit<'a> {
    file: &'a OpenFile,
    content: MutexGuard<'a, Content>,
}

impl Deref for Edit<'_> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

impl DerefMut for Edit<'_> {
    fn deref_mut(&mut self) -> &mut Content {
        &mut self.content
    }
}

impl Edit<'_> {
    fn record(&mut self) {
        let session_log = &self.file.stage_factory.session_log;
        if !session_log.is_kept() || self.content.is_over || !self.content.is_of_use() {
            return;
        }
        let inode = &self.file.inode;
        let saved = self.content.to_saved(&inode.state());
        if self.content.saved.as_ref() != Some(&saved) {
            session_log.record(|| Record::File {
                ino: inode.ino.0,
                file: saved.clone(),
            });
            self.content.saved = Some(saved);
        }
    }
}

impl Content {
    /// Whether the successor has any use for knowing it.
    fn is_of_use(&self) -> bool {
        let staged = self.stage.is_some() || self.base.sealed().is_some();
        self.handles > 0 || staged || self.saved.is_some()
    }
}

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.record();
    }
}

/// What is left of a file after its last handle went.
#[derive(Debug)]
pub enum LastClose {
    Nothing,
    /// Staged bytes that nobody can reach any more.
    Unwanted(Stage),
    /// Staged bytes whose upload failed, and the key that they were for. The file shows
    /// nothing of them any more.
    Failed(Stage, FsError, Option<Key>),
}

impl OpenFile {
    pub fn new(inode: Pin, base: LowerLayer, stage_factory: Arc<StageFactory>) -> Self {
        let content = Content {
            base,
            stage: None,
            intent: Intent::Edit,
            covers: false,
            dirty: false,
            failed: None,
            orphan: false,
            has_uploader: false,
            handles: 0,
            writers: 0,
            holders: 0,
            saved: None,
            is_over: false,
            changes: Changes::default(),
        };
        Self::with(inode, content, stage_factory)
    }

    pub fn with(inode: Pin, content: Content, stage_factory: Arc<StageFactory>) -> Self {
        Self {
            inode,
            upload_lock: tokio::sync::Mutex::default(),
            seal_lock: tokio::sync::Mutex::default(),
            removal: tokio::sync::RwLock::default(),
            cancels: Cancels::default(),
            given_up: watch::Sender::new(false),
            unused: tokio::sync::Notify::new(),
            stage_factory,
            content: Mutex::new(content),
        }
    }

    fn new_stage(&self, base_len: u64) -> Result<Stage, FsError> {
        let key = self.inode.key(&self.stage_factory.keys);
        Ok(Stage::new(
            self.stage_factory.spool.create(key.as_ref())?,
            base_len,
        ))
    }

    /// The content to be changed; what comes of it is told to the successor.
    pub fn edit(&self) -> Edit<'_> {
        Edit {
            file: self,
            content: self.content.lock(),
        }
    }

    /// Tells the successor what the inode's version is now.
    pub fn record(&self) {
        drop(self.edit());
    }

    /// Where the bytes of a range come from, cut at the end of the file.
    pub fn plan(&self, range: Range<u64>) -> Vec<ReadSegment> {
        let content = self.content.lock();
        let mut pieces = Vec::new();
        match &content.stage {
            Some(stage) => plan_staged(stage, &content.base, range, &mut pieces),
            None => content.base.plan(range, &mut pieces),
        }
        pieces
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> Result<ChangeNumber, FsError> {
        self.change(|stage| stage.write(offset, data))
    }

    pub fn truncate(&self, len: u64) -> Result<ChangeNumber, FsError> {
        if len == 0 {
            return self.start_over(Intent::Replace);
        }
        self.change(|stage| stage.truncate(len))
    }

    /// Makes a range read as zeros and the file at least `least_len` long.
    pub fn zero(&self, range: Range<u64>, least_len: u64) -> Result<ChangeNumber, FsError> {
        self.change(|stage| {
            if stage.len() < least_len {
                stage.truncate(least_len)?;
            }
            stage.zero(range)
        })
    }

    /// Makes the file empty, whatever it was.
    pub fn start_over(&self, intent: Intent) -> Result<ChangeNumber, FsError> {
        let mut content = self.edit();
        let stage = self.new_stage(0)?;
        let replaced = content.stage.replace(stage);
        // A file that nobody has seen stays exclusive when it is truncated again.
        if !(content.intent == Intent::Exclusive && content.dirty) {
            content.intent = intent;
        }
        if !matches!(content.base, LowerLayer::Sealed(_)) {
            content.base = LowerLayer::Empty;
        }
        content.failed = None;
        let change = self.mark_dirty(&mut content);
        // Not before the successor knows of what takes its place.
        content.record();
        if let Some(replaced) = replaced {
            self.stage_factory.spool.discard(replaced.file());
        }
        Ok(change)
    }

    fn change(
        &self,
        change: impl FnOnce(&mut Stage) -> Result<(), FsError>,
    ) -> Result<ChangeNumber, FsError> {
        let mut content = self.edit();
        if let Some(error) = &content.failed {
            return Err(error.clone());
        }
        if content.stage.is_none() {
            content.stage = Some(self.new_stage(content.base.len())?);
            content.record();
        }
        if let Some(stage) = &mut content.stage {
            change(stage)?;
        }
        Ok(self.mark_dirty(&mut content))
    }

    fn mark_dirty(&self, content: &mut Content) -> ChangeNumber {
        content.dirty = true;
        let change = content.changes.begin();
        let Some(stage) = &content.stage else {
            return change;
        };
        let mut state = self.inode.state();
        state.local = Some(LocalState::Staged {
            size_bytes: stage.len(),
        });
        let now = Some(SystemTime::now());
        state.overrides.mtime = now;
        state.overrides.ctime = now;
        change
    }

    pub fn len(&self) -> u64 {
        let content = self.content.lock();
        content
            .stage
            .as_ref()
            .map_or_else(|| content.base.len(), Stage::len)
    }

    /// Of the file's bytes: `clean`, `dirty` or `uploading`.
    pub fn sync_state(&self) -> &'static str {
        let content = self.content.lock();
        match (&content.base, content.dirty || content.failed.is_some()) {
            (_, true) => "dirty",
            (LowerLayer::Sealed(_), false) => "uploading",
            (LowerLayer::Empty | LowerLayer::Object(_), false) => "clean",
        }
    }

    /// Whether the name must still be free when the file is uploaded.
    pub fn is_exclusive(&self) -> bool {
        let content = self.content.lock();
        content.dirty && content.intent == Intent::Exclusive
    }

    /// The object that holds exactly the file's bytes, if one does.
    pub fn whole_object(&self) -> Option<Arc<ObjectId>> {
        let content = self.content.lock();
        let whole = content.stage.is_none() && !content.orphan;
        content.base.object().filter(|_| whole).cloned()
    }

    /// The store has the file's new bytes, which never came through here.
    pub fn replaced(&self, object: Arc<ObjectId>) {
        let mut content = self.edit();
        content.base = LowerLayer::Object(object);
        content.intent = Intent::Edit;
        content.dirty = false;
        content.failed = None;
        content.changes.seal();
        content.changes.make_safe();
        if let Some(stage) = content.stage.take() {
            self.stage_factory.spool.discard(stage.file());
        }
        let mut state = self.inode.state();
        state.local = None;
        state.overrides.mtime = Some(SystemTime::now());
    }

    /// Whether it shows nothing but that the store has nothing.
    pub fn is_bare(&self) -> bool {
        let content = self.content.lock();
        let is_empty = matches!(content.base, LowerLayer::Empty) && content.stage.is_none();
        is_empty && !content.orphan
    }

    /// Whether some handle may still write.
    pub fn has_writers(&self) -> bool {
        self.content.lock().writers > 0
    }

    /// Whether some operation is changing the file's name.
    pub fn is_held(&self) -> bool {
        self.content.lock().holders > 0
    }

    pub fn has_handles(&self) -> bool {
        self.content.lock().handles > 0
    }

    /// Whether the file still shows bytes of an object.
    pub fn shows_object(&self) -> bool {
        let content = self.content.lock();
        let shows = content.stage.as_ref().is_none_or(Stage::depends_on_base);
        shows && content.base.shows_object()
    }

    /// The object that handles of a file without a name show.
    pub fn kept_object(&self) -> Option<Arc<ObjectId>> {
        let content = self.content.lock();
        let is_read = content.orphan && content.handles > 0;
        content.base.object().filter(|_| is_read).cloned()
    }

    /// Whether bytes of an object show below what is not sealed yet.
    pub fn has_object_below(&self) -> bool {
        self.content.lock().base.shows_object()
    }

    /// Parts of the base that the stage still shows, at most `limit` bytes of them.
    pub fn next_gap(&self, limit: u64) -> Result<Option<Range<u64>>, FsError> {
        let mut content = self.edit();
        if content.stage.is_none() {
            let stage = self.new_stage(content.base.len())?;
            if content.orphan {
                self.stage_factory.spool.orphan(stage.file());
            }
            content.stage = Some(stage);
        }
        let gap = content
            .stage
            .as_ref()
            .and_then(|stage| stage.gaps(0..u64::MAX).next());
        Ok(gap.map(|gap| gap.start..gap.end.min(gap.start + limit)))
    }

    /// Takes bytes of the base over into the stage.
    pub fn fill(&self, offset: u64, data: &[u8]) -> Result<(), FsError> {
        match &mut self.edit().stage {
            Some(stage) => stage.fill(offset, data),
            None => Ok(()),
        }
    }
}
