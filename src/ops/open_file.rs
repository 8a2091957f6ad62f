//! Open files: content shared by all handles of an inode.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use super::content::{Base, Intent, Piece, Sealed, plan_staged};
use super::open::OpenMode;
use crate::error::FsError;
use crate::namespace::{Ino, LocalState, Pin};
use crate::read_path::ObjectId;
use crate::store::WriteCondition;
use crate::write_path::{Spool, Stage, StageFile};

/// A file that is open, or being changed without being open.
#[derive(Debug)]
pub struct OpenFile {
    pub inode: Pin,
    /// Held while the store's copy of this file is being changed.
    pub remote_turn: tokio::sync::Mutex<()>,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    base: Base,
    stage: Option<Stage>,
    intent: Intent,
    /// The stage differs from what the store has.
    dirty: bool,
    /// Set by the first upload that failed; every later flush reports it.
    failed: Option<FsError>,
    /// The name is gone: nothing of this file goes to the store any more.
    orphan: bool,
    handles: u32,
    writers: u32,
}

/// What is left of a file after its last handle went.
#[derive(Debug)]
pub enum Remains {
    Nothing,
    /// Staged bytes that nobody can reach any more.
    Unwanted(Arc<StageFile>),
    /// Staged bytes whose upload failed.
    Failed(Arc<StageFile>, FsError),
}

impl OpenFile {
    fn new(inode: Pin, base: Base) -> Self {
        let content = Content {
            base,
            stage: None,
            intent: Intent::Edit,
            dirty: false,
            failed: None,
            orphan: false,
            handles: 0,
            writers: 0,
        };
        Self {
            inode,
            remote_turn: tokio::sync::Mutex::default(),
            content: Mutex::new(content),
        }
    }

    /// Where the bytes of a range come from, cut at the end of the file.
    pub fn plan(&self, range: Range<u64>) -> Vec<Piece> {
        let content = self.content.lock();
        let mut pieces = Vec::new();
        match &content.stage {
            Some(stage) => plan_staged(stage, &content.base, range, &mut pieces),
            None => content.base.plan(range, &mut pieces),
        }
        pieces
    }

    pub fn write(&self, spool: &Spool, offset: u64, data: &[u8]) -> Result<(), FsError> {
        self.change(spool, |stage| stage.write(offset, data))
    }

    pub fn truncate(&self, spool: &Spool, len: u64) -> Result<(), FsError> {
        if len == 0 {
            return self.start_over(spool, Intent::Replace);
        }
        self.change(spool, |stage| stage.truncate(len))
    }

    /// Makes a range read as zeros and the file at least `least_len` long.
    pub fn zero(&self, spool: &Spool, range: Range<u64>, least_len: u64) -> Result<(), FsError> {
        self.change(spool, |stage| {
            if stage.len() < least_len {
                stage.truncate(least_len)?;
            }
            stage.zero(range)
        })
    }

    /// Makes the file empty, whatever it was.
    pub fn start_over(&self, spool: &Spool, intent: Intent) -> Result<(), FsError> {
        let mut content = self.content.lock();
        let stage = Stage::new(spool.create()?, 0);
        if let Some(replaced) = content.stage.replace(stage) {
            spool.discard(replaced.file());
        }
        // A file that nobody has seen stays exclusive when it is truncated again.
        if !(content.intent == Intent::Exclusive && content.dirty) {
            content.intent = intent;
        }
        if !matches!(content.base, Base::Sealed(_)) {
            content.base = Base::Empty;
        }
        content.failed = None;
        self.mark_dirty(&mut content);
        Ok(())
    }

    fn change(
        &self,
        spool: &Spool,
        change: impl FnOnce(&mut Stage) -> Result<(), FsError>,
    ) -> Result<(), FsError> {
        let mut content = self.content.lock();
        if let Some(error) = &content.failed {
            return Err(error.clone());
        }
        if content.stage.is_none() {
            content.stage = Some(Stage::new(spool.create()?, content.base.len()));
        }
        if let Some(stage) = &mut content.stage {
            change(stage)?;
        }
        self.mark_dirty(&mut content);
        Ok(())
    }

    fn mark_dirty(&self, content: &mut Content) {
        content.dirty = true;
        let Some(stage) = &content.stage else { return };
        let mut state = self.inode.state();
        state.local = Some(LocalState::Staged {
            size_bytes: stage.len(),
        });
        let now = Some(SystemTime::now());
        state.overrides.mtime = now;
        state.overrides.ctime = now;
    }

    pub fn len(&self) -> u64 {
        let content = self.content.lock();
        content
            .stage
            .as_ref()
            .map_or_else(|| content.base.len(), Stage::len)
    }

