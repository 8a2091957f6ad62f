//! From a file's staged bytes to its object.

use std::sync::Arc;

use super::kept_headers::{KeptHeaders, is_passing, not_stored};
use super::predecessor::Predecessor;
use super::sealer::Sealer;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{
    AttributeView, LowerLayer, MovedObject, OpenFile, SealedSource, SealedStage, StageFactory,
};
use crate::namespace::{Attributes, Namespace, SubtreeLocks, entry_added, relearn_attributes};
use crate::read_path::Reader;
use crate::store::{ETag, ObjectHeaders, WriteCondition};
use crate::vocabulary::{ObjectId, ObjectVersion};
use crate::write_path::{ByteSource, Copier, PriorAttempt, UploadTarget, Uploader};

/// Who has a stage uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// It is told what fails.
    Application,
    /// It tries again what may do better.
    Queue,
}

/// What came of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOutcome {
    Stored,
    Cancelled,
}

/// An object that an upload has made.
struct Made {
    object: ObjectId,
    /// What is stored with it.
    headers: ObjectHeaders,
    /// What should be, if that differs.
    wanted: Option<ObjectHeaders>,
}

/// Brings sealed stages to the store.
#[derive(Debug)]
pub struct Uploads {
    pub namespace: Arc<Namespace>,
    pub attributes: Arc<AttributeView>,
    pub stage_factory: Arc<StageFactory>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub sealer: Arc<Sealer>,
    pub reader: Arc<Reader>,
    pub uploader: Arc<Uploader>,
    pub copier: Arc<Copier>,
    pub kept: KeptHeaders,
}

impl Uploads {
    /// Brings the store up to date with a file. Returns once it has the bytes.
    ///
    /// Errors: that of this upload, or of one that failed before.
    pub async fn upload(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        while self.upload_unless_cancelled(file).await? == PublishOutcome::Cancelled {
            // Then there is nothing to upload any more, or another name for it.
            file.upload_lock.cancels_over().await;
        }
        file.made_safe();
        Ok(())
    }

    async fn upload_unless_cancelled(
        &self,
        file: &Arc<OpenFile>,
    ) -> Result<PublishOutcome, FsError> {
        let _subtrees = match self.subtrees.share_inodes([file.inode.ino]).await {
            Ok(shared) => shared,
            // The bytes are not to be dropped with the last handle.
            Err(error) => {
                file.revert_seal(&error);
                return Err(error);
            }
        };
        let _guard = file.upload_lock.lock().await;
        self.sealer.seal(file).await?;
        while let Some((sealed, prior)) = self.begin_upload(file).await {
            match self.publish(file, &sealed, prior, Asker::Application).await {
                Ok(PublishOutcome::Stored) => {}
                Ok(PublishOutcome::Cancelled) => return Ok(PublishOutcome::Cancelled),
                // The bytes are stored, and what belongs to them is not.
                Err(error) if file.sealed_stages().is_empty() => return Err(error),
                Err(error) => {
                    drop(sealed);
                    file.revert_seal(&error);
                    return Err(error);
                }
            }
        }
        Ok(PublishOutcome::Stored)
    }

    /// The sealed stage to be uploaded first, of which the journal knows.
    pub async fn begin_upload(&self, file: &OpenFile) -> Option<(Arc<SealedStage>, PriorAttempt)> {
        let _guard = file.seal_lock.lock().await;
        file.begin_upload()
    }

