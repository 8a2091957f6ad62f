//! The copies of a directory's rename.

use std::collections::{HashMap, HashSet};
use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::stream;
use futures::stream::StreamExt;
use parking_lot::Mutex;

use super::target_state::InParts;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{Moved, MovedObject};
use crate::journal::RenameIntent;
use crate::namespace::{Namespace, put_marker_object, record_copied};
use crate::store::CopyHeaders;
use crate::store::{
    DeleteQueue, FoldDirectories, HeadRequest, Key, LateObject, ListProgress, ListRequest,
    ListedObject, ObjectStore, WriteCondition,
};
use crate::vocabulary::ObjectVersion;
use crate::write_path::{Copier, CopyOver, CopyTask};
use crate::writeback::Deletes;

/// Copies of one rename that run at once.
const COPIES_AT_ONCE: usize = 32;

/// Copies objects to their new keys.
#[derive(Debug)]
pub struct ObjectCopies {
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub deletes: Arc<Deletes>,
    pub copier: Arc<Copier>,
    pub limit: AtomicU64,
}

impl ObjectCopies {
    /// Copies each object. What another client has removed or replaced since it was
    /// listed stays as it is. After the first failure no other copy is begun.
    pub async fn copy_all(
        &self,
        objects: &[ListedObject],
        old_prefix: &str,
        new_prefix: &str,
    ) -> Copies {
        let failed = &Mutex::new(None);
        let unanswered = &Mutex::new(Vec::new());
        let made = &Mutex::new(HashSet::new());
        let copies = stream::iter(objects.to_vec()).map(|object| async move {
            if failed.lock().is_some() {
                return None;
            }
            match self.copy_to(&object, old_prefix, new_prefix).await {
                Ok(copied) => copied.map(|(copied, by)| {
                    if by == CopiedBy::Us {
                        made.lock().insert(object.key.clone());
                    }
                    (object.key, copied)
                }),
                Err(error) => {
                    if error.is_no_answer() {
                        unanswered.lock().push(object);
                    }
                    failed.lock().get_or_insert(error);
                    None
                }
            }
        });
        let copies = copies.buffer_unordered(COPIES_AT_ONCE);
        Copies {
            moved: copies.filter_map(ready).collect().await,
            made: std::mem::take(&mut *made.lock()),
            unanswered: std::mem::take(&mut *unanswered.lock()),
            failed: failed.lock().take(),
        }
    }

    async fn copy_to(
        &self,
        object: &ListedObject,
        old_prefix: &str,
        new_prefix: &str,
    ) -> Result<Option<(MovedObject, CopiedBy)>, FsError> {
        let target = moved_key(&object.key, old_prefix, new_prefix).ok_or(FsError::STALE)?;
        if target.is_too_long() {
            return Err(FsError::NameTooLong);
        }
        let (copied, by) = match self.copy_one(object, &target).await {
            Err(error @ (FsError::NotFound(_) | FsError::Stale(_))) => {
                let there = self.deletes.object_at(&object.key).await?;
                return match there {
                    Some(there) if there.etag == object.etag => Err(error),
                    Some(_) | None => Ok(None),
                };
            }
            copied => copied?,
        };
        let namespace = &self.namespace;
        record_copied(namespace, &object.key, &target, &copied.version);
        failpoint::at(Point::RenameDirectoryCopies);
        Ok(Some((copied, by)))
    }

    /// What is under the new name, by its key.
    pub async fn copies(
        &self,
        intent: &RenameIntent,
    ) -> Result<HashMap<Key, ListedObject>, FsError> {
        let found = self
            .all_objects_under(intent.to.as_str())
            .await?
            .into_iter();
        Ok(found.map(|object| (object.key.clone(), object)).collect())
    }

    /// Copies of a rename that has failed: the originals are what there is. A rename that
    /// copies the same again makes them anew.
    ///
    /// Another mount that renames the directory at the same time has taken over copies
    /// whose originals are gone: each one is looked at right before its copy goes.
    pub async fn delete_unwanted(&self, unwanted: Vec<(Key, LateObject)>) {
        let store = self.store.clone();
        let noted = tokio::task::spawn_blocking(move || {
            for (key, object) in unwanted {
                store.late().watch_for(key, object);
            }
        });
        if let Err(error) = noted.await {
            tracing::error!(%error, "copies of a failed rename stay");
        }
    }

    async fn copy_one(
        &self,
        object: &ListedObject,
        target: &Key,
    ) -> Result<(MovedObject, CopiedBy), FsError> {
        let version = ObjectVersion::from(object);
        // Stores that keep directories of their own do not copy markers.
        if target.as_str().ends_with('/') && version.size_bytes == 0 {
            let key = object.key.clone();
            let headers = self.store.head(HeadRequest { key }).await?.headers;
            let put = put_marker_object(&self.namespace, target.clone(), headers);
            let made = ObjectVersion {
                etag: put.await?,
                ..version
            };
            return Ok((MovedObject::of(object.etag.clone(), made), CopiedBy::Us));
        }
        // The extension stays, and with it the content type.
        let copy = async |over| {
            let headers = CopyHeaders::Same;
            let copied = self.copy_version(&object.key, (target, over), headers, version.clone());
            let moved = MovedObject::of(object.etag.clone(), copied.await?);
            Ok((moved, CopiedBy::Us))
        };
        let free = CopyOver::Only(WriteCondition::IfAbsent);
        match copy(free.clone()).await {
            Err(FsError::Exists(_)) => {}
            copied => return copied,
        }
        let Some(there) = self.deletes.object_at(target).await? else {
            return copy(free).await;
        };
        // Of a predecessor, or of another mount that renames the directory too. One in
        // parts has another ETag.
        let may_be_ours = there.size_bytes == version.size_bytes && there.etag.is_of_parts();
        if there.etag != version.etag && !may_be_ours {
            tracing::warn!(key = %target, "a file of the renamed directory was not copied: another client wrote this key meanwhile");
        }
        let moved = MovedObject::of(there.etag.clone(), there.into());
        Ok((moved, CopiedBy::Another))
    }

