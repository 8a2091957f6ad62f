//! Renaming a directory: every key under it is copied, then the old ones are deleted.
//!
//! Order that a crash may cut anywhere: the journal has the rename; the copies;
//! the journal has the new places of stages, then what is to be deleted, then the
//! end of the rename; the deletes. Until the end of the rename the successor
//! does all of it again, as far as it is not done (`unfinished`).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::copies::ObjectCopies;
use super::log::{Ended, RenameLog};
use super::not_moved::NotMoved;
use super::place::{Place, keys_of};
use super::rebase::Rebase;
use crate::error::FsError;
use crate::failpoint::{self, Point};
use crate::files::{KernelRequest, Moved, OpenFiles, check_awaited};
use crate::journal::{Originals, RenameIntent};
use crate::namespace::{Entry, Namespace, Pin};
use crate::store::CopyHeaders;
use crate::store::{
    DeletePending, DeleteQueue, DeleteRequest, Key, LateObject, ListedObject, ObjectStore,
    WriteCondition,
};
use crate::task::caught;
use crate::writeback::{Deletes, Predecessor};

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
        let objects = objects.map_err(NotMoved::untouched)?;
        let (old_prefix, new_prefix) = (self.dir_prefix(from)?, self.dir_prefix(to)?);
        let intent = RenameIntent {
            from: Key::new(old_prefix.as_str()),
            to: Key::new(new_prefix.as_str()),
            version: None,
            headers: CopyHeaders::Same,
            over: WriteCondition::Always,
            copy: None,
            originals: Some(Originals::of(&objects)),
        };
        check_awaited()?;
        self.log.begin_rename(intent).await?;
        failpoint::at(Point::RenameDirectoryNoted);
        let mut unwanted = Vec::new();
        let moved = self.move_tree(from, to, source, &objects, &mut unwanted);
        let moved = caught("rename", moved).await.map_err(FsError::from);
        let moved = moved.flatten();
        // Where it has failed, the application is told so.
        let old_key = Key::new(old_prefix.as_str());
        let ended = self.log.end_done(&old_key, &moved, request).await;
        failpoint::at(Point::RenameDirectoryDoomed);
        // A successor that finished the rename would want the copies.
        if moved.is_err() && ended == Ended::Yes {
            self.copies.delete_unwanted(unwanted);
        }
        // Copies may be there, and go later.
        let moved = moved.map_err(NotMoved::unknown)?;
        let deleted = self.delete_originals(&old_prefix, &objects);
        let deleted = caught("rename", deleted).await.map_err(FsError::from);
        match deleted.flatten() {
            Ok(0) => {}
            Ok(newer) => {
                tracing::warn!(
                    from = old_prefix,
                    to = new_prefix,
                    newer,
                    "objects that other clients have put while the directory was renamed stay under its old name"
                );
                self.deletes.shows_again(&from.dir).await;
            }
            Err(error) => {
                let back = self.name_again(source, from).await;
                back.map_err(NotMoved::unknown)?;
                return Err(NotMoved::unknown(error));
            }
        }
        failpoint::at(Point::RenameDirectoryDeleted);
        // The source's own marker, if it had one, stands in the place of the target's.
        if target.is_some() && !moved.contains_key(&old_key) {
            let marker = DeleteRequest::any(Key::new(new_prefix));
            let deleted = self.store.delete(marker).await;
            deleted.map_err(|error| NotMoved::unknown(error.into()))?;
        }
        Ok(())
    }

    /// Copies what is below the directory and gives it its new place, in the
    /// journal too; the originals are not seen any more. Where it fails, `unwanted` has
    /// the copies that nothing stands for.
    async fn move_tree(
        &self,
        from: &Place<'_>,
        to: &Place<'_>,
        source: &Pin,
        objects: &[ListedObject],
        unwanted: &mut Vec<(Key, LateObject)>,
    ) -> Result<Moved, FsError> {
        let (old_prefix, new_prefix) = (self.dir_prefix(from)?, self.dir_prefix(to)?);
        let mut copies = self
            .copies
            .copy_all(objects, &old_prefix, &new_prefix)
            .await;
        if copies.failed.is_none() {
            let (old, new) = (&old_prefix, &new_prefix);
            copies.failed = self.copies.check_taken_over(&copies, old, new).await.err();
        }
        if copies.failed.is_some() {
            *unwanted = copies.unwanted(objects, &old_prefix, &new_prefix);
        }
        let moved = copies.finished()?;
        failpoint::at(Point::RenameDirectoryCopied);
        if !objects.is_empty() {
            self.namespace
                .before_entry_removed(&from.dir, from.name)
                .await?;
        }
        // Readers go to the copies before the originals go.
        self.rebase
            .rebase_subtree(source, &old_prefix, &new_prefix, &moved);
        self.namespace
            .table()
            .rename(source.ino, to.dir.ino, to.name)?;
        // Also what was opened in between.
        self.rebase
            .rebase_subtree(source, &old_prefix, &new_prefix, &moved);
        self.rebase.journal_seals_again(source).await;
        failpoint::at(Point::RenameDirectoryStagesMoved);
        if objects.is_empty() {
            return Ok(moved);
        }
        if let Err(error) = self.store.enqueue(&pending_of(&old_prefix, objects)) {
            self.name_again(source, from).await?;
            return Err(error.into());
        }
        self.namespace.record(from.dir.ino, from.name, None);
        self.namespace
            .record(to.dir.ino, to.name, Some(Entry::Directory));
        self.namespace.entry_added(&to.dir).await;
        Ok(moved)
    }

    /// It has its old name after all, in the journal too.
    async fn name_again(&self, source: &Pin, from: &Place<'_>) -> Result<(), FsError> {
        let table = self.namespace.table();
        table.rename(source.ino, from.dir.ino, from.name)?;
        self.rebase.journal_seals_again(source).await;
        Ok(())
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
            self.namespace.check_empty(target).await?;
        }
        self.files.check_movable(source.ino)?;
        self.copies.objects_under(&self.dir_prefix(from)?).await
    }

    fn dir_prefix(&self, place: &Place<'_>) -> Result<String, FsError> {
        let path = self.namespace.table().dir_path(place.dir.ino)?;
        Ok(self.namespace.keys().dir_prefix(&path.join(place.name)))
    }

    /// Returns how many are other versions than those that were moved, and stay.
    /// Errors: why originals cannot be deleted.
    async fn delete_originals(
        &self,
        prefix: &str,
        objects: &[ListedObject],
    ) -> Result<usize, FsError> {
        let pending = pending_of(prefix, objects).into_iter();
        let keys: Vec<Key> = pending.map(|pending| pending.key).collect();
        Ok(self.store.delete_pending_now(&keys).await?)
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
