//! A directory whose rename has failed: it has its old name, all of it, and what the rename
//! has put under the new one goes.

use std::collections::HashSet;

use super::copies::{Copies, moved_key};
use super::directory::{DirectoryRenamer, Moving};
use crate::error::FsError;
use crate::files::{Moved, MovedObject};
use crate::namespace::Entry;
use crate::store::{Key, ListedObject};

impl DirectoryRenamer {
    /// Of an empty directory at the new place, the marker stays, and is its own again.
    ///
    /// `whole` has what is under the old name: of it the copies are not wanted.
    pub(super) async fn drop_copies(
        &self,
        moving: &Moving<'_>,
        copies: &Copies,
        whole: &[ListedObject],
    ) {
        let (from, to) = (&moving.old_prefix, &moving.new_prefix);
        let mut unwanted = copies.unwanted(whole, from, to);
        if let Some(target) = moving.target {
            let before = unwanted.len();
            unwanted.retain(|(key, _)| key.as_str() != to.as_str());
            if unwanted.len() < before
                && let Err(error) = self.namespace.put_marker(target).await
            {
                tracing::warn!(%to, %error, "the marker of a directory has what was stored with one that was to replace it");
            }
        }
        self.copies.delete_unwanted(unwanted);
    }

    /// The originals cannot all be deleted: those that are gone are made again.
    pub(super) async fn take_back(&self, moving: &Moving<'_>, copies: &Copies) {
        let (from, to) = (&moving.old_prefix, &moving.new_prefix);
        let (whole, outcome) = self.restore(moving, &copies.moved).await;
        if let Err(error) = outcome {
            tracing::error!(%from, %to, %error, "a rename has failed and cannot be taken back: some files are under the new name alone");
        }
        if moving.target.is_none() {
            let (dir, name) = (&moving.to.dir, moving.to.name);
            if let Err(error) = self.namespace.before_entry_removed(dir, name).await {
                tracing::warn!(%to, %error, "the directory above has no marker");
            }
        }
        self.give_old_place(moving, &copies.moved, &whole).await;
        self.drop_copies(moving, copies, &whole).await;
    }

    /// What is under the old name, once as much of it as can be had is there again.
    async fn restore(
        &self,
        moving: &Moving<'_>,
        moved: &Moved,
    ) -> (Vec<ListedObject>, Result<(), FsError>) {
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        let mut whole = match self.copies.all_objects_under(old).await {
            Ok(there) => there,
            Err(error) => return (Vec::new(), Err(error)),
        };
        let there: HashSet<&Key> = whole.iter().map(|object| &object.key).collect();
        let gone = moving.objects.iter();
        let gone = gone.filter(|object| !there.contains(&object.key));
        let copy = |object: &ListedObject| {
            let key = moved_key(&object.key, old, new)?;
            Some(moved.get(&object.key)?.listed_at(key))
        };
        let gone: Vec<ListedObject> = gone.filter_map(copy).collect();
        let back = self.copies.copy_all(&gone, new, old).await;
        let made = back.moved.iter().filter_map(|(copy, original)| {
            let key = moved_key(copy, new, old)?;
            Some(original.listed_at(key))
        });
        whole.extend(made);
        (whole, back.failed.map_or(Ok(()), Err))
    }

    /// Readers go back to the originals, of which these are there.
    pub(super) async fn give_old_place(
        &self,
        moving: &Moving<'_>,
        moved: &Moved,
        whole: &[ListedObject],
    ) {
        let Moving {
            from,
            to,
            source,
            target,
            ..
        } = moving;
        let (old, new) = (&moving.old_prefix, &moving.new_prefix);
        let original = |object: &ListedObject| {
            let copy = moved.get(&object.key)?.version.etag.clone();
            let key = moved_key(&object.key, old, new)?;
            Some((key, MovedObject::of(copy, object.into())))
        };
        let back: Moved = whole.iter().filter_map(original).collect();
        let table = self.namespace.table();
        self.rebase.rebase_subtree(source, new, old, &back);
        let mut placed = table.rename(source.ino, from.dir.ino, from.name);
        if let Some(target) = target {
            placed = placed.and(table.rename(target.ino, to.dir.ino, to.name));
        }
        if let Err(error) = placed {
            tracing::error!(from = %old, to = %new, %error, "a directory whose rename has failed does not have its old name here");
        }
        self.rebase.rebase_subtree(source, new, old, &back);
        self.rebase.journal_seals_again(source).await;
        let namespace = &self.namespace;
        if !moving.objects.is_empty() {
            namespace.record(from.dir.ino, from.name, Some(Entry::Directory));
            let replaced = target.map(|_| Entry::Directory);
            namespace.record(to.dir.ino, to.name, replaced);
        }
    }
}