    /// Errors: `CrossDevice` when there are more than the limit: mv(1) then copies file by file.
    pub async fn objects_under(&self, prefix: &str) -> Result<Vec<ListedObject>, FsError> {
        let limit = self.limit.load(Ordering::Relaxed);
        self.objects_within(prefix, limit).await
    }

    /// Of a rename that was begun, whatever the limit is by now.
    pub async fn all_objects_under(&self, prefix: &str) -> Result<Vec<ListedObject>, FsError> {
        self.objects_within(prefix, u64::MAX).await
    }

    async fn objects_within(&self, prefix: &str, limit: u64) -> Result<Vec<ListedObject>, FsError> {
        let mut found: Vec<ListedObject> = Vec::new();
        let (mut token, mut progress) = (None, ListProgress::default());
        loop {
            let request = ListRequest::page(prefix, FoldDirectories::No, token);
            let answer = self.store.list(request).await?;
            progress.step(prefix, &answer)?;
            found.extend(answer.objects);
            if found.len() as u64 > limit {
                return Err(FsError::CrossDevice);
            }
            token = answer.next;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    pub fn in_parts(&self, size_bytes: u64) -> InParts {
        match self.copier.copies_in_parts(size_bytes) {
            true => InParts::Yes,
            false => InParts::No,
        }
    }

    /// Copies exactly this version. Errors: `Stale` when the source changed,
    /// `Exists` when something is where nothing may be.
    pub async fn copy_version(
        &self,
        source: &Key,
        (target, over): (&Key, CopyOver),
        headers: CopyHeaders,
        version: ObjectVersion,
    ) -> Result<ObjectVersion, FsError> {
        let task = CopyTask {
            source: source.clone(),
            version: version.etag.clone(),
            size_bytes: version.size_bytes,
            target: target.clone(),
            over,
            headers,
        };
        let etag = self.copier.copy(&task).await?;
        Ok(ObjectVersion { etag, ..version })
    }
}

/// The key that an object has after a rename.
pub fn moved_key(key: &Key, from: &str, to: &str) -> Option<Key> {
    let rest = key.as_str().strip_prefix(from)?;
    Some(Key::new(format!("{to}{rest}")))
}

/// Whose request has made a copy, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CopiedBy {
    Us,
    Another,
}

/// What came of the copies of one rename.
#[derive(Debug, Default)]
pub struct Copies {
    pub moved: Moved,
    /// Originals whose copies were made here.
    made: HashSet<Key>,
    /// Those that the store may make still.
    unanswered: Vec<ListedObject>,
    pub failed: Option<FsError>,
}

impl ObjectCopies {
    /// Another mount that renames the directory too deletes its copies where it fails.
    ///
    /// Errors: `Stale` where one that was taken over is not there any more.
    pub async fn check_taken_over(
        &self,
        copies: &Copies,
        old_prefix: &str,
        new_prefix: &str,
    ) -> Result<(), FsError> {
        let taken = copies.moved.iter();
        for (key, copy) in taken.filter(|(key, _)| !copies.made.contains(*key)) {
            let target = moved_key(key, old_prefix, new_prefix).ok_or(FsError::STALE)?;
            let there = self.deletes.object_at(&target).await?;
            if there.is_none_or(|there| there.etag != copy.version.etag) {
                return Err(FsError::STALE);
            }
        }
        Ok(())
    }
}

impl Copies {
    /// None is known.
    pub fn failed(error: FsError) -> Self {
        Self {
            failed: Some(error),
            ..Self::default()
        }
    }

    /// Errors: why some are missing.
    pub fn finished(self) -> Result<Moved, FsError> {
        self.failed.map_or(Ok(self.moved), Err)
    }

    /// Copies that this mount has made, or may have, and that nothing stands for.
    pub fn unwanted(
        &self,
        objects: &[ListedObject],
        from: &str,
        to: &str,
    ) -> Vec<(Key, LateObject)> {
        let made = objects.iter().filter_map(|object| {
            let copy = self.moved.get(&object.key)?;
            // Another client's stays.
            let is_ours = self.made.contains(&object.key);
            is_ours.then(|| (object, copy.version.etag.clone()))
        });
        // The ETag of a copy in parts is not known before.
        let late = self.unanswered.iter().filter(|it| !it.etag.is_of_parts());
        let late = late.map(|object| (object, object.etag.clone()));
        made.chain(late)
            .filter_map(|(object, etag)| {
                let key = moved_key(&object.key, from, to)?;
                Some((key, LateObject::of_copy(object, etag)))
            })
            .collect()
    }
}

/// What is under the new name already.
pub fn copy_of<'a>(
    original: &ListedObject,
    intent: &RenameIntent,
    copies: &'a HashMap<Key, ListedObject>,
) -> Option<&'a ListedObject> {
    let (from, to) = (intent.from.as_str(), intent.to.as_str());
    copies.get(&moved_key(&original.key, from, to)?)
}

/// Whether a copy certainly has the bytes of this version.
pub fn is_same(copy: &ListedObject, original: &ListedObject) -> bool {
    copy.etag == original.etag && copy.size_bytes == original.size_bytes
}
