//! Renames that an earlier daemon began and did not live to finish.
//!
//! They are finished before anything is served, so that nobody sees a file under
//! two names. Each step looks first whether it is done: dying here is no other
//! than dying in the rename itself.

use std::collections::HashMap;

use super::Ops;
use super::rename_dir::{Moved, doomed_of};
use crate::error::FsError;
use crate::namespace::{Kind, Name, ObjectVersion, Pin, ROOT};
use crate::store::{
    Doomed, HeadRequest, Key, ListedObject, ObjectMeta, ObjectStore, StoreError, StoreErrorKind,
    WriteCondition,
};
use crate::write_path::{Recovered, RenameIntent, SealedBase, SealedStage};

/// A rename that is finished, and what is under the new names, by the old keys.
#[derive(Debug)]
pub struct Finished {
    intent: RenameIntent,
    moved: Moved,
}

/// Attempts to finish a rename of what other clients change meanwhile.
const TRIES: u32 = 3;

impl Ops {
    /// Finishes what was begun; what was sealed of the files that move goes along.
    ///
    /// A rename that cannot be finished is taken back. The others are for
    /// `take_finished`. Errors: the store's where a later attempt may do better; the
    /// renames are still in the journal then.
    pub async fn finish_renames(
        &self,
        recovered: &mut Vec<Recovered>,
    ) -> Result<Vec<Finished>, FsError> {
        let mut finished = Vec::new();
        let begun = self.desk.spool.journal().renames();
        if !begun.is_empty() {
            self.late_requests_landed().await;
        }
        for intent in begun {
            let (from, to) = (&intent.from, &intent.to);
            tracing::info!(%from, %to, "an earlier mediafs was renaming this: finishing");
            let mut tries = 1;
            let outcome = loop {
                let outcome = if intent.is_of_a_directory() {
                    self.finish_directory(&intent, recovered).await
                } else {
                    self.finish_file(&intent, recovered).await
                };
                // Another client was at it between the look and the copy.
                let is_overtaken = matches!(outcome, Err(FsError::Stale | FsError::NotFound));
                if !is_overtaken || tries == TRIES {
                    break outcome;
                }
                tries += 1;
            };
            match outcome {
                Ok(moved) => finished.push(Finished {
                    intent: intent.clone(),
                    moved,
                }),
                Err(error) if may_pass(&error) => return Err(error),
                Err(error) => {
                    tracing::error!(%from, %to, %error, "the rename cannot be finished: taken back");
                    self.take_back(&intent).await?;
                }
            }
            self.end_rename(from).await;
        }
        self.store.delete_soon();
        Ok(finished)
    }

    /// Gives the inodes that the kernel knows from an earlier daemon the places of
    /// what was renamed: the rename comes again and finds it done.
    pub fn take_finished(&self, finished: Vec<Finished>) {
        for Finished { intent, moved } in finished {
            let (from, to) = (&intent.from, &intent.to);
            if let Err(error) = self.move_known(&intent, &moved) {
                tracing::error!(%from, %to, %error, "an open file lost its name in a rename");
            }
        }
    }

    fn move_known(&self, intent: &RenameIntent, moved: &Moved) -> Result<(), FsError> {
        let table = self.namespace.table();
        let root = self.namespace.directory(ROOT)?;
        let mut known = self.names(&intent.from).into_iter();
        let known = known.try_fold(root, |at, name| table.child(at.ino, &name));
        let Some(inode) = known.filter(|inode| inode.ino != ROOT) else {
            return Ok(());
        };
        let (from, to) = (intent.from.as_str(), intent.to.as_str());
        match moved.get(&intent.from) {
            Some(version) if !intent.is_of_a_directory() => {
                self.rebase_file(inode.ino, &inode, intent.to.clone(), version);
            }
            _ => self.rebase_subtree(&inode, from, to, moved),
        }
        let mut names = self.names(&intent.to);
        let name = names.pop().ok_or(FsError::IllegalName)?;
        let root = self.namespace.directory(ROOT)?;
        let dir = names.iter().try_fold(root, |at, name| {
            table.child_or_new(at.ino, name, Kind::Directory)
        })?;
        table.rename(inode.ino, dir.ino, &name)
    }

