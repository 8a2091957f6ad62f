//! How a file's staged content gets to the store.
//!
//! A stage is sealed when a descriptor is closed or synced: its bytes do not
//! change any more, and later writes go to a new stage on top. At most two
//! sealed stages wait for a file: one whose upload was begun, which the store
//! may have, and over it one that has all that was sealed since. A third one is
//! there only while `seal_lock` is held: it is merged with the second, by copying
//! what is shorter into the other.

use std::sync::Arc;

use super::conditions::{condition_of, condition_over, known_under_name};
use super::file::OpenFile;
use super::layers::{LowerLayer, SealedStage, UploadHistory};
use crate::error::FsError;
use crate::journal::SealedBase;
use crate::namespace::LocalState;
use crate::store::WriteCondition;
use crate::vocabulary::{Intent, NameState, ObjectId, StageId};
use crate::write_path::{LostFile, LostReason, PriorAttempt, RecoveredStage, Stage};

/// A stage just sealed, and what becomes of one below it that was never sent.
#[derive(Debug)]
pub enum Sealing {
    /// It has all that counts; what it supersedes is not needed any more.
    Whole {
        sealed: Arc<SealedStage>,
        superseded: Option<Arc<SealedStage>>,
    },
    /// It is to be absorbed by the one below, which is longer.
    Absorbed {
        sealed: Arc<SealedStage>,
        below: Arc<SealedStage>,
    },
}

impl OpenFile {
    /// Takes the staged content for an upload; later writes go on top of it.
    ///
    /// None when there is nothing new. Errors: that of an upload that failed before;
    /// the spool's.
    pub fn seal(&self) -> Result<Option<Sealing>, FsError> {
        let mut content = self.edit();
        if let Some(error) = &content.failed {
            return Err(error.clone());
        }
        if !content.dirty || content.is_nameless() {
            content.changes.seal();
            return Ok(None);
        }
        let Some(mut stage) = content.stage.clone() else {
            return Ok(None);
        };
        let below = content.base.sealed().cloned();
        // Nor can what is not here be copied.
        let stands = |below: &Arc<SealedStage>| {
            below.sent.is_maybe_sent() || below.stage.file().offloaded().has_any()
        };
        let below = below.filter(|below| !stands(below));
        let (condition, known) = match &below {
            Some(below) => (condition_over(&content, below), below.known.clone()),
            None => {
                let known = known_under_name(&self.inode, &content);
                (condition_of(&content), known)
            }
        };
        let absorbs = below.as_ref().filter(|it| stage.is_absorbed_by(&it.stage));
        let base = match (&absorbs, &below) {
            (Some(below), _) => {
                below.stage.reserve_for(&stage)?;
                content.base.clone()
            }
            (None, Some(below)) => {
                stage.absorb(&below.stage)?;
                below.base.clone()
            }
            (None, None) => content.base.clone(),
        };
        let sealed = Arc::new(SealedStage {
            stage,
            base,
            condition,
            known,
            sent: UploadHistory::default(),
        });
        content.stage = None;
        content.base = LowerLayer::Sealed(sealed.clone());
        content.dirty = false;
        content.changes.seal();
        Ok(Some(match absorbs.cloned() {
            Some(below) => Sealing::Absorbed { sealed, below },
            None => Sealing::Whole {
                sealed,
                superseded: below,
            },
        }))
    }

    /// `whole`, a sealed stage that absorbed `sealed` above it, replaces both.
    ///
    /// False where the file has become another meanwhile: both are needed still.
    pub fn absorbed(&self, sealed: &SealedStage, whole: Stage) -> bool {
        let mut content = self.edit();
        let Some(top) = content.base.sealed().cloned() else {
            return false;
        };
        let Some(below) = top.base.sealed() else {
            return false;
        };
        let ids = [&top.stage, &below.stage].map(|stage| stage.file().id());
        if ids != [&sealed.stage, &whole].map(|stage| stage.file().id()) {
            return false;
        }
        content.base = LowerLayer::Sealed(Arc::new(SealedStage {
            stage: whole,
            base: below.base.clone(),
            condition: top.condition.clone(),
            known: top.known.clone(),
            sent: top.sent.copy(),
        }));
        true
    }