    /// Takes the staged content for an upload; later writes go on top of it.
    ///
    /// None when there is nothing to upload. Errors: that of an upload that failed before.
    pub fn seal(&self) -> Result<Option<Arc<Sealed>>, FsError> {
        let mut content = self.content.lock();
        if let Some(error) = &content.failed {
            return Err(error.clone());
        }
        if !content.dirty || content.orphan {
            return Ok(None);
        }
        let Some(stage) = content.stage.take() else {
            return Ok(None);
        };
        let condition = match (content.intent, &content.base) {
            (Intent::Exclusive, _) => WriteCondition::IfAbsent,
            (Intent::Edit, Base::Object(object)) => WriteCondition::IfMatch(object.etag.clone()),
            (Intent::Edit | Intent::Replace, _) => WriteCondition::Always,
        };
        let sealed = Arc::new(Sealed {
            stage,
            base: content.base.clone(),
            condition,
        });
        content.base = Base::Sealed(sealed.clone());
        content.dirty = false;
        Ok(Some(sealed))
    }

    /// The sealed content is in the store.
    pub fn uploaded(&self, spool: &Spool, sealed: &Sealed, object: Arc<ObjectId>) {
        let mut content = self.content.lock();
        content.base = Base::Object(object);
        if !content.dirty {
            content.intent = Intent::Edit;
            self.inode.state().local = None;
        } else if content.intent == Intent::Exclusive {
            content.intent = Intent::Edit;
        }
        spool.discard(sealed.stage.file());
    }

    /// The sealed content could not be uploaded: it is the staged content again, and the file has failed.
    pub fn unseal(&self, spool: &Spool, sealed: Arc<Sealed>, error: &FsError) {
        let mut content = self.content.lock();
        content.base = Base::Empty;
        let Some(mut sealed) = Arc::into_inner(sealed) else {
            tracing::error!(
                ino = self.inode.ino.0,
                "sealed bytes in use: they stay in the spool"
            );
            content.failed = Some(error.clone());
            return;
        };
        content.base = sealed.base;
        let later = content.stage.take();
        if let Some(later) = &later {
            if let Err(error) = sealed.stage.absorb(later) {
                tracing::error!(%error, "bytes written during the failed upload stay in the spool");
            } else {
                spool.discard(later.file());
            }
        }
        content.stage = Some(sealed.stage);
        content.dirty = true;
        content.failed = Some(error.clone());
    }

    /// Whether a flush has anything to do, or an upload under way to wait for.
    pub fn needs_upload(&self) -> bool {
        let content = self.content.lock();
        let under_way = matches!(content.base, Base::Sealed(_));
        (content.dirty || under_way || content.failed.is_some()) && !content.orphan
    }

    /// Of the file's bytes: `clean`, `dirty` or `uploading`.
    pub fn sync_state(&self) -> &'static str {
        let content = self.content.lock();
        match (&content.base, content.dirty || content.failed.is_some()) {
            (_, true) => "dirty",
            (Base::Sealed(_), false) => "uploading",
            (Base::Empty | Base::Object(_), false) => "clean",
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
    pub fn replaced(&self, spool: &Spool, object: Arc<ObjectId>) {
        let mut content = self.content.lock();
        content.base = Base::Object(object);
        content.intent = Intent::Edit;
        content.dirty = false;
        content.failed = None;
        if let Some(stage) = content.stage.take() {
            spool.discard(stage.file());
        }
        let mut state = self.inode.state();
        state.local = None;
        state.overrides.mtime = Some(SystemTime::now());
    }

    /// Whether some handle may still write.
    pub fn has_writers(&self) -> bool {
        self.content.lock().writers > 0
    }

    pub fn has_handles(&self) -> bool {
        self.content.lock().handles > 0
    }

    /// The object whose bytes this file still shows, if any.
    pub fn shown_object(&self) -> Option<Arc<ObjectId>> {
        let content = self.content.lock();
        let shows = content.stage.as_ref().is_none_or(Stage::depends_on_base);
        content.base.object().filter(|_| shows).cloned()
    }

    /// Parts of the base that the stage still shows, at most `limit` bytes of them.
    pub fn next_gap(&self, spool: &Spool, limit: u64) -> Result<Option<Range<u64>>, FsError> {
        let mut content = self.content.lock();
        if content.stage.is_none() {
            content.stage = Some(Stage::new(spool.create()?, content.base.len()));
        }
        let gap = content
            .stage
            .as_ref()
            .and_then(|stage| stage.gaps(0..u64::MAX).next());
        Ok(gap.map(|gap| gap.start..gap.end.min(gap.start + limit)))
    }

    /// Takes bytes of the base over into the stage.
    pub fn fill(&self, offset: u64, data: &[u8]) -> Result<(), FsError> {
        match &mut self.content.lock().stage {
            Some(stage) => stage.fill(offset, data),
            None => Ok(()),
        }
    }

    /// The name is gone: nothing is uploaded any more, open handles go on.
    pub fn orphan(&self) {
        let mut content = self.content.lock();
        content.orphan = true;
        content.dirty = false;
        content.failed = None;
    }

    /// The file took its new name, whatever had it before.
    pub fn renamed(&self) {
        let mut content = self.content.lock();
        if content.intent == Intent::Exclusive {
            content.intent = Intent::Replace;
        }
    }

    /// The same bytes are another object now: the file was renamed.
    pub fn rebase(&self, object: Arc<ObjectId>) {
        let mut content = self.content.lock();
        if matches!(content.base, Base::Object(_)) {
            content.base = Base::Object(object);
        }
    }
}

/// Every open file, by inode.
#[derive(Debug, Default)]
pub struct OpenFiles {
    files: Mutex<HashMap<Ino, Arc<OpenFile>>>,
}

impl OpenFiles {
    pub fn get(&self, ino: Ino) -> Option<Arc<OpenFile>> {
        self.files.lock().get(&ino).cloned()
    }

