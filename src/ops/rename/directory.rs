//! Renaming a directory: every key under it is copied, then the old ones are deleted.
//!
//! Order that a crash may cut anywhere: the journal has the rename; the copies;
//! the journal has the new places of stages, then what is to be deleted, then the
//! end of the rename; the deletes. Until the end of the rename the successor
//! does all of it again, as far as it is not done (`recovery`).
//!
//! One that fails before a delete is noted is undone (`undo`). From then on a delete may
//! be carried out at any time, also late or by a successor: no copy is deleted any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::copies::{Copies, ObjectCopies};
use super::log::RenameLog;
use super::not_moved::NotMoved;
use super::place::{Place, keys_of};
use super::rebase::Rebase;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{KernelRequest, Moved, OpenFiles, check_awaited};
use crate::journal::{Originals, RenameIntent};
use crate::namespace::{Entry, Namespace, Pin, before_entry_removed, check_emptied, entry_added};
use crate::store::CopyHeaders;
use crate::store::{
    DeletePending, DeleteQueue, DeleteRequest, Held, Key, ListedObject, ObjectStore, WriteCondition,
};
use crate::task::caught;
use crate::writeback::{Deletes, Predecessor};

/// A directory that is renamed.
#[derive(Debug)]
pub struct Moving<'a> {
    pub from: &'a Place<'a>,
    pub to: &'a Place<'a>,
    pub source: &'a Pin,
    /// The empty directory whose place it takes.
    pub target: Option<&'a Pin>,
    /// What lies below it.
    pub objects: Vec<ListedObject>,
    pub old_prefix: String,
    pub new_prefix: String,
}

/// Renames directories.
#[derive(Debug)]
pub struct DirectoryRenamer {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub store: Arc<DeleteQueue>,
    pub predecessor: Arc<Predecessor>,
    pub deletes: Arc<Deletes>,
    pub copies: Arc<ObjectCopies>,
    pub rebase: Arc<Rebase>,
    pub log: Arc<RenameLog>,
}

impl DirectoryRenamer {
    pub async fn rename_dir(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
        target: Option<&Pin>,
        request: Option<KernelRequest>,
    ) -> Result<(), NotMoved> {
        let objects = self.movable(from, to, source, target).await;
        let moving = Moving {
            from,
            to,
            source,
            target,
            objects: objects.map_err(NotMoved::untouched)?,
            old_prefix: self.dir_prefix(from)?,
            new_prefix: self.dir_prefix(to)?,
        };
        let old_key = Key::new(moving.old_prefix.as_str());
        let intent = RenameIntent {
            from: old_key.clone(),
            to: Key::new(moving.new_prefix.as_str()),
            version: None,
            headers: CopyHeaders::Same,
            over: WriteCondition::Always,
            copy: None,
            originals: Some(Originals::of(&moving.objects)),
        };
        check_awaited()?;
        self.log.begin_rename(intent).await?;
        failpoint::at(Point::RenameDirectoryNoted);
        let copies = self.copy_tree(&moving).await;
        let moved = match copies.failed.clone() {
            None => self.move_tree(&moving, &copies.moved).await,
            Some(failed) => Err(failed),
        };
        if let Err(error) = &moved {
            // First: a successor that finds the rename under way makes them anew.
            self.undo(&moving, &copies, error).await;
        }
        // Where it has failed, the application is told so.
        self.log.end_done(&old_key, &moved, request).await;
        failpoint::at(Point::RenameDirectoryEnqueued);
        // Copies may be there, and go later.
        let originals = moved.map_err(NotMoved::unknown)?;
        self.delete_originals(&moving, &originals).await?;
        failpoint::at(Point::RenameDirectoryDeleted);
        // The source's own marker, if it had one, stands in the place of the target's.
        if target.is_some() && !copies.moved.contains_key(&old_key) {
            let marker = DeleteRequest::any(Key::new(moving.new_prefix.as_str()));
            if let Err(error) = self.store.delete(marker).await {
                let to = &moving.new_prefix;
                tracing::warn!(%to, %error, "the marker of a directory that was replaced stays: it cannot be deleted");
            }
        }
        Ok(())
    }

    /// Copies what is below the directory. Where it fails, that is said with the copies.
    async fn copy_tree(&self, moving: &Moving<'_>) -> Copies {
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        let copied = caught("rename", self.copies.copy_all(&moving.objects, old, new)).await;
        let mut copies = copied.unwrap_or_else(|panicked| Copies::failed(panicked.into()));
        if copies.failed.is_none() {
            copies.failed = self.copies.check_taken_over(&copies, old, new).await.err();
        }
        copies
    }