    async fn finish_file(
        &self,
        intent: &RenameIntent,
        recovered: &mut Vec<Recovered>,
    ) -> Result<Moved, FsError> {
        let (from, to) = (&intent.from, &intent.to);
        let source = self.object_at(from).await?;
        let copy = self.object_at(to).await?;
        let source = match source {
            Some(found) if Some(&found.etag) == intent.version.as_ref() => version_of(found),
            // Another client has put a new one.
            Some(_) => return Ok(Moved::new()),
            None => {
                let moved = copy.map(|copy| (from.clone(), version_of(copy)));
                return Ok(moved.into_iter().collect());
            }
        };
        let is_copied = copy
            .is_some_and(|copy| (&copy.etag, copy.size_bytes) == (&source.etag, source.size_bytes));
        let moved = if is_copied {
            source.clone()
        } else {
            let headers = intent.headers.clone();
            self.copy_version(from, to, headers, source.clone()).await?
        };
        // What was sealed of the file that the rename replaces goes with it.
        let replaced = recovered.extract_if(.., |found| found.sealed.key == *to);
        for found in replaced {
            self.desk.spool.discard(&found.file);
        }
        let etag = Some(source.etag);
        let key = from.clone();
        self.change_places(intent, &[Doomed { key, etag }]).await?;
        Ok(Moved::from([(from.clone(), moved)]))
    }

    async fn finish_directory(
        &self,
        intent: &RenameIntent,
        recovered: &mut [Recovered],
    ) -> Result<Moved, FsError> {
        let (from, to) = (intent.from.as_str(), intent.to.as_str());
        let originals = self.objects_under(from).await?;
        let copies = self.copies(intent).await?;
        let missing: Vec<_> = originals
            .iter()
            .filter(|original| copy_of(original, intent, &copies).is_none())
            .cloned()
            .collect();
        let mut moved = self.copy_all(&missing, from, to).await?;
        for copy in copies.values() {
            // Also of originals that are gone already.
            if let Some(rest) = copy.key.as_str().strip_prefix(to) {
                let original = Key::new(format!("{from}{rest}"));
                moved.entry(original).or_insert_with(|| copy.into());
            }
        }
        for found in recovered {
            if move_stage(&mut found.sealed, intent, &moved) {
                let durable = self.settings.durability.durable();
                self.desk
                    .spool
                    .seal(&found.file, found.sealed.clone(), durable)?;
            }
        }
        self.change_places(intent, &doomed_of(from, &originals))
            .await?;
        let has_files = moved.keys().any(|key| key != &intent.from);
        // With attributes stored it may be the source's own, which says something.
        if has_files
            && !self.namespace.stores_attributes()
            && let Some(dir) = self.directory(to).await?
        {
            self.namespace.child_arrived(&dir).await?;
        }
        Ok(moved)
    }

    /// The directories above learn what comes and goes; the originals are not seen any more.
    async fn change_places(&self, intent: &RenameIntent, gone: &[Doomed]) -> Result<(), FsError> {
        if gone.is_empty() {
            return Ok(());
        }
        let old_name = self.names(&intent.from).pop();
        let old_parent = self.parent_of(&intent.from).await?;
        if let (Some(dir), Some(name)) = (&old_parent, old_name) {
            self.namespace.child_leaves(dir, &name).await?;
        }
        self.store.doom(gone)?;
        self.store.delete_soon();
        let new_parent = self.parent_of(&intent.to).await?;
        if let Some(dir) = &new_parent
            && let Err(error) = self.namespace.child_arrived(dir).await
        {
            tracing::warn!(%error, "the directory's marker stays beside its first entry");
        }
        for dir in old_parent.iter().chain(&new_parent) {
            dir.state().dir.forget_listing();
        }
        Ok(())
    }

    /// Deletes the copies of what is still under its old name.
    ///
    /// A file's copy stays: nobody can tell whether its name was free before.
    async fn take_back(&self, intent: &RenameIntent) -> Result<(), FsError> {
        if !intent.is_of_a_directory() {
            return Ok(());
        }
        let originals = self.objects_under(intent.from.as_str()).await?;
        let copies = self.copies(intent).await?;
        let copies = originals
            .iter()
            .filter_map(|original| copy_of(original, intent, &copies));
        let copies: Vec<ListedObject> = copies.cloned().collect();
        Ok(self.store.doom(&doomed_of(intent.to.as_str(), &copies))?)
    }

    async fn copies(&self, intent: &RenameIntent) -> Result<HashMap<Key, ListedObject>, FsError> {
        let found = self.objects_under(intent.to.as_str()).await?.into_iter();
        Ok(found.map(|object| (object.key.clone(), object)).collect())
    }

