//! Open files: content shared by all handles of an inode.
//!
//! How it gets to the store is in `seal`.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::changes::{ChangeNumber, Shared};
use super::content::{Content, Edit};
use super::given_up::GiveUp;
use super::layers::{LowerLayer, ReadSegment, plan_staged};
use super::upload_lock::UploadLock;
use crate::error::FsError;
use crate::namespace::{KeySpace, LocalState, Pin};
use crate::session_state::SessionLog;
use crate::store::Key;
use crate::vocabulary::{Intent, ObjectId, OpenMode};
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
    pub upload_lock: UploadLock,
    /// Held while the journal is told of this file's sealed stages.
    pub seal_lock: tokio::sync::Mutex<()>,
    pub given_up: GiveUp,
    /// Nobody has the file open any more.
    pub unused: tokio::sync::Notify,
    /// Held alone while the file loses its name, before `upload_lock`.
    pub removal: tokio::sync::RwLock<()>,
    /// Somebody is about to look for full parts of it.
    pub parts_queued: AtomicBool,
    pub stage_factory: Arc<StageFactory>,
    pub content: Mutex<Content>,
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
        Self::with(inode, Content::new(base), stage_factory)
    }

    pub fn with(inode: Pin, content: Content, stage_factory: Arc<StageFactory>) -> Self {
        Self {
            inode,
            upload_lock: UploadLock::default(),
            seal_lock: tokio::sync::Mutex::default(),
            removal: tokio::sync::RwLock::default(),
            given_up: GiveUp::default(),
            unused: tokio::sync::Notify::new(),
            parts_queued: AtomicBool::new(false),
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
        let session_log = &self.stage_factory.session_log;
        Edit::new(&self.inode, session_log, self.content.lock())
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

    /// The last change, through whatever handle.
    pub fn last_change(&self) -> ChangeNumber {
        self.content.lock().changes.last()
    }

    /// What was sealed last is in the store, or in the journal where that is enough.
    pub fn made_safe(&self) {
        self.content.lock().changes.make_safe();
    }

    /// Whether a change is not yet as safe as the mount's durability wants it.
    pub fn is_unsafe(&self, change: ChangeNumber) -> bool {
        let content = self.content.lock();
        content.changes.is_unsafe(change) && !content.is_nameless()
    }

    /// A change came through no handle.
    pub fn share_change(&self, how: Shared, change: ChangeNumber) {
        self.content.lock().changes.share(how, change);
    }

    /// Whether there are changes through no handle for which one of this mode answers.
    pub fn has_shared_changes(&self, mode: OpenMode) -> bool {
        let content = self.content.lock();
        content.changes.has_shared(mode) && !content.is_nameless()
    }

    /// Whether no other handle than one of this mode may write.
    pub fn is_last_writer(&self, mode: OpenMode) -> bool {
        self.content.lock().writers == u32::from(mode.writes())
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
        let whole = content.stage.is_none() && !content.is_nameless();
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

    /// Whether it has a name, but no stage and no object.
    pub fn is_bare(&self) -> bool {
        let content = self.content.lock();
        let is_empty = matches!(content.base, LowerLayer::Empty) && content.stage.is_none();
        is_empty && !content.is_nameless()
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

    /// The object that handles show.
    pub fn read_object(&self) -> Option<Arc<ObjectId>> {
        let content = self.content.lock();
        let is_read = content.handles > 0;
        content.base.object().filter(|_| is_read).cloned()
    }

    /// The object below everything that is staged.
    pub fn object_at_bottom(&self) -> Option<Arc<ObjectId>> {
        let content = self.content.lock();
        let mut base = &content.base;
        while let LowerLayer::Sealed(sealed) = base {
            base = &sealed.base;
        }
        base.object().cloned()
    }

    /// Whether bytes of an object show below what is not sealed yet.
    pub fn has_object_below(&self) -> bool {
        self.content.lock().base.shows_object()
    }

    /// Whether it was not queued yet, and is from now on.
    pub fn queue_parts(&self) -> bool {
        !self.parts_queued.swap(true, Ordering::AcqRel)
    }

    pub fn unqueue_parts(&self) {
        self.parts_queued.store(false, Ordering::Release);
    }

    /// Parts of the base that the stage still shows, at most `limit` bytes of them.
    pub fn next_gap(&self, limit: u64) -> Result<Option<Range<u64>>, FsError> {
        let mut content = self.edit();
        if content.stage.is_none() {
            let stage = self.new_stage(content.base.len())?;
            if content.is_nameless() {
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
