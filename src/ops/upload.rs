//! From a file's staged bytes to its object.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::MutexGuard;

use super::content::{Sealed, SealedSource, fetch};
use super::open_file::OpenFile;
use super::sealing::Sealing;
use super::{Durability, Ops};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::namespace::{Attributes, Name};
use crate::store::ObjectHeaders;
use crate::task::caught_now;
use crate::vocabulary::{Ino, ObjectId, ObjectVersion};
use crate::write_path::{ByteSource, Durable, Earlier, SealedStage, UploadTarget};

/// What came of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Brought {
    Stored,
    Cancelled,
}

impl Ops {
    /// Makes what was written last as the mount's durability wants it.
    ///
    /// Errors: that of this upload, or of one that failed before; the spool's.
    pub(super) async fn persist(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        match self.settings.durability {
            Durability::S3 => self.upload(file).await,
            Durability::Disk => self.seal_and_enqueue(file).await,
        }
    }

    /// Brings the store up to date with a file. Returns once it has the bytes.
    ///
    /// Errors: that of this upload, or of one that failed before.
    pub(super) async fn upload(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        while self.upload_unless_cancelled(file).await? == Brought::Cancelled {
            // Then there is nothing to upload any more, or another name for it.
            file.cancels_over().await;
        }
        file.made_safe();
        Ok(())
    }

    async fn upload_unless_cancelled(&self, file: &Arc<OpenFile>) -> Result<Brought, FsError> {
        let _subtrees = match self.share_inodes([file.inode.ino]).await {
            Ok(shared) => shared,
            // The bytes are not to be dropped with the last handle.
            Err(error) => {
                file.revert_seal(&error);
                return Err(error);
            }
        };
        let _turn = file.upload_lock.lock().await;
        self.seal(file).await?;
        while let Some((sealed, earlier)) = self.begin_upload(file).await {
            match self.publish(file, &sealed, earlier).await {
                Ok(Brought::Stored) => {}
                Ok(Brought::Cancelled) => return Ok(Brought::Cancelled),
                Err(error) => {
                    tracing::error!(ino = file.inode.ino.0, %error, "upload failed");
                    drop(sealed);
                    file.revert_seal(&error);
                    return Err(error);
                }
            }
        }
        Ok(Brought::Stored)
    }

    /// The sealed stage to be uploaded first, of which the journal knows.
    pub(super) async fn begin_upload(&self, file: &OpenFile) -> Option<(Arc<Sealed>, Earlier)> {
        let _turn = file.seal_lock.lock().await;
        file.begin_upload()
    }

    /// Seals what was written and tells the journal.
    pub(super) async fn seal(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        let _turn = file.seal_lock.lock().await;
        match file.seal()? {
            Some(Sealing::Whole { sealed, superseded }) => {
                self.note_sealed(file, &sealed, superseded).await?;
            }
            Some(Sealing::Absorbed { sealed, below }) => {
                self.absorb(file, &sealed, &below).await?;
            }
            None => {}
        }
        if self.settings.durability == Durability::Disk && !file.has_sealed_offloaded() {
            file.made_safe();
        }
        Ok(())
    }

    async fn note_sealed(
        &self,
        file: &Arc<OpenFile>,
        sealed: &Arc<Sealed>,
        superseded: Option<Arc<Sealed>>,
    ) -> Result<(), FsError> {
        match (
            self.journal_seal(file, sealed).await,
            self.settings.durability,
        ) {
            (Ok(()), _) => {}
            // Nobody is told that the spool has it.
            (Err(error), Durability::S3) => {
                tracing::warn!(%error, "journal write failed: after a crash this upload is not resumed");
            }
            (Err(error), Durability::Disk) => {
                file.revert_seal(&error);
                return Err(error);
            }
        }
        if let Some(superseded) = superseded {
            let left = caught_now("seal", || failpoint::at(Point::SealMootLeft));
            self.desk.spool.discard(superseded.stage.file());
            left?;
        }
        Ok(())
    }

