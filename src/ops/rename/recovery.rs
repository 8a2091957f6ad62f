//! Renames that a predecessor began and did not live to finish.
//!
//! They are finished in the background. Until one is, what lies below its two paths
//! is neither shown nor changed, and listings of the directories above tell the old
//! name alone: nobody sees a file under two names. Each step looks
//! first whether it is done: dying here is no other than dying in the rename itself.
//!
//! The kernel was not answered, so a directory has its old path for it. What the
//! journal or the session has below the new one already goes back in memory, and
//! moves with the rest once every object has its copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::copies::{ObjectCopies, copy_of, is_same, moved_key};
use super::directory::pending_of;
use super::log::{Finished, RenameLog};
use super::paths::KeyPaths;
use super::rebase::Rebase;
use super::target_state::{TargetState, may_be_copy, moved_of, state_of, was_there};
use crate::backoff::Backoff;
use crate::error::FsError;
use crate::files::{Moved, MovedObject, OpenFiles, StageFactory};
use crate::journal::RenameIntent;
use crate::namespace::{
    Namespace, Pin, SubtreeGuard, SubtreeLocks, before_entry_removed, entry_added,
};
use crate::store::{
    DeletePending, DeleteQueue, Key, ListedObject, StoreErrorKind, WriteCondition, log_failure,
};
use crate::task::caught;
use crate::vocabulary::ObjectVersion;
use crate::write_path::RecoveredStage;
use crate::writeback::{Deletes, Predecessor};

/// A rename that is not finished: nobody else has to do with its paths.
#[derive(Debug)]
pub struct Unfinished {
    intent: RenameIntent,
    _subtrees: SubtreeGuard,
}

/// Attempts to finish a rename of what other clients change meanwhile.
const TRIES: u32 = 3;
/// Pauses before the renames that are left are tried again.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// Finishes renames of a predecessor.
#[derive(Debug)]
pub struct RenameRecovery {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub stage_factory: Arc<StageFactory>,
    pub store: Arc<DeleteQueue>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub deletes: Arc<Deletes>,
    pub copies: Arc<ObjectCopies>,
    pub rebase: Arc<Rebase>,
    pub log: Arc<RenameLog>,
    pub paths: KeyPaths,
    pub unfinished: Mutex<Vec<Unfinished>>,
}

impl RenameRecovery {
    /// Takes the paths of every rename that was begun, before anything is served:
    /// once the inodes of the predecessor are there, and nothing that it had sealed.
    pub fn hold_renames(&self, sealed: &mut [RecoveredStage]) {
        for intent in self.stage_factory.spool.journal().renames() {
            let (from, to) = (&intent.from, &intent.to);
            tracing::info!(%from, %to, "finishing a rename that the predecessor began");
            let (old, new) = (self.paths.path(from), self.paths.path(to));
            let subtrees = self.subtrees.hold_unfinished(old, new);
            if intent.is_of_a_directory()
                && let Err(error) = self.move_back(&intent, sealed)
            {
                tracing::error!(%from, %to, %error, "an open file lost its name in a rename");
            }
            self.unfinished.lock().push(Unfinished {
                intent,
                _subtrees: subtrees,
            });
        }
    }

    /// The predecessor may have moved the directory for itself, all of it or some.
    fn move_back(
        &self,
        intent: &RenameIntent,
        sealed: &mut [RecoveredStage],
    ) -> Result<(), FsError> {
        for found in sealed {
            if let Some(key) =
                moved_key(&found.sealed.key, intent.to.as_str(), intent.from.as_str())
            {
                found.sealed.key = key;
                // There it takes the place of something else, or of nothing.
                found.sealed.known = WriteCondition::Always;
            }
        }
        let table = self.namespace.table();
        let has_children = |dir: &Pin| table.has_children(dir.ino);
        let old = self.paths.known(&intent.from);
        // A directory that is replaced is empty.
        let moved = match self.paths.known(&intent.to) {
            Some(new) if old.is_none() => Some(new),
            Some(new) if !old.as_ref().is_some_and(has_children) && has_children(&new) => Some(new),
            _ => None,
        };
        match moved {
            Some(moved) => self.paths.place_at(&moved, &intent.from),
            None => Ok(()),
        }
    }