    /// A stage that a predecessor sealed, over those it sealed before.
    pub fn recover(&self, recovered: RecoveredStage) {
        let RecoveredStage { file, sealed, .. } = recovered;
        let mut content = self.edit();
        // What lies over another is sent once that one is done, and said to be over its object then.
        let sent = match sealed.base {
            SealedBase::Stage(_) => UploadHistory::default(),
            SealedBase::Empty | SealedBase::Object(_) => UploadHistory::maybe(&sealed),
        };
        let base = match sealed.base.clone() {
            SealedBase::Empty => LowerLayer::Empty,
            SealedBase::Object(object) => LowerLayer::Object(Arc::new(object)),
            SealedBase::Stage(_) => content.base.clone(),
        };
        let size_bytes = content.stage.as_ref().map_or(sealed.len, Stage::len);
        content.base = LowerLayer::Sealed(Arc::new(SealedStage {
            stage: Stage::recovered(file, &sealed),
            base,
            condition: sealed.condition,
            known: sealed.known,
            sent,
        }));
        self.inode.state().local = Some(LocalState::Staged { size_bytes });
    }

    /// Takes on the uploading of what is sealed, unless someone has.
    pub fn take_uploading(&self) -> bool {
        let mut content = self.content.lock();
        let free = !content.has_uploader && content.base.sealed().is_some();
        content.has_uploader |= free;
        free
    }

    /// The sealed stage to be uploaded first, which counts as sent from now on:
    /// nothing takes its place any more. To be called with `seal_lock`.
    pub fn begin_upload(&self) -> Option<(Arc<SealedStage>, PriorAttempt)> {
        self.content.lock().begin_upload()
    }

    /// The same, for who took on the uploading: when there is none, it ends.
    pub fn begin_next_upload(&self) -> Option<(Arc<SealedStage>, PriorAttempt)> {
        let mut content = self.content.lock();
        let next = content.begin_upload();
        content.has_uploader = next.is_some();
        next
    }

    /// Every sealed stage, the one to be uploaded first before those over it.
    pub fn sealed_stages(&self) -> Vec<Arc<SealedStage>> {
        let content = self.content.lock();
        let top = content.base.sealed().filter(|_| !content.is_nameless());
        let mut stages: Vec<_> = std::iter::successors(top, |sealed| sealed.base.sealed())
            .cloned()
            .collect();
        stages.reverse();
        stages
    }

    /// Whether a stage is still to be uploaded, as far as the file knows.
    pub fn has_sealed(&self, stage: StageId) -> bool {
        let sealed = self.sealed_stages();
        sealed
            .iter()
            .any(|sealed| sealed.stage.file().id() == stage)
    }

    /// A sealed stage takes over all that it shows of its base, which are these bytes.
    ///
    /// Errors: the spool's.
    pub fn fill_from_lower(
        &self,
        sealed: &Arc<SealedStage>,
        below: &[u8],
    ) -> Result<Arc<SealedStage>, FsError> {
        let mut stage = sealed.stage.clone();
        stage.fill(0, below)?;
        let whole = Arc::new(SealedStage {
            stage,
            base: sealed.base.clone(),
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            sent: sealed.sent.copy(),
        });
        let mut content = self.edit();
        content.base = content.base.replace(sealed, &whole);
        Ok(whole)
    }