    /// Gives the directory its new place, in the journal too, once all of it is copied; the
    /// originals are not seen any more. Errors: the directory has its old place.
    async fn move_tree(&self, moving: &Moving<'_>, moved: &Moved) -> Result<Held, FsError> {
        failpoint::at(Point::RenameDirectoryCopied);
        let Moving { from, to, .. } = moving;
        let is_stored = !moving.objects.is_empty();
        if is_stored {
            let marked = before_entry_removed(&self.namespace, &from.dir, from.name);
            marked.await?;
        }
        let placed = caught("rename", self.move_over(moving, moved)).await;
        let placed = placed.map_err(FsError::from).flatten();
        if placed.is_err() {
            self.move_back(moving, moved).await;
        } else if is_stored {
            let namespace = &self.namespace;
            namespace.record(from.dir.ino, from.name, None);
            namespace.record(to.dir.ino, to.name, Some(Entry::Directory));
            entry_added(namespace, &to.dir).await;
        }
        placed
    }

    /// Last, the originals are noted as to be deleted.
    async fn move_over(&self, moving: &Moving<'_>, moved: &Moved) -> Result<Held, FsError> {
        let Moving { to, source, .. } = moving;
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        // Readers go to the copies before the originals go.
        self.rebase.rebase_subtree(source, old, new, moved);
        self.namespace
            .table()
            .rename(source.ino, to.dir.ino, to.name)?;
        // Also what was opened in between.
        self.rebase.rebase_subtree(source, old, new, moved);
        self.rebase.journal_seals_again(source).await;
        failpoint::at(Point::RenameDirectoryStagesMoved);
        Ok(self.store.enqueue_held(&pending_of(old, &moving.objects))?)
    }

    /// Deletes what was moved.
    async fn delete_originals(
        &self,
        moving: &Moving<'_>,
        originals: &Held,
    ) -> Result<(), NotMoved> {
        let (from, to) = (&moving.old_prefix, &moving.new_prefix);
        let deleted = caught("rename", originals.delete_now()).await;
        let deleted = deleted.map_err(FsError::from);
        match deleted.and_then(|deleted| Ok(deleted?)) {
            Ok(0) => Ok(()),
            // Versions other than those that were moved.
            Ok(newer) => {
                tracing::warn!(
                    %from, %to, newer,
                    "objects that other clients have put while the directory was renamed stay under its old name"
                );
                self.deletes.shows_again(&moving.from.dir).await;
                Ok(())
            }
            Err(error) => {
                self.keep_both_names(moving, &error).await;
                Err(NotMoved::unknown(error))
            }
        }
    }

    /// What is below a directory that can be moved.
    async fn movable(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
        target: Option<&Pin>,
    ) -> Result<Vec<ListedObject>, FsError> {
        // What a predecessor had sent must not put a key under the old name either.
        let places = keys_of(&self.namespace, from, to)?;
        self.predecessor.wait_for_requests(&places).await?;
        if let Some(target) = target {
            check_emptied(&self.namespace, &self.store, target).await?;
        }
        self.files.check_movable(source.ino)?;
        self.copies.objects_under(&self.dir_prefix(from)?).await
    }

    fn dir_prefix(&self, place: &Place<'_>) -> Result<String, FsError> {
        let path = self.namespace.table().dir_path(place.dir.ino)?;
        Ok(self.namespace.keys().dir_prefix(&path.join(place.name)))
    }
}

/// What goes with the objects of a directory: also the directories that stores
/// with directories of their own keep.
pub fn pending_of(prefix: &str, objects: &[ListedObject]) -> Vec<DeletePending> {
    if objects.is_empty() {
        return Vec::new();
    }
    let listed = objects
        .iter()
        .map(|object| DeletePending::of_version(object.key.clone(), Some(object.etag.clone())));
    let keys: BTreeSet<&Key> = objects.iter().map(|object| &object.key).collect();
    let directories = directories_of(prefix, objects).into_iter();
    let directories = directories.filter(|key| !keys.contains(key));
    let directories = directories.map(|key| DeletePending::of_version(key, None));
    listed.chain(directories).collect()
}

/// Markers of every directory from `prefix` down that has objects, the deepest first.
fn directories_of(prefix: &str, objects: &[ListedObject]) -> Vec<Key> {
    let mut found = BTreeSet::from([prefix]);
    for object in objects {
        let key = object.key.as_str();
        let ends = key.match_indices('/').map(|(at, _)| at + 1);
        found.extend(
            ends.filter(|end| *end > prefix.len())
                .filter_map(|end| key.get(..end)),
        );
    }
    found.into_iter().rev().map(Key::new).collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::ETag;

    #[test]
    fn the_directories_of_a_tree_come_deepest_first() {
        let object = |key: &str| ListedObject {
            key: Key::new(key),
            etag: ETag::new("e"),
            size_bytes: 0,
            last_modified: SystemTime::UNIX_EPOCH,
        };
        let objects = ["p/old/a/b/f", "p/old/a/g", "p/old/h"].map(object);
        let keys = directories_of("p/old/", &objects);
        let keys: Vec<_> = keys.iter().map(Key::as_str).collect();
        assert_eq!(keys, ["p/old/a/b/", "p/old/a/", "p/old/"]);
    }
}