    /// Has the sealed stage below take over the bytes of a shorter one. To be called
    /// with the file's `seal_lock`.
    ///
    /// Errors: the spool's; what is sealed has failed then.
    async fn absorb(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
        below: &Arc<Sealed>,
    ) -> Result<(), FsError> {
        let Some((_, name)) = self.namespace.table().place(file.inode.ino) else {
            return Ok(());
        };
        let headers = self.upload_headers(file, &name, &below.base, None);
        let (desk, into, from) = (self.desk.clone(), below.clone(), sealed.clone());
        let absorbing = move || {
            let conditions = (from.condition.clone(), from.known.clone());
            let absorbed = from.stage.as_absorbed(&into.stage, headers?, conditions)?;
            into.stage.with_absorbed(&from.stage, absorbed, &desk.spool)
        };
        let whole = tokio::task::spawn_blocking(absorbing).await;
        let whole = whole.map_err(|error| io::Error::other(error).into());
        match whole.flatten() {
            Ok(whole) => {
                if file.absorbed(sealed, whole) {
                    self.desk.spool.discard(sealed.stage.file());
                }
                Ok(())
            }
            Err(error) => {
                file.revert_seal(&error);
                Err(error)
            }
        }
    }

    /// Tells the journal of a sealed stage.
    pub(super) async fn journal_seal(
        &self,
        file: &OpenFile,
        sealed: &Sealed,
    ) -> Result<(), FsError> {
        match self.namespace.table().place(file.inode.ino) {
            Some((dir, name)) => self.note_at(file, sealed, dir, &name).await,
            None => Ok(()),
        }
    }

    async fn note_at(
        &self,
        file: &OpenFile,
        sealed: &Sealed,
        dir: Ino,
        name: &Name,
    ) -> Result<(), FsError> {
        let record = SealedStage {
            stage: sealed.stage.file().id(),
            key: self.namespace.child_key(dir, name)?,
            headers: self.upload_headers(file, name, &sealed.base, None)?,
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            len: sealed.stage.len(),
            base_len: sealed.stage.base_len(),
            written: sealed.stage.written(),
            sums: sealed.stage.file().sums(),
            completing: sealed.sent.as_version(),
            base: sealed.base.as_sealed(),
        };
        let (desk, stage) = (self.desk.clone(), sealed.stage.file().clone());
        match self.settings.durability {
            Durability::S3 => desk.spool.seal(&stage, record, Durable::No)?,
            Durability::Disk => {
                let sync = move || desk.spool.seal(&stage, record, Durable::Yes);
                let synced = tokio::task::spawn_blocking(sync).await;
                synced.map_err(io::Error::other)??;
            }
        }
        Ok(())
    }