    /// The sealed content is in the store as this object. What is sealed over it
    /// is based on the object from now on, and returned. To be called with `seal_lock`.
    pub fn uploaded(
        &self,
        sealed: &Arc<SealedStage>,
        object: Arc<ObjectId>,
    ) -> Option<Arc<SealedStage>> {
        let mut content = self.edit();
        if content.name == NameState::TakenOver {
            content.name = NameState::Own;
        }
        let over = content
            .base
            .sealed()
            .filter(|top| !Arc::ptr_eq(top, sealed))
            .cloned();
        if let Some(over) = over {
            let known = WriteCondition::IfMatch(object.etag.clone());
            let condition = if over.stage.base_len() == 0 {
                WriteCondition::Always
            } else {
                known.clone()
            };
            let over = Arc::new(SealedStage {
                stage: over.stage.clone(),
                base: LowerLayer::Object(object),
                condition,
                known,
                sent: UploadHistory::default(),
            });
            content.base = LowerLayer::Sealed(over.clone());
            return Some(over);
        }
        content.base = LowerLayer::Object(object);
        if !content.dirty {
            content.intent = Intent::Edit;
            self.inode.state().local = None;
        } else if content.intent == Intent::Exclusive {
            content.intent = Intent::Edit;
        }
        None
    }

    /// What is sealed could not be uploaded: it is the staged content again, and the file has failed.
    pub fn revert_seal(&self, why: &FsError) {
        let mut content = self.edit();
        content.failed = Some(why.clone());
        content.changes.none_is_safe();
        while let Some(sealed) = content.base.sealed().cloned() {
            sealed.stage.file().upload_slot().set(None);
            let merged = match content.stage.as_mut() {
                Some(later) => later.absorb(&sealed.stage),
                None => {
                    content.stage = Some(sealed.stage.clone());
                    Ok(())
                }
            };
            if let Err(error) = merged {
                tracing::error!(ino = self.inode.ino.0, %error, "sealed bytes stay in the spool");
                if sealed.stage.file().offloaded().has_any() {
                    // The next start could not upload it. It stays below what is over it.
                    self.move_to_lost_found(&sealed, why);
                }
                return;
            }
            let kept = content.stage.as_ref().map(|stage| stage.file().id());
            if kept != Some(sealed.stage.file().id()) {
                self.stage_factory.spool.discard(sealed.stage.file());
            }
            content.base = sealed.base.clone();
        }
        content.dirty = true;
    }

    /// Whether something is sealed over these bytes, which takes along what is to be stored.
    pub fn is_sealed_over(&self, sealed: &Arc<SealedStage>) -> bool {
        let content = self.content.lock();
        let top = content.base.sealed();
        top.is_some_and(|top| !Arc::ptr_eq(top, sealed))
    }

    fn move_to_lost_found(&self, sealed: &SealedStage, why: &FsError) {
        let key = self.inode.key(&self.stage_factory.keys);
        let lost = LostFile {
            key: key.as_ref(),
            reason: LostReason::UploadFailed(why.clone()),
            written: None,
        };
        let file = sealed.stage.file();
        self.stage_factory.spool.move_to_lost_found(file, &lost);
    }

    /// Whether a flush has anything to do, or an upload under way to wait for.
    pub fn needs_upload(&self) -> bool {
        let content = self.content.lock();
        let under_way = content.base.sealed().is_some();
        (content.dirty || under_way || content.failed.is_some()) && !content.is_nameless()
    }

    /// Whether the store may have an object under the file's name that its inode does not know of.
    pub fn shadows_object(&self) -> bool {
        let name = self.content.lock().name;
        let sealed = self.sealed_stages();
        name == NameState::TakenOver || sealed.iter().any(|sealed| sealed.sent.is_maybe_sent())
    }

    /// Whether it has taken the name of an object that the store may have still.
    pub fn covers_object(&self) -> bool {
        self.content.lock().name == NameState::TakenOver
    }

    /// What the sealed stages take the place of under the name: after a restart the inode
    /// knows nothing of it.
    pub fn replaced_version(&self) -> WriteCondition {
        let sealed = self.sealed_stages();
        let lowest = sealed.first();
        lowest.map_or(WriteCondition::IfAbsent, |lowest| lowest.known.clone())
    }

    /// Whether an upload that was begun replaces whatever is there when it lands.
    pub fn sends_whatever_is_there(&self) -> bool {
        let sealed = self.sealed_stages();
        let mut sent = sealed.iter().filter(|sealed| sealed.sent.is_maybe_sent());
        sent.any(|sealed| sealed.condition == WriteCondition::Always)
    }