    async fn object_at(&self, key: &Key) -> Result<Option<ObjectMeta>, FsError> {
        match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError {
                kind: StoreErrorKind::NotFound,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Names from the root down to a file or a directory; none for the root.
    fn names(&self, key: &Key) -> Vec<Name> {
        let path = key.as_str().trim_end_matches('/');
        let names = self.desk.keys.path_of(&Key::new(path));
        names.unwrap_or_default()
    }

    /// The directory that a key, or a directory's prefix, lies in.
    async fn parent_of(&self, key: &Key) -> Result<Option<Pin>, FsError> {
        let path = key.as_str().trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.directory(parent).await
    }

    /// A directory by its prefix, if the store has it.
    async fn directory(&self, prefix: &str) -> Result<Option<Pin>, FsError> {
        let mut at = self.namespace.directory(ROOT)?;
        for name in self.names(&Key::new(prefix)) {
            at = match self.namespace.lookup(&at, &name).await {
                Ok(found) => found,
                Err(FsError::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
        }
        Ok(Some(at))
    }
}

fn version_of(meta: ObjectMeta) -> ObjectVersion {
    ObjectVersion {
        etag: meta.etag,
        size_bytes: meta.size_bytes,
        last_modified: meta.last_modified,
    }
}

/// Where an object of the directory goes.
fn target_of(key: &Key, intent: &RenameIntent) -> Option<Key> {
    let rest = key.as_str().strip_prefix(intent.from.as_str())?;
    Some(Key::new(format!("{}{rest}", intent.to.as_str())))
}

/// What is under the new name already, if it is as a copy would be. One whose
/// ETag tells nothing, as that of a copy in parts, is made again.
fn copy_of<'a>(
    original: &ListedObject,
    intent: &RenameIntent,
    copies: &'a HashMap<Key, ListedObject>,
) -> Option<&'a ListedObject> {
    let copy = copies.get(&target_of(&original.key, intent)?)?;
    let same = copy.etag == original.etag && copy.size_bytes == original.size_bytes;
    same.then_some(copy)
}

/// Gives a sealed stage of a file in the directory its new place; whether it was one.
fn move_stage(sealed: &mut SealedStage, intent: &RenameIntent, moved: &Moved) -> bool {
    let Some(target) = target_of(&sealed.key, intent) else {
        return false;
    };
    sealed.key = target;
    let SealedBase::Object { key, etag, .. } = &mut sealed.base else {
        return true;
    };
    if let (Some(target), Some(copy)) = (target_of(key, intent), moved.get(key)) {
        if sealed.condition == WriteCondition::IfMatch(etag.clone()) {
            sealed.condition = WriteCondition::IfMatch(copy.etag.clone());
        }
        (*key, *etag) = (target, copy.etag.clone());
    }
    true
}

/// Whether an operator, or time, can mend it.
fn may_pass(error: &FsError) -> bool {
    match error {
        FsError::TimedOut | FsError::Spool(_) => true,
        FsError::Store(error) => {
            error.kind.is_transient()
                || matches!(
                    error.kind,
                    StoreErrorKind::Credentials
                        | StoreErrorKind::ClockSkew
                        | StoreErrorKind::WrongRegion
                        | StoreErrorKind::NoSuchBucket
                )
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{CopyHeaders, ETag, ObjectHeaders};
    use crate::write_path::StageId;

    fn intent() -> RenameIntent {
        RenameIntent {
            from: Key::new("p/d/"),
            to: Key::new("p/e/"),
            version: None,
            headers: CopyHeaders::Same,
        }
    }

    fn object(key: &str, etag: &str) -> ListedObject {
        ListedObject {
            key: Key::new(key),
            etag: ETag::new(etag),
            size_bytes: 4,
            last_modified: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_copy_counts_only_when_it_is_what_a_copy_would_be() {
        let there = [object("p/e/a", "1"), object("p/e/b", "other")];
        let copies = there.map(|copy| (copy.key.clone(), copy)).into();
        let found = |key: &str, etag: &str| copy_of(&object(key, etag), &intent(), &copies);
        assert!(found("p/d/a", "1").is_some());
        assert!(found("p/d/b", "2").is_none(), "other bytes");
        assert!(found("p/d/c", "3").is_none(), "not there");
    }

    #[test]
    fn a_sealed_edit_moves_with_the_object_that_it_edits() {
        let mut sealed = SealedStage {
            stage: StageId(1),
            key: Key::new("p/d/f"),
            headers: ObjectHeaders::default(),
            condition: WriteCondition::IfMatch(ETag::new("old")),
            len: 9,
            base_len: 9,
            written: std::iter::once(0..1).collect(),
            sums: Vec::new(),
            completing: None,
            base: SealedBase::Object {
                key: Key::new("p/d/f"),
                etag: ETag::new("old"),
                size_bytes: 9,
            },
        };
        let copy = ObjectVersion::from(&object("p/e/f", "new"));
        let moved = Moved::from([(Key::new("p/d/f"), copy)]);
        assert!(move_stage(&mut sealed, &intent(), &moved));
        assert_eq!(sealed.key.as_str(), "p/e/f");
        assert_eq!(sealed.condition, WriteCondition::IfMatch(ETag::new("new")));
        let base = SealedBase::Object {
            key: Key::new("p/e/f"),
            etag: ETag::new("new"),
            size_bytes: 9,
        };
        assert_eq!(sealed.base, base);
        assert!(!move_stage(&mut sealed, &intent(), &moved), "it is there");
    }
}