    /// Counts one handle more on the file; `base` tells what a file that was not open shows.
    pub fn open(
        &self,
        inode: Pin,
        mode: OpenMode,
        base: impl FnOnce(&Pin) -> Base,
    ) -> Arc<OpenFile> {
        let mut files = self.files.lock();
        let file = files.entry(inode.ino).or_insert_with(|| {
            let base = base(&inode);
            Arc::new(OpenFile::new(inode, base))
        });
        let mut content = file.content.lock();
        content.handles += 1;
        content.writers += u32::from(mode.writes());
        drop(content);
        file.clone()
    }

    /// Counts one handle less; the last one leaves nothing behind in memory.
    pub fn close(&self, file: &OpenFile, mode: OpenMode) -> Remains {
        let mut files = self.files.lock();
        let mut content = file.content.lock();
        content.handles -= 1;
        content.writers -= u32::from(mode.writes());
        if content.handles > 0 {
            return Remains::Nothing;
        }
        files.remove(&file.inode.ino);
        match (content.stage.take(), content.failed.take()) {
            (Some(stage), Some(error)) => Remains::Failed(stage.file().clone(), error),
            (Some(stage), None) => Remains::Unwanted(stage.file().clone()),
            (None, _) => Remains::Nothing,
        }
    }

    /// Forgets every file and returns what is staged and not in the store.
    pub fn abandon(&self) -> Vec<(Arc<OpenFile>, Arc<StageFile>)> {
        let files = std::mem::take(&mut *self.files.lock());
        let staged = |file: &OpenFile| {
            let content = file.content.lock();
            content
                .stage
                .as_ref()
                .filter(|_| content.dirty && !content.orphan)
                .map(|stage| stage.file().clone())
        };
        files
            .into_values()
            .filter_map(|file| staged(&file).map(|stage| (file, stage)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{InodeTable, Kind, Name, ROOT};
    use crate::store::{ETag, Key};

    fn file() -> (tempfile::TempDir, Spool, Arc<OpenFile>) {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let table = Arc::new(InodeTable::default());
        let name = Name::from_segment("f").unwrap();
        let pin = table.child_or_new(ROOT, &name, Kind::File).unwrap();
        let file = OpenFiles::default().open(pin, OpenMode::ReadWrite, |_| Base::Empty);
        (dir, spool, file)
    }

    fn object(size_bytes: u64) -> Arc<ObjectId> {
        Arc::new(ObjectId {
            key: Key::new("f"),
            etag: ETag::new("e"),
            size_bytes,
        })
    }

    #[test]
    fn a_second_close_waits_for_the_upload_that_the_first_one_began() {
        let (_dir, spool, file) = file();
        file.write(&spool, 0, b"bytes").unwrap();
        let sealed = file.seal().unwrap().unwrap();
        assert!(file.needs_upload(), "S3 does not have the bytes yet");
        assert!(file.seal().unwrap().is_none(), "and nothing is sent twice");
        file.uploaded(&spool, &sealed, object(5));
        assert!(!file.needs_upload());
    }

    #[test]
    fn what_is_written_during_an_upload_is_dirty_after_it() {
        let (_dir, spool, file) = file();
        file.write(&spool, 0, b"first").unwrap();
        let sealed = file.seal().unwrap().unwrap();
        file.write(&spool, 5, b" second").unwrap();
        file.uploaded(&spool, &sealed, object(5));
        assert!(file.needs_upload());
        let later = file.seal().unwrap().unwrap();
        assert_eq!(later.stage.len(), 12);
        assert!(matches!(later.base, Base::Object(_)));
        assert_eq!(later.condition, WriteCondition::IfMatch(ETag::new("e")));
    }

    #[test]
    fn a_failed_upload_leaves_every_byte_staged_and_the_file_failed() {
        let (_dir, spool, file) = file();
        file.write(&spool, 0, b"first").unwrap();
        let sealed = file.seal().unwrap().unwrap();
        file.write(&spool, 5, b" second").unwrap();
        file.unseal(&spool, sealed, &FsError::AccessDenied);
        assert!(matches!(file.seal(), Err(FsError::AccessDenied)));
        let pieces = file.plan(0..100);
        let [Piece::Local(stage, range)] = pieces.as_slice() else {
            panic!("{pieces:?}")
        };
        assert_eq!(stage.read(range.clone()).unwrap(), b"first second");
    }
}