    /// Tells the journal that a file's sealed stages have another place and base.
    ///
    /// Nothing more is sealed while the turn that it returns is held: who moves the
    /// file holds it until the inode has its new place too.
    pub(super) async fn note_again<'a>(
        &self,
        file: &'a OpenFile,
        dir: Ino,
        name: &Name,
    ) -> MutexGuard<'a, ()> {
        let turn = file.seal_lock.lock().await;
        for sealed in file.sealed_stages() {
            if let Err(error) = self.note_at(file, &sealed, dir, name).await {
                tracing::error!(ino = file.inode.ino.0, %error, "journal write failed: after a crash these bytes go to their old key");
            }
        }
        turn
    }

    /// As `bring_to_store`, which sees to what a panic leaves.
    pub(super) async fn send_and_publish(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
        earlier: Earlier,
    ) -> Result<Brought, FsError> {
        if earlier == Earlier::Maybe {
            self.wait_for_predecessor_requests().await;
        }
        let sealed = &self.fill_from_lower(file, sealed).await?;
        let sent = tokio::select! {
            biased;
            () = file.cancelled() => None,
            () = file.given_up() => return Err(FsError::Interrupted),
            sent = self.send(file, sealed, earlier) => Some(sent?),
        };
        let Some((object, headers)) = sent else {
            tracing::info!(ino = file.inode.ino.0, "upload cancelled");
            return Ok(Brought::Cancelled);
        };
        self.record_object(file, &object, headers);
        failpoint::at(Point::PublishRecorded);
        let turn = file.seal_lock.lock().await;
        if let Some(over) = file.uploaded(sealed, Arc::new(object)) {
            self.journal_seal(file, &over).await?;
        }
        drop(turn);
        failpoint::at(Point::PublishUploaded);
        self.desk.spool.discard(sealed.stage.file());
        self.update_parent(file).await;
        failpoint::at(Point::PublishDiscarded);
        Ok(Brought::Stored)
    }

    /// An edit that goes to the store in one request gets the rest of its file first.
    ///
    /// When the answer is lost, the version that it was an edit of may be gone: what
    /// the file shows, and whether the store has it, must not depend on that one.
    async fn fill_from_lower(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
    ) -> Result<Arc<Sealed>, FsError> {
        let stage = &sealed.stage;
        if !stage.depends_on_base() || !self.uploader.sends_at_once(stage.len()) {
            return Ok(sealed.clone());
        }
        let source = self.source(sealed);
        let below = source.read(0..stage.base_len().min(stage.len()));
        let below = tokio::select! {
            biased;
            () = file.cancelled() => return Ok(sealed.clone()),
            below = below => below,
        };
        let below = match below {
            // It is gone already: the upload finds out what is in its place.
            Err(FsError::Stale(_) | FsError::NotFound(_)) => return Ok(sealed.clone()),
            below => below?,
        };
        // Not before the journal was told of the stage as it was sealed.
        let _turn = file.seal_lock.lock().await;
        match file.complete(sealed, &below) {
            Ok(whole) => {
                self.journal_seal(file, &whole).await?;
                failpoint::at(Point::UploadCompleted);
                Ok(whole)
            }
            Err(FsError::NoSpace) => Ok(sealed.clone()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn source(&self, sealed: &Arc<Sealed>) -> Arc<dyn ByteSource> {
        Arc::new(SealedSource {
            sealed: sealed.clone(),
            reader: self.reader.clone(),
            desk: self.desk.clone(),
        })
    }

    async fn send(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
        earlier: Earlier,
    ) -> Result<(ObjectId, ObjectHeaders), FsError> {
        let (parent, name) = self
            .namespace
            .table()
            .place(file.inode.ino)
            .ok_or(FsError::STALE)?;
        let kept = self.kept_headers(&sealed.base).await?;
        let target = UploadTarget {
            key: self.namespace.child_key(parent, &name)?,
            headers: self.upload_headers(file, &name, &sealed.base, kept)?,
            condition: sealed.condition.clone(),
            known: sealed.known.clone(),
            len: sealed.stage.len(),
            earlier,
        };
        let source = self.source(sealed);
        let etag = self.uploader.upload(&target, &source).await?;
        let object = ObjectId {
            key: target.key,
            etag,
            size_bytes: target.len,
        };
        Ok((object, target.headers))
    }

    /// The file's object is this one now, by our own doing.
    pub(super) fn record_object(&self, file: &OpenFile, object: &ObjectId, headers: ObjectHeaders) {
        let version = ObjectVersion {
            etag: object.etag.clone(),
            size_bytes: object.size_bytes,
            last_modified: whole_seconds(SystemTime::now()),
        };
        self.namespace.record_uploaded(&file.inode, version);
        let attributes = Arc::new(Attributes::decode(headers));
        self.namespace.record_attributes(&file.inode, attributes);
    }

    /// Tells the file's directory that it has a key of its own now.
    pub(super) async fn update_parent(&self, file: &OpenFile) {
        let Some((parent, _)) = self.namespace.table().place(file.inode.ino) else {
            return;
        };
        let Ok(parent) = self.namespace.inode(parent) else {
            return;
        };
        if let Err(error) = self.namespace.entry_added(&parent).await {
            tracing::warn!(%error, "the directory's marker stays beside its first file");
        }
    }

    /// Copies into the stage what open handles still show of an object that is about to go.
    pub(super) async fn copy_up(&self, file: &OpenFile) -> Result<(), FsError> {
        const CHUNK_BYTES: u64 = 8 << 20;
        if !file.shows_object() {
            return Ok(());
        }
        while let Some(gap) = file.next_gap(CHUNK_BYTES)? {
            let bytes = fetch(&self.reader, file.plan(gap.clone())).await?;
            if bytes.len() as u64 != gap.end - gap.start {
                return Err(FsError::CORRUPT);
            }
            file.fill(gap.start, &bytes)?;
        }
        Ok(())
    }
}

/// Times of objects have no fraction, as in HTTP dates.
pub(super) fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}