    /// The work of `publish`, which sees to what a panic leaves.
    pub async fn send_and_publish(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
        prior: PriorAttempt,
        asker: Asker,
    ) -> Result<PublishOutcome, FsError> {
        // Without a name it is not uploaded.
        let key = self.namespace.file_key(file.inode.ino);
        if let (PriorAttempt::Maybe, Ok(key)) = (prior, key) {
            self.predecessor.wait_for_requests(&[key]).await?;
        }
        let sealed = &self.fill_from_lower(file, sealed).await?;
        let sent = tokio::select! {
            biased;
            () = file.upload_lock.cancelled() => None,
            () = file.given_up.begun() => return Err(FsError::Interrupted),
            sent = self.send(file, sealed, prior) => Some(sent?),
        };
        let Some(made) = sent else {
            tracing::info!(ino = file.inode.ino.0, "upload cancelled");
            return Ok(PublishOutcome::Cancelled);
        };
        self.kept.record_object(file, &made.object, made.headers);
        failpoint::at(Point::PublishRecorded);
        let (mut object, mut wanted) = (made.object, made.wanted);
        let mut unstored = None;
        // A copy of an object in parts is another version, which nobody would find again.
        if let Some(wanted) = wanted.take_if(|_| self.is_found_by_bytes(sealed)) {
            match self.store_wanted(file, sealed, &object, wanted).await {
                Ok(stored) => object = stored,
                // The stage stays for the next attempt, which finds this object.
                Err(error) if asker == Asker::Queue && is_passing(&error, sealed) => {
                    return Err(error);
                }
                Err(error) => unstored = Some(error),
            }
        }
        let guard = file.seal_lock.lock().await;
        let over = file.uploaded(sealed, Arc::new(object));
        self.sealer.discard_stored(file, sealed, over).await;
        drop(guard);
        self.update_parent(file).await;
        failpoint::at(Point::PublishDiscarded);
        if let Some(wanted) = wanted {
            self.store_later(file, wanted).await?;
        }
        unstored.map_or(Ok(PublishOutcome::Stored), Err)
    }

    fn is_found_by_bytes(&self, sealed: &SealedStage) -> bool {
        let is_whole_here = !sealed.stage.file().offloaded().has_any();
        is_whole_here && self.uploader.sends_at_once(sealed.stage.len())
    }

    /// An edit that goes to the store in one request gets the rest of its file first.
    ///
    /// When the answer is lost, the version that it was an edit of may be gone: what
    /// the file shows, and whether the store has it, must not depend on that one.
    async fn fill_from_lower(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
    ) -> Result<Arc<SealedStage>, FsError> {
        let stage = &sealed.stage;
        if !stage.depends_on_base() || !self.uploader.sends_at_once(stage.len()) {
            return Ok(sealed.clone());
        }
        let source = self.source(sealed);
        let below = source.read(0..stage.base_len().min(stage.len()));
        let below = tokio::select! {
            biased;
            () = file.upload_lock.cancelled() => return Ok(sealed.clone()),
            below = below => below,
        };
        let below = match below {
            // It is gone already: the upload finds out what is in its place.
            Err(FsError::Stale(_) | FsError::NotFound(_)) => return Ok(sealed.clone()),
            below => below?,
        };
        // Not before the journal was told of the stage as it was sealed.
        let _guard = file.seal_lock.lock().await;
        match file.fill_from_lower(sealed, &below) {
            Ok(whole) => {
                if let Err(error) = self.sealer.journal_seal(file, &whole).await {
                    tracing::warn!(ino = file.inode.ino.0, %error, "journal write failed: after a crash this upload is known by its ETag alone");
                    let bytes = self.source(&whole).read(0..whole.stage.len()).await?;
                    self.source(&whole).completes_as(ETag::of_bytes(&bytes));
                }
                failpoint::at(Point::UploadCompleted);
                Ok(whole)
            }
            Err(FsError::NoSpace) => Ok(sealed.clone()),
            Err(error) => Err(error),
        }
    }

    pub fn source(&self, sealed: &Arc<SealedStage>) -> Arc<dyn ByteSource> {
        Arc::new(SealedSource {
            sealed: sealed.clone(),
            reader: self.reader.clone(),
            stage_factory: self.stage_factory.clone(),
        })
    }