    /// The file, which the store does not have, takes the name of one that it has.
    pub fn cover(&self) {
        let mut content = self.edit();
        if content.name == NameState::Own {
            content.name = NameState::TakenOver;
        }
    }

    /// The name is gone: nothing is uploaded any more, open handles go on.
    pub fn orphan(&self) {
        let mut content = self.edit();
        content.name = NameState::Gone;
        content.dirty = false;
        content.failed = None;
        let spool = &self.stage_factory.spool;
        if let Some(stage) = &content.stage {
            spool.orphan(stage.file());
        }
        let mut base = &content.base;
        while let LowerLayer::Sealed(sealed) = base {
            spool.orphan(sealed.stage.file());
            base = &sealed.base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::file::StageFactory;
    use crate::files::layers::ReadSegment;
    use crate::files::moved_object::MovedObject;
    use crate::namespace::{InodeTable, KeySpace, Name, Numbers};
    use crate::store::{ETag, Key};
    use crate::vocabulary::{Kind, ObjectVersion, ROOT};
    use crate::write_path::Spool;

    fn file() -> (tempfile::TempDir, Arc<OpenFile>) {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(dir.path(), u64::MAX).unwrap();
        let table = Arc::new(InodeTable::new(
            Arc::default(),
            Numbers::default(),
            Default::default(),
        ));
        let name = Name::from_segment("f").unwrap();
        let pin = table.child_or_new(ROOT, &name, Kind::File).unwrap();
        let keys = KeySpace::new("");
        let stage_factory = StageFactory {
            spool,
            keys,
            session_log: Arc::default(),
        };
        let file = Arc::new(OpenFile::new(
            pin,
            LowerLayer::Empty,
            Arc::new(stage_factory),
        ));
        let mut content = file.edit();
        (content.handles, content.writers) = (1, 1);
        drop(content);
        (dir, file)
    }

    fn absorb(
        file: &OpenFile,
        later: &Arc<SealedStage>,
        below: &Arc<SealedStage>,
    ) -> Arc<SealedStage> {
        let conditions = (later.condition.clone(), later.known.clone());
        let record = later
            .stage
            .as_absorbed(&below.stage, Default::default(), conditions);
        let spool = &file.stage_factory.spool;
        let whole = below
            .stage
            .with_absorbed(&later.stage, record.unwrap(), spool);
        assert!(file.absorbed(later, whole.unwrap()));
        spool.discard(later.stage.file());
        file.sealed_stages().pop().unwrap()
    }

    fn object(etag: &str, size_bytes: u64) -> Arc<ObjectId> {
        Arc::new(ObjectId {
            key: Key::new("f"),
            etag: ETag::new(etag),
            size_bytes,
        })
    }

    fn sealed(file: &OpenFile) -> Arc<SealedStage> {
        match file.seal().unwrap().unwrap() {
            Sealing::Whole { sealed, .. } | Sealing::Absorbed { sealed, .. } => sealed,
        }
    }

    /// What the file reads as, where all of it is here.
    fn text(file: &OpenFile) -> String {
        let pieces = file.plan(0..1000).into_iter();
        let bytes = pieces.flat_map(|piece| match piece {
            ReadSegment::Local(stage, range) => stage.read(range).unwrap(),
            ReadSegment::Zero(len) => vec![b'0'; len as usize],
            ReadSegment::Object(_, range) => vec![b'o'; (range.end - range.start) as usize],
        });
        String::from_utf8(bytes.collect()).unwrap()
    }

    fn stages_in(dir: &tempfile::TempDir) -> usize {
        std::fs::read_dir(dir.path().join("stage")).unwrap().count()
    }

    #[test]
    fn a_second_close_waits_for_the_upload_that_the_first_one_began() {
        let (_dir, file) = file();
        file.write(0, b"bytes").unwrap();
        let sealed = sealed(&file);
        assert!(file.needs_upload(), "S3 does not have the bytes yet");
        assert!(file.seal().unwrap().is_none(), "and nothing is sent twice");
        file.uploaded(&sealed, object("e", 5));
        assert!(!file.needs_upload());
    }

    #[test]
    fn what_is_written_during_an_upload_is_dirty_after_it() {
        let (_dir, file) = file();
        file.write(0, b"first").unwrap();
        let first = sealed(&file);
        file.write(5, b" second").unwrap();
        file.uploaded(&first, object("e", 5));
        assert!(file.needs_upload());
        let later = sealed(&file);
        assert_eq!(later.stage.len(), 12);
        assert!(matches!(later.base, LowerLayer::Object(_)));
        assert_eq!(later.condition, WriteCondition::IfMatch(ETag::new("e")));
    }

    #[test]
    fn a_failed_upload_leaves_every_byte_staged_and_the_file_failed() {
        let (dir, file) = file();
        file.write(0, b"first").unwrap();
        drop(sealed(&file));
        file.write(5, b" second").unwrap();
        file.revert_seal(&FsError::ACCESS_DENIED);
        assert!(matches!(file.seal(), Err(FsError::AccessDenied(_))));
        assert_eq!(text(&file), "first second");
        assert_eq!(stages_in(&dir), 1);
    }

    #[test]
    fn a_later_version_supersedes_one_that_was_never_sent() {
        let (_dir, file) = file();
        file.start_over(Intent::Exclusive).unwrap();
        file.write(0, b"first version").unwrap();
        let first = sealed(&file);
        file.write(0, b"FIRST").unwrap();
        let Some(Sealing::Absorbed { sealed, below }) = file.seal().unwrap() else {
            panic!("the shorter one is absorbed");
        };
        assert!(Arc::ptr_eq(&below, &first));
        assert_eq!(text(&file), "FIRST version");
        let later = absorb(&file, &sealed, &below);
        assert_eq!(text(&file), "FIRST version");
        assert!(!later.stage.depends_on_base());
        assert_eq!(later.condition, WriteCondition::IfAbsent);
        assert!(Arc::ptr_eq(&file.begin_upload().unwrap().0, &later));
    }

    #[test]
    fn a_version_that_may_be_sent_is_brought_to_an_end_before_the_next() {
        let (_dir, file) = file();
        file.start_over(Intent::Exclusive).unwrap();
        file.write(0, b"first version").unwrap();
        let first = sealed(&file);
        first.sent.mark_maybe_sent();
        for text in [b"SECOND", b"THIRD "] {
            file.write(0, text).unwrap();
            sealed(&file);
        }
        assert!(Arc::ptr_eq(&file.begin_upload().unwrap().0, &first));
        assert_eq!(file.sealed_stages().len(), 2);
        assert_eq!(text(&file), "THIRD version");
        let third = file.uploaded(&first, object("1", 13)).unwrap();
        assert_eq!(third.condition, WriteCondition::IfMatch(ETag::new("1")));
        assert_eq!(text(&file), "THIRD ooooooo");
        assert!(file.uploaded(&third, object("2", 13)).is_none());
        assert!(!file.needs_upload());
    }

    #[test]
    fn a_rename_takes_what_is_sealed_along_and_claims_nothing() {
        let (_dir, file) = file();
        file.start_over(Intent::Exclusive).unwrap();
        file.write(0, b"bytes").unwrap();
        sealed(&file);
        file.edit().renamed(&WriteCondition::Always);
        let first = file.begin_upload().unwrap().0;
        assert_eq!(first.condition, WriteCondition::Always);
        file.uploaded(&first, object("1", 5));
        file.write(0, b"B").unwrap();
        sealed(&file);
        let version = |etag: &str| ObjectVersion {
            etag: ETag::new(etag),
            size_bytes: 5,
            last_modified: std::time::SystemTime::UNIX_EPOCH,
        };
        let (key, other) = (Key::new("renamed"), ETag::new("other"));
        file.edit()
            .rebase(&MovedObject::of(other, version("3")), key.clone());
        let edit = file.begin_upload().unwrap().0;
        assert_eq!(edit.condition, WriteCondition::IfMatch(ETag::new("1")));
        file.edit()
            .rebase(&MovedObject::of(ETag::new("1"), version("2")), key);
        let edit = file.begin_upload().unwrap().0;
        assert_eq!(edit.condition, WriteCondition::IfMatch(ETag::new("2")));
    }

    #[test]
    fn a_rename_drops_an_edit_of_the_object_that_a_whole_version_replaces() {
        let (_dir, file) = file();
        file.replaced(object("1", 13));
        file.write(0, b"EDIT").unwrap();
        let edit = sealed(&file);
        edit.sent.mark_maybe_sent();
        file.start_over(Intent::Replace).unwrap();
        file.write(0, b"whole").unwrap();
        sealed(&file);
        assert!(!file.has_object_below());
        let superseded = file.edit().detach_from_object(&WriteCondition::Always);
        assert!(Arc::ptr_eq(&superseded.unwrap(), &edit));
        let (whole, prior) = file.begin_upload().unwrap();
        assert_eq!(prior, PriorAttempt::None);
        assert!(matches!(whole.base, LowerLayer::Empty));
        assert_eq!(text(&file), "whole");
        assert_eq!(file.sealed_stages().len(), 1);
    }

    #[test]
    fn a_rename_drops_a_version_that_the_store_does_not_have_and_another_replaces_whole() {
        let (_dir, file) = file();
        file.start_over(Intent::Exclusive).unwrap();
        file.write(0, b"first version").unwrap();
        let first = sealed(&file);
        first.sent.mark_maybe_sent();
        file.start_over(Intent::Replace).unwrap();
        file.write(0, b"whole").unwrap();
        sealed(&file);
        file.edit().renamed(&WriteCondition::IfAbsent);
        let (whole, prior) = file.begin_upload().unwrap();
        assert_eq!(prior, PriorAttempt::None);
        assert!(matches!(whole.base, LowerLayer::Empty));
        assert_eq!(
            whole.stage.len(),
            5,
            "the older one is not shown under the new name"
        );
    }

    #[test]
    fn a_removed_file_has_nothing_to_upload_and_reads_on() {
        let (dir, file) = file();
        file.write(0, b"bytes").unwrap();
        sealed(&file);
        file.write(0, b"B").unwrap();
        file.orphan();
        assert!(file.begin_upload().is_none());
        assert!(!file.needs_upload());
        assert_eq!(text(&file), "Bytes");
        assert_eq!(stages_in(&dir), 0);
    }

    #[test]
    fn what_is_sealed_after_a_crash_takes_up_what_was_never_sent() {
        let (dir, file) = file();
        let mut records = Vec::new();
        for (text, base) in [("first", None), ("SECOND", Some(0_usize))] {
            let stage = file
                .stage_factory
                .spool
                .create(Some(&Key::new("f")))
                .unwrap();
            let mut stage = Stage::new(stage, 5 * base.is_some() as u64);
            stage.write(0, text.as_bytes()).unwrap();
            let below = base.map(|at| {
                let below: &crate::journal::SealRecord = &records[at];
                SealedBase::Stage(below.stage)
            });
            records.push(crate::journal::SealRecord {
                stage: stage.file().id(),
                key: Key::new("f"),
                headers: Default::default(),
                known: WriteCondition::Always,
                condition: WriteCondition::Always,
                len: stage.len(),
                base_len: stage.base_len(),
                written: stage.written(),
                sums: stage.file().sums(),
                completing: None,
                attempted: Vec::new(),
                base: below.unwrap_or(SealedBase::Empty),
            });
            let sealed = records.last().unwrap().clone();
            let file_of_stage = stage.file().clone();
            file.recover(RecoveredStage {
                sending: None,
                file: file_of_stage,
                sealed,
            });
        }
        file.write(6, b" THIRD").unwrap();
        sealed(&file);
        assert_eq!(file.sealed_stages().len(), 2, "the first, and all over it");
        let (first, _) = file.begin_upload().unwrap();
        assert_eq!(first.stage.file().id(), records[0].stage);
        assert_eq!(text(&file), "SECOND THIRD");
        drop(dir);
    }
}
