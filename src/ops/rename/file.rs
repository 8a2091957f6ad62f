//! Renaming a file: copy, then delete; nothing is copied that only the spool has.

use std::sync::Arc;

use tokio::sync::MutexGuard;

use super::copies::ObjectCopies;
use super::log::RenameLog;
use super::not_moved::NotMoved;
use super::place::{Place, RenameMode, copy_over, keys_of, known_of};
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{
    AttributeView, KernelRequest, MovedObject, NamedOpens, OpenFile, OpenFiles, StageFactory,
    check_awaited, long_files,
};
use crate::journal::RenameIntent;
use crate::namespace::{
    Attributes, Entry, Namespace, Pin, before_entry_removed, entry_added, record_copied,
};
use crate::store::{CopyHeaders, DeletePending, DeleteQueue, LateObject, WriteCondition};
use crate::task::caught;
use crate::vocabulary::{Ino, Kind, ObjectVersion};
use crate::write_path::CopyOver;
use crate::writeback::{Asker, Deletes, Predecessor, PublishOutcome, Removed, Sealer, Uploads};

/// Renames files.
#[derive(Debug)]
pub struct FileRenamer {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub named_opens: Arc<NamedOpens>,
    pub attributes: Arc<AttributeView>,
    pub stage_factory: Arc<StageFactory>,
    pub store: Arc<DeleteQueue>,
    pub predecessor: Arc<Predecessor>,
    pub sealer: Arc<Sealer>,
    pub uploads: Arc<Uploads>,
    pub deletes: Arc<Deletes>,
    pub copies: Arc<ObjectCopies>,
    pub log: Arc<RenameLog>,
}

impl FileRenamer {
    pub async fn rename_file(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (source, target): (&Pin, Option<&Pin>),
        (mode, request): (RenameMode, Option<KernelRequest>),
    ) -> Result<(), NotMoved> {
        let source_file = self.files.hold(source.ino)?;
        let target_file = target
            .map(|target| self.files.hold(target.ino))
            .transpose()?;
        let target_file = target_file.as_deref();
        let _removal = match target_file {
            Some(file) => Some(self.named_opens.begin_removal(file).await),
            None => None,
        };
        let both = || std::iter::once(&*source_file).chain(target_file);
        let _uploads = lock_uploads(both(), source.ino).await;
        if both().any(|file| file.shadows_object()) {
            let keys = keys_of(&self.namespace, from, to)?;
            let landed = self.predecessor.wait_before_change(&keys).await;
            landed.map_err(NotMoved::untouched)?;
        }
        let edits = self.upload_edits(&source_file).await;
        edits.map_err(NotMoved::untouched)?;
        check_awaited()?;
        // What takes its place overwrites its object.
        let replaced = match target_file {
            Some(file) => self.deletes.keep_for_readers(file).await,
            None => None,
        };
        failpoint::at(Point::RenameFileBegins);
        let files = (&**source_file, (target, target_file));
        // What is closed meanwhile is sealed for the old name or for the new one.
        let _seal_guard = match self.move_file(from, to, files, (mode, request)).await {
            Ok(seal_guard) => seal_guard,
            Err(error) => {
                if let Some(replaced) = replaced {
                    self.deletes.not_replaced(replaced);
                }
                return Err(error);
            }
        };
        // Not before the journal knows what takes its place.
        if let Some(file) = target_file {
            file.orphan();
            self.named_opens.lose_name(file);
        }
        if let Some(replaced) = replaced {
            self.deletes.keep_replaced(replaced);
        }
        let table = self.namespace.table();
        let renamed = table.rename(source.ino, to.dir.ino, to.name);
        renamed.map_err(NotMoved::unknown)?;
        failpoint::at(Point::RenameFileDone);
        Ok(())
    }