    async fn send(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
        prior: PriorAttempt,
    ) -> Result<Made, FsError> {
        let (parent, name) = self
            .namespace
            .table()
            .place(file.inode.ino)
            .ok_or(FsError::STALE)?;
        let asked = self.kept.learn(file).await?;
        let kept = self.kept.of_base(&sealed.base).await?;
        match sealed.base {
            LowerLayer::Empty if asked.counts(&file.inode) => {}
            // New bytes of an object that stays: its mode and owner do too.
            LowerLayer::Empty => {
                relearn_attributes(&self.namespace, &file.inode).await?;
            }
            LowerLayer::Object(_) | LowerLayer::Sealed(_) => {
                self.kept.take_kept(file, kept.as_ref())
            }
        }
        let target = UploadTarget {
            key: self.namespace.child_key(parent, &name)?,
            headers: self
                .attributes
                .upload_headers(&file.inode, &name, &sealed.base, kept)?,
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            len: sealed.stage.len(),
            prior,
        };
        let source = self.source(sealed);
        // Parts that an upload alone has are completed with what it was begun with.
        let begun = source.multipart().filter(|_| source.offloaded_end() > 0);
        let begun = begun.map(|upload| upload.headers().clone());
        let begun = begun.filter(|headers| *headers != target.headers);
        let stores = begun.as_ref().unwrap_or(&target.headers);
        sealed.sent.begin(Attributes::decode(stores.clone()));
        let made = self.uploader.upload(&target, &source).await?;
        let object = ObjectId {
            key: target.key,
            etag: made.etag,
            size_bytes: target.len,
        };
        let (headers, wanted) = match (made.found, begun) {
            (Some(found), _) => {
                let wanted = &target.headers;
                let wanted = self.kept.wanted_over(file, sealed, wanted, &found);
                (found, wanted)
            }
            (None, Some(begun)) => (begun, Some(target.headers)),
            (None, None) => (target.headers, None),
        };
        Ok(Made {
            object,
            headers,
            wanted,
        })
    }

    /// Stores with the file's object what is to be, and tells which version that is. What
    /// was written since takes it along.
    ///
    /// Errors: the store's. What another client has put meanwhile stays as it is.
    async fn store_wanted(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
        object: &ObjectId,
        wanted: ObjectHeaders,
    ) -> Result<ObjectId, FsError> {
        let version = file.inode.state().remote.clone();
        let version = version.filter(|_| !file.is_sealed_over(sealed));
        let Some(version) = version else {
            return Ok(object.clone());
        };
        sealed.sent.begin(Attributes::decode(wanted.clone()));
        match self.kept.put_headers(file, &version, wanted).await {
            Ok(ObjectVersion { etag, .. }) => Ok(ObjectId {
                etag,
                ..object.clone()
            }),
            Err(error) => not_stored(file, error).map(|()| object.clone()),
        }
    }

    /// The same once the stage is done. What was written since takes it along; where it
    /// fails, the next change of an attribute stores it.
    async fn store_later(&self, file: &OpenFile, wanted: ObjectHeaders) -> Result<(), FsError> {
        let version = file.inode.state().remote.clone();
        let Some(version) = version.filter(|_| !file.needs_upload()) else {
            return Ok(());
        };
        match self.replace_headers(file, &version, wanted).await {
            Ok(()) => Ok(()),
            Err(error) => not_stored(file, error),
        }
    }

    /// Stores other headers with this version of the file's object. What was written or
    /// sealed meanwhile is over the version that this makes.
    ///
    /// Errors: `Stale` where another client removed or replaced it; the store's.
    pub async fn replace_headers(
        &self,
        file: &OpenFile,
        version: &ObjectVersion,
        headers: ObjectHeaders,
    ) -> Result<(), FsError> {
        let key = self.namespace.file_key(file.inode.ino)?;
        let made = self.kept.put_headers(file, version, headers).await?;
        file.edit()
            .rebase(&MovedObject::of(version.etag.clone(), made), key);
        if let Some((dir, name)) = self.namespace.table().place(file.inode.ino) {
            drop(self.sealer.journal_seal_again(file, dir, &name).await);
        }
        Ok(())
    }

    /// Tells the file's directory that it has a key of its own now.
    pub async fn update_parent(&self, file: &OpenFile) {
        let Some((parent, _)) = self.namespace.table().place(file.inode.ino) else {
            return;
        };
        let Ok(parent) = self.namespace.inode(parent) else {
            return;
        };
        entry_added(&self.namespace, &parent).await;
    }

    /// None for a file that has no name any more.
    pub async fn target_ahead(&self, file: &OpenFile) -> Result<Option<UploadTarget>, FsError> {
        let Some((parent, name)) = self.namespace.table().place(file.inode.ino) else {
            return Ok(None);
        };
        self.kept.learn(file).await?;
        let base = file.content.lock().base.clone();
        let kept = self.kept.of_base(&base).await?;
        self.kept.take_kept(file, kept.as_ref());
        Ok(Some(UploadTarget {
            key: self.namespace.child_key(parent, &name)?,
            headers: self
                .attributes
                .upload_headers(&file.inode, &name, &base, kept)?,
            condition: WriteCondition::Always,
            known: WriteCondition::Always,
            len: file.len(),
            prior: PriorAttempt::None,
        }))
    }
}