    /// Finishes what was begun, however long it takes.
    ///
    /// A rename that cannot be finished is taken back.
    pub async fn finish_renames(self: Arc<Self>) {
        let mut begun = std::mem::take(&mut *self.unfinished.lock());
        if begun.is_empty() {
            return;
        }
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        loop {
            let mut left = Vec::new();
            for rename in begun {
                let RenameIntent { from, to, .. } = &rename.intent;
                let finished = caught("finish a rename", self.finish(&rename.intent)).await;
                match finished.map_err(FsError::from).flatten() {
                    Ok(()) => tracing::info!(%from, %to, "the rename is finished"),
                    Err(error) => {
                        log_failure!(warn, &error, [%from, %to,], "the rename is not finished: trying again; what lies below waits");
                        left.push(rename);
                    }
                }
            }
            if left.is_empty() {
                return;
            }
            begun = left;
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// Errors: the store's where a later attempt may do better; the rename is still
    /// in the journal then.
    async fn finish(&self, intent: &RenameIntent) -> Result<(), FsError> {
        let places = [intent.from.clone(), intent.to.clone()];
        self.predecessor.wait_for_requests(&places).await?;
        let mut tries = 1;
        let outcome = loop {
            let outcome = if intent.is_of_a_directory() {
                self.finish_directory(intent).await
            } else {
                self.finish_file(intent).await
            };
            // Another client was at it between the look and the copy.
            let is_overtaken = matches!(
                outcome,
                Err(FsError::Stale(_) | FsError::NotFound(_) | FsError::Exists(_))
            );
            if !is_overtaken || tries == TRIES {
                break outcome;
            }
            tries += 1;
        };
        match outcome {
            Err(error) if !is_retryable(&error) => {
                let (from, to) = (&intent.from, &intent.to);
                tracing::error!(%from, %to, %error, "the rename cannot be finished: rolled back");
                self.roll_back(intent).await?;
            }
            outcome => {
                let finished = outcome?;
                self.log.note_finished(&intent.from, &intent.to, finished);
            }
        }
        if !intent.is_of_a_directory() {
            self.predecessor
                .note_delete(&intent.from, intent.version.clone());
        }
        self.log.end_rename(&intent.from).await;
        self.store.delete_soon();
        Ok(())
    }

    async fn finish_file(&self, intent: &RenameIntent) -> Result<Finished, FsError> {
        let (from, to) = (&intent.from, &intent.to);
        let source = self.deletes.object_at(from).await?;
        let there = self.deletes.object_at(to).await?;
        let source = match (source, &there) {
            (Some(found), _) if Some(&found.etag) == intent.version.as_ref() => {
                ObjectVersion::from(found)
            }
            // Another client has put a new one, before the copy was made.
            (Some(_), None) if intent.copy.is_none() => return Ok(Finished::GivenUp),
            (Some(_), Some(there)) if !may_be_copy(there, intent) => {
                return Ok(Finished::GivenUp);
            }
            // Another client has removed it before the copy was made.
            (None, Some(there)) if was_there(there, intent) => return Ok(Finished::GivenUp),
            // What another client has put since stays under the old name, and what has
            // become of the copy under the new one.
            (Some(_) | None, _) => {
                let moved = moved_of(there, intent);
                self.move_known(intent, &moved).await?;
                return Ok(Finished::ExecutedRequests);
            }
        };
        let copied = self.copies.in_parts(source.size_bytes);
        let moved = match state_of(there, &source, intent, copied) {
            TargetState::Copy(etag) => ObjectVersion {
                etag,
                ..source.clone()
            },
            TargetState::Newer => {
                tracing::warn!(%from, %to, "rename abandoned: another client has created a file under the new name; both files stay");
                return Ok(Finished::GivenUp);
            }
            TargetState::Before(over) => {
                let (headers, version) = (intent.headers.clone(), source.clone());
                let copied = self.copies.copy_version(from, (to, over), headers, version);
                copied.await?
            }
        };
        // What was sealed of the file that the rename replaces goes with it.
        if let Some(replaced) = self.paths.known(to) {
            if let Some(file) = self.files.get(replaced.ino) {
                file.orphan();
            }
            self.namespace.table().detach(replaced.ino);
        }
        let moved = MovedObject::of(source.etag.clone(), moved);
        let moved = Moved::from([(from.clone(), moved)]);
        let pending = DeletePending::of_version(from.clone(), Some(source.etag));
        self.change_places(intent, &moved, &[pending]).await?;
        Ok(Finished::ExecutedRequests)
    }

    async fn finish_directory(&self, intent: &RenameIntent) -> Result<Finished, FsError> {
        let (from, to) = (intent.from.as_str(), intent.to.as_str());
        let copies = self.copies.copies(intent).await?;
        let mut originals = self.copies.all_objects_under(from).await?;
        // What has come since stays under the old name.
        originals.retain(|object| match &intent.originals {
            Some(renamed) => renamed.has(object),
            None => copy_of(object, intent, &copies).is_none_or(|copy| is_same(copy, object)),
        });
        let missing = originals.iter();
        let missing = missing.filter(|original| copy_of(original, intent, &copies).is_none());
        let missing: Vec<_> = missing.cloned().collect();
        let mut moved = self.copies.copy_all(&missing, from, to).await.finished()?;
        let sources: HashMap<&Key, &ListedObject> =
            originals.iter().map(|it| (&it.key, it)).collect();
        for copy in copies.values() {
            // Also of originals that are gone already.
            if let Some(original) = moved_key(&copy.key, to, from) {
                let source = sources.get(&original);
                // One of another length is another client's.
                let source = source.filter(|it| it.size_bytes == copy.size_bytes);
                let copied = MovedObject {
                    version: copy.into(),
                    source: source.map(|it| it.etag.clone()),
                };
                moved.entry(original).or_insert(copied);
            }
        }
        let pending = pending_of(from, &originals);
        self.change_places(intent, &moved, &pending).await?;
        let has_files = moved.keys().any(|key| key != &intent.from);
        // With attributes stored it may be the source's own, which says something.
        if has_files
            && !self.namespace.stores_attributes()
            && let Some(dir) = self.paths.directory(to).await?
        {
            entry_added(&self.namespace, &dir).await;
        }
        Ok(Finished::ExecutedRequests)
    }

    /// The directories above learn what comes and goes; the originals are not seen any more.
    async fn change_places(
        &self,
        intent: &RenameIntent,
        moved: &Moved,
        gone: &[DeletePending],
    ) -> Result<(), FsError> {
        let old_name = self.paths.names(&intent.from).pop();
        let old_parent = self.paths.parent_of(&intent.from).await?;
        let new_parent = self.paths.parent_of(&intent.to).await?;
        if let (Some(dir), Some(name), false) = (&old_parent, old_name, gone.is_empty()) {
            before_entry_removed(&self.namespace, dir, &name).await?;
        }
        self.move_known(intent, moved).await?;
        self.store.enqueue(gone)?;
        self.store.delete_soon();
        if let Some(dir) = new_parent.as_ref().filter(|_| !gone.is_empty()) {
            entry_added(&self.namespace, dir).await;
        }
        for dir in old_parent.iter().chain(&new_parent) {
            dir.state().dir.forget_listing();
        }
        Ok(())
    }

    /// Gives the inode that is known by the old name, and what lies below it, the new
    /// place, in the journal too. A rename that comes again finds it done.
    async fn move_known(&self, intent: &RenameIntent, moved: &Moved) -> Result<(), FsError> {
        let Some(inode) = self.paths.known(&intent.from) else {
            return Ok(());
        };
        self.rebase_known(&inode, intent, moved);
        // The kernel may have seen both names in a listing of the directories above.
        self.namespace.invalidate(&inode);
        self.paths.place_at(&inode, &intent.to)?;
        self.rebase_known(&inode, intent, moved);
        self.namespace.invalidate(&inode);
        self.rebase.journal_seals_again(&inode).await;
        Ok(())
    }

    fn rebase_known(&self, inode: &Pin, intent: &RenameIntent, moved: &Moved) {
        let (from, to) = (intent.from.as_str(), intent.to.as_str());
        if intent.is_of_a_directory() {
            self.rebase.rebase_subtree(inode, from, to, moved);
        } else if let Some(version) = moved.get(&intent.from) {
            self.rebase.rebase_file(inode, intent.to.clone(), version);
        }
    }

    /// Deletes the copies of what is still under its old name.
    ///
    /// A file's copy stays: nobody can tell whether its name was free before. So does one in
    /// parts: its version does not tell whose it is.
    async fn roll_back(&self, intent: &RenameIntent) -> Result<(), FsError> {
        if !intent.is_of_a_directory() {
            return Ok(());
        }
        let (from, to) = (intent.from.as_str(), intent.to.as_str());
        let originals = self.copies.all_objects_under(from).await?;
        if !self.log.deletes_none_below(from).await {
            tracing::error!(%from, %to, "the copies of an unfinished rename stay: the next mount may delete the originals under the old name");
            return Ok(());
        }
        let copies = self.copies.copies(intent).await?;
        let copies = originals.iter().filter_map(|original| {
            let copy = copy_of(original, intent, &copies)?;
            Some((copy, is_same(copy, original)))
        });
        let (ours, unknown): (Vec<_>, Vec<_>) = copies.partition(|(_, is_same)| *is_same);
        if let Some((first, _)) = unknown.first() {
            let (key, count) = (&first.key, unknown.len());
            tracing::warn!(%key, count, "objects that may be copies of a rolled back rename stay: another client may have put them");
        }
        let ours: Vec<ListedObject> = ours.into_iter().map(|(copy, _)| copy.clone()).collect();
        self.store.enqueue(&pending_of(to, &ours))?;
        if let Some(dir) = self.paths.known(&intent.from) {
            let stay = originals.iter();
            let stay = stay.map(|it| {
                let same = MovedObject::by_predecessor(it.into());
                (it.key.clone(), same)
            });
            let stay: Moved = stay.collect();
            self.rebase.rebase_subtree(&dir, from, from, &stay);
            self.rebase.journal_seals_again(&dir).await;
        }
        Ok(())
    }
}

/// Whether an operator, or time, can mend it.
fn is_retryable(error: &FsError) -> bool {
    match error {
        FsError::Spool(_) | FsError::StoreQuota(_) | FsError::StoreFull(_) => true,
        FsError::Store(error) => {
            let is_elsewhere = [StoreErrorKind::WrongRegion, StoreErrorKind::NoSuchBucket];
            error.kind.is_no_answer() || is_elsewhere.contains(&error.kind)
        }
        error => error.is_transient(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{CopyHeaders, ETag};

    fn intent() -> RenameIntent {
        RenameIntent {
            from: Key::new("p/d/"),
            to: Key::new("p/e/"),
            version: None,
            headers: CopyHeaders::Same,
            over: WriteCondition::Always,
            copy: None,
            originals: None,
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
    fn a_copy_has_the_bytes_of_its_original_where_both_have_one_etag() {
        let there = [object("p/e/a", "1"), object("p/e/b", "other")];
        let copies = there.map(|copy| (copy.key.clone(), copy)).into();
        let found = |key: &str, etag: &str| {
            let original = object(key, etag);
            copy_of(&original, &intent(), &copies).map(|copy| is_same(copy, &original))
        };
        assert_eq!(found("p/d/a", "1"), Some(true));
        assert_eq!(found("p/d/b", "2"), Some(false), "other bytes");
        assert_eq!(found("p/d/c", "3"), None, "not there");
    }
}
