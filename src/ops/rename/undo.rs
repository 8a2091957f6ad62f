//! A directory whose rename has failed has its old name. Before a delete of an original
//! was noted, what the rename has put under the new one goes. After, all of it stays: an
//! original may be gone, or go later.

use super::copies::{Copies, moved_key};
use super::directory::{DirectoryRenamer, Moving};
use crate::error::FsError;
use crate::files::{Moved, MovedObject};
use crate::namespace::{Entry, entry_added, put_marker};

impl DirectoryRenamer {
    /// Of a rename that has failed, nobody has deleted an original.
    pub(super) async fn undo(&self, moving: &Moving<'_>, copies: &Copies, error: &FsError) {
        let (from, to) = (&moving.old_prefix, &moving.new_prefix);
        if self.log.deletes_none_of(&moving.objects).await {
            self.drop_copies(moving, copies).await;
        } else {
            tracing::error!(%from, %to, %error, "a rename has failed and left copies of all files under the new name; the next mount may delete the originals: remove the old name");
        }
        // It may have got a marker for the time after.
        if copies.failed.is_none() && !moving.objects.is_empty() {
            entry_added(&self.namespace, &moving.from.dir).await;
        }
    }

    /// Of an empty directory at the new place, the marker stays, and is its own again.
    async fn drop_copies(&self, moving: &Moving<'_>, copies: &Copies) {
        let (from, to) = (&moving.old_prefix, &moving.new_prefix);
        let mut unwanted = copies.unwanted(&moving.objects, from, to);
        if let Some(target) = moving.target {
            let before = unwanted.len();
            unwanted.retain(|(key, _)| key.as_str() != to.as_str());
            if unwanted.len() < before
                && let Err(error) = put_marker(&self.namespace, target).await
            {
                tracing::warn!(%to, %error, "the marker of a directory keeps the mode and owner of the directory that was to replace it");
            }
        }
        self.copies.delete_unwanted(unwanted).await;
    }

    /// Readers go back to the originals, as they were when they were copied.
    pub(super) async fn move_back(&self, moving: &Moving<'_>, moved: &Moved) {
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        let original = moving.objects.iter().filter_map(|object| {
            let copy = moved.get(&object.key)?.version.etag.clone();
            let key = moved_key(&object.key, old, new)?;
            Some((key, MovedObject::of(copy, object.into())))
        });
        let back: Moved = original.collect();
        self.rebase.rebase_subtree(moving.source, new, old, &back);
        self.place_again(moving);
        self.rebase.rebase_subtree(moving.source, new, old, &back);
        self.rebase.journal_seals_again(moving.source).await;
    }

    /// S3 refuses to delete originals. Readers stay with the copies, which are there for
    /// sure; listings tell what is left under the old name.
    pub(super) async fn keep_both_names(&self, moving: &Moving<'_>, error: &FsError) {
        let Moving { from, to, .. } = moving;
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        tracing::error!(from = %old, to = %new, %error, "a rename has failed: S3 refuses to delete what is under the old name; all files are under the new name, some under both: allow the deletes, then remove the old name");
        // Else a successor might delete, after the new name was removed, what is left.
        if !self.log.deletes_none_of(&moving.objects).await {
            tracing::error!(from = %old, to = %new, "the next mount may try again to delete what is left under the old name");
        }
        let namespace = &self.namespace;
        namespace.record(from.dir.ino, from.name, Some(Entry::Directory));
        namespace.record(to.dir.ino, to.name, Some(Entry::Directory));
        // It may have got a marker for the time after.
        self.deletes.shows_again(&from.dir).await;
        self.place_again(moving);
        moving.source.state().dir.forget_listing();
        self.rebase.journal_seals_again(moving.source).await;
    }

    /// The directory has its old name, and one that it replaced has its own.
    fn place_again(&self, moving: &Moving<'_>) {
        let Moving {
            from, to, source, ..
        } = moving;
        let table = self.namespace.table();
        let mut placed = table.rename(source.ino, from.dir.ino, from.name);
        if let Some(target) = moving.target {
            placed = placed.and(table.rename(target.ino, to.dir.ino, to.name));
            target.state().dir.forget_listing();
        }
        for dir in [&from.dir, &to.dir] {
            dir.state().dir.forget_listing();
        }
        if let Err(error) = placed {
            let (from, to) = (&moving.old_prefix, &moving.new_prefix);
            tracing::error!(%from, %to, %error, "cannot undo the failed rename of a directory");
        }
    }
}