    /// Moves what the store has, or what the spool has of the file.
    async fn move_file<'a>(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (source, (target, target_file)): (&'a OpenFile, (Option<&Pin>, Option<&Arc<OpenFile>>)),
        (mode, request): (RenameMode, Option<KernelRequest>),
    ) -> Result<Option<MutexGuard<'a, ()>>, NotMoved> {
        let target_file = target_file.map(Arc::as_ref);
        let known = known_of(target, target_file);
        let stored = source.inode.state().remote.clone();
        if let Some(version) = stored.filter(|_| source.has_object_below()) {
            let files = (source, target_file);
            let copy = (version, copy_over(mode, known));
            return self.move_object(from, to, files, copy, request).await;
        }
        if mode == RenameMode::NoReplace {
            self.check_absent(to).await?;
        }
        let seal_guard = self.move_staged(from, to, source, &known).await?;
        let replaces = target_file
            .is_some_and(|file| file.inode.state().remote.is_some() || file.shadows_object());
        if replaces {
            source.cover();
        }
        Ok(seal_guard)
    }

    /// Another client may have made the name since it was looked up. While S3 is away
    /// nobody can tell.
    ///
    /// Errors: `Exists`.
    async fn check_absent(&self, to: &Place<'_>) -> Result<(), FsError> {
        let key = self.namespace.child_key(to.dir.ino, to.name)?;
        match self.deletes.object_at(&key).await {
            Ok(Some(_)) => {
                taken(to);
                Err(FsError::EXISTS)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::info!(%key, %error, "renamed without checking that the new name is free: S3 did not answer");
                Ok(())
            }
        }
    }

    /// Uploads what is sealed over an object, so that a crash finds the object
    /// under one of the names, and never without the edit.
    async fn upload_edits(&self, file: &OpenFile) -> Result<(), FsError> {
        long_files::check_renamable(file)?;
        while file.has_object_below()
            && let Some((sealed, prior)) = self.uploads.begin_upload(file).await
        {
            let asker = Asker::Application;
            // Boxed: an exchange of names is three renames, on the stack of one thread.
            let upload = Box::pin(self.uploads.publish(file, &sealed, prior, asker));
            if upload.await? == PublishOutcome::Cancelled {
                return Err(FsError::STALE);
            }
        }
        Ok(())
    }

    /// Moves what only the spool has; what the store has under the old name goes.
    async fn move_staged<'a>(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        file: &'a OpenFile,
        over: &WriteCondition,
    ) -> Result<Option<MutexGuard<'a, ()>>, FsError> {
        let (maybe_stored, late) = (file.shadows_object(), self.uploads.late_object(file).await);
        let stored = file.inode.state().remote.is_some();
        if stored || maybe_stored {
            // It needs S3. Where it fails, the file is still all that it was.
            before_entry_removed(&self.namespace, &from.dir, from.name).await?;
        }
        let replaced_version = file.replaced_version();
        let remote = file.inode.state().remote.take();
        let etag = remote.as_ref().map(|version| version.etag.clone());
        let etag = etag.or_else(|| replaced_version.etag().cloned());
        let seal_guard = file.seal_lock.lock().await;
        let superseded = if stored {
            file.edit().detach_from_object(over)
        } else {
            file.edit().renamed(over)
        };
        drop(seal_guard);
        if stored || superseded.is_some() {
            // First what is sealed stands alone, then its object goes, then it moves: a
            // crash finds the bytes that were acknowledged under one of the names.
            let (dir, name) = (from.dir.ino, from.name);
            drop(self.sealer.journal_seal_again(file, dir, name).await);
        }
        if let Some(superseded) = superseded {
            self.stage_factory.spool.discard(superseded.stage.file());
        }
        if stored || maybe_stored {
            let old_key = self.namespace.child_key(from.dir.ino, from.name)?;
            // One that it has taken the place of is known by its time alone.
            let unknown = late.is_none() || replaced_version == WriteCondition::Always;
            let replaced = file.covers_object() || (etag.is_none() && unknown);
            let at = self.store.time().filter(|_| replaced);
            let pending = DeletePending::of_name(old_key, etag, at);
            let deleted = self.delete_original(from, pending, late).await;
            // Else it would stay when the name goes.
            deleted.inspect_err(|_| file.inode.state().remote = remote)?;
        }
        let seal_guard = self
            .sealer
            .journal_seal_again(file, to.dir.ino, to.name)
            .await;
        failpoint::at(Point::RenameStageMoved);
        Ok(Some(seal_guard))
    }

    async fn move_object<'a>(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (file, target): (&'a OpenFile, Option<&OpenFile>),
        (version, over): (ObjectVersion, CopyOver),
        request: Option<KernelRequest>,
    ) -> Result<Option<MutexGuard<'a, ()>>, NotMoved> {
        let source = &file.inode;
        let old_key = self.namespace.child_key(from.dir.ino, from.name)?;
        let new_key = self.namespace.child_key(to.dir.ino, to.name)?;
        let content_type = match source.kind {
            Kind::File => self.attributes.content_types.renamed(from.name, to.name),
            _ => None,
        };
        let attributes = self.moved_attributes(source, content_type.as_ref())?;
        let headers = match (&attributes, content_type) {
            (Some(moved), _) if source.state().attributes.as_ref() != Some(moved) => {
                CopyHeaders::Replace(Box::new(moved.headers.clone()))
            }
            (None, Some(content_type)) => CopyHeaders::ContentType(content_type),
            (Some(_) | None, _) => CopyHeaders::Same,
        };
        let intent = RenameIntent {
            from: old_key.clone(),
            to: new_key.clone(),
            version: Some(version.etag.clone()),
            headers,
            over: over.condition().clone(),
            copy: None,
            originals: None,
        };
        self.log.begin_rename(intent.clone()).await?;
        failpoint::at(Point::RenameFileNoted);
        let copy = (version, over);
        let outcome = self.copy_and_delete(from, to, (file, target), &intent, copy);
        let outcome = caught("rename", outcome).await.map_err(FsError::from);
        let outcome = outcome.map_err(NotMoved::from).flatten();
        let seal_guard = match &outcome {
            Ok(_) => Some(
                self.sealer
                    .journal_seal_again(file, to.dir.ino, to.name)
                    .await,
            ),
            Err(_) => None,
        };
        // Where it has failed, the application is told so.
        self.log.end_done(&old_key, &outcome, request).await;
        let moved = outcome.inspect_err(|failed| {
            if matches!(failed.error, FsError::Exists(_)) {
                taken(to);
            }
        })?;
        failpoint::at(Point::RenameFileEnded);
        record_copied(&self.namespace, &old_key, &intent.to, &moved);
        let mut state = source.state();
        state.checked_at = Some(tokio::time::Instant::now());
        // Bytes and times of the file are what they were.
        state.mtime_is_ours = true;
        if let Some(attributes) = attributes {
            state.remote = Some(moved);
            state.settle(attributes);
        } else if let Some(old) = state.remote.replace(moved) {
            let mtime = state.overrides.mtime.unwrap_or(old.last_modified);
            state.overrides.mtime = Some(mtime);
        }
        Ok(seal_guard)
    }

    /// The steps of a rename in the store, each safe to be the last one before a crash.
    async fn copy_and_delete(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        (file, target): (&OpenFile, Option<&OpenFile>),
        intent: &RenameIntent,
        (version, over): (ObjectVersion, CopyOver),
    ) -> Result<ObjectVersion, NotMoved> {
        let (old_key, new_key) = (intent.from.clone(), intent.to.clone());
        let headers = intent.headers.clone();
        let moved = self
            .copies
            .copy_version(&old_key, (&new_key, over), headers, version.clone())
            .await?;
        self.log.note_copy(intent, moved.etag.clone()).await;
        failpoint::at(Point::RenameFileCopied);
        self.namespace
            .record(to.dir.ino, to.name, Some(Entry::File(moved.clone())));
        entry_added(&self.namespace, &to.dir).await;
        // Readers go to the copy before the original goes.
        let copy = MovedObject::of(version.etag.clone(), moved.clone());
        file.edit().rebase(&copy, new_key);
        if let Some(target) = target {
            target.orphan();
        }
        let gone = async {
            let (dir, name) = (&from.dir, from.name);
            before_entry_removed(&self.namespace, dir, name).await?;
            let pending = DeletePending::of_version(old_key, intent.version.clone());
            self.delete_original(from, pending, None).await
        };
        gone.await
            .map_err(|error| NotMoved::copied(error, version, moved.etag.clone()))?;
        failpoint::at(Point::RenameFileDeleted);
        Ok(moved)
    }

    /// Deletes what was moved. What another client has put there since stays under
    /// the old name, as if it had come after the rename.
    async fn delete_original(
        &self,
        from: &Place<'_>,
        pending: DeletePending,
        late: Option<LateObject>,
    ) -> Result<(), FsError> {
        let removed = self.deletes.delete_object(pending, late).await?;
        self.namespace.record(from.dir.ino, from.name, None);
        if removed == Removed::NewerStays {
            self.deletes.shows_again(&from.dir).await;
        }
        Ok(())
    }

    /// What is to be stored with a file under its new name, where attributes are stored.
    fn moved_attributes(
        &self,
        source: &Pin,
        content_type: Option<&String>,
    ) -> Result<Option<Arc<Attributes>>, FsError> {
        if !self.namespace.stores_attributes() {
            return Ok(None);
        }
        let mut headers = self
            .attributes
            .wanted_attributes(source)
            .encode(source.kind)?;
        headers.content_type = content_type.cloned().or(headers.content_type);
        Ok(Some(Arc::new(Attributes::decode(headers))))
    }
}

/// One's turn to change what the store has of the files that a rename is about.
async fn lock_uploads<'a>(
    files: impl Iterator<Item = &'a Arc<OpenFile>>,
    source: Ino,
) -> Vec<MutexGuard<'a, ()>> {
    let mut in_order: Vec<_> = files.collect();
    in_order.sort_by_key(|file| file.inode.ino);
    let mut guards = Vec::new();
    for file in in_order {
        // The rename needs the object that an edit makes of which the store has the rest.
        let is_needed = file.inode.ino == source && long_files::rests_on_s3(file);
        let may_undo = file.inode.ino != source && file.sends_whatever_is_there();
        guards.push(if is_needed || may_undo {
            file.upload_lock.lock().await
        } else {
            file.upload_lock.lock_over_uploads().await
        });
    }
    guards
}

/// Another client has the name: whoever looks it up next sees its file.
fn taken(to: &Place<'_>) {
    to.dir.state().dir.forget_listing();
}
