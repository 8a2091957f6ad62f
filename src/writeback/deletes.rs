//! Deleting the object of a name that goes: at once, or in bulk when many go.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::time::{Duration, Instant, timeout};

use crate::error::FsError;
use crate::files::{Durability, OpenFile, fetch};
use crate::namespace::{Namespace, Pin, entry_added};
use crate::read_path::Reader;
use crate::store::{
    DeletePending, DeleteQueue, DeleteRequest, HeadRequest, Kept, Key, LateObject, ObjectMeta,
    ObjectStore, StoreError, StoreErrorKind,
};
use crate::task::caught;
use crate::write_path::{Copier, Scratch};

/// After this many removals in a row nobody waits for them any more.
const BURST_FROM: u32 = 16;
/// A longer pause between two removals ends the row. Files that are replaced one after
/// the other, by tmp and rename, are such a row: an upload and a copy fit in.
const PAUSE_LIMIT: Duration = Duration::from_millis(250);
/// Attempts to delete what other clients replaced before.
const DELETE_TRIES: u32 = 4;

/// After this time the bytes of a file that is read and has no name are copied into
/// the spool, so that its object goes.
const KEPT_UNTIL_COPIED: Duration = Duration::from_secs(30);
const COPIED_WITHIN: Duration = Duration::from_secs(10);
/// Longest time for which an object is kept whose bytes have no room in the spool.
const KEPT_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// Up to this many bytes are copied into the spool at once, so that the object goes.
pub(super) const COPIED_AT_ONCE_BYTES: u64 = 1 << 20;
/// Time for a look at what is deleted again, where the local disk is trusted.
const LOOKED_WITHIN: Duration = Duration::from_secs(1);
/// Time for the end of a close(2) that has returned.
const CLOSED_WITHIN: Duration = Duration::from_millis(50);

/// How many names went in a row, however long each took.
#[derive(Debug, Default)]
pub struct Removals(Mutex<Row>);

#[derive(Debug, Default)]
struct Row {
    removals: u32,
    last_ended: Option<Instant>,
}

impl Removals {
    /// Counts one, and tells whether it is one of many.
    fn begin(&self) -> bool {
        let mut row = self.0.lock();
        let goes_on = row
            .last_ended
            .is_some_and(|ended| ended.elapsed() < PAUSE_LIMIT);
        row.removals = if goes_on {
            row.removals.saturating_add(1)
        } else {
            1
        };
        row.removals > BURST_FROM
    }

    /// None of the names that went before tells of the next one.
    fn refused(&self) {
        self.0.lock().removals = 0;
    }

    fn end(&self) {
        self.0.lock().last_ended = Some(Instant::now());
    }
}

/// What came of deleting the object of a name that goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Gone,
    /// Another client has put a new object meanwhile, which is left alone.
    NewerStays,
}

/// Whether handles show bytes of the file's object.
pub async fn is_read(file: &OpenFile) -> bool {
    let unused = file.unused.notified();
    let is_read = || file.has_handles() && file.shows_object();
    is_read() && (timeout(CLOSED_WITHIN, unused).await.is_err() && is_read())
}

/// Deletes objects whose names go.
#[derive(Debug)]
pub struct Deletes {
    pub namespace: Arc<Namespace>,
    pub store: Arc<DeleteQueue>,
    pub reader: Arc<Reader>,
    pub copier: Arc<Copier>,
    pub scratch: Scratch,
    pub durability: Durability,
    pub row: Removals,
}

impl Deletes {
    /// Whether the object of a file that is removed is to be kept for its readers.
    pub async fn is_kept_for_readers(&self, file: &OpenFile) -> bool {
        if !is_read(file).await {
            return false;
        }
        file.len() > COPIED_AT_ONCE_BYTES || !self.copy_what_fits(file, COPIED_WITHIN).await
    }

    /// Has the object of a name that goes deleted once nobody reads it any more,
    /// without its bytes coming here first. Errors: the spool's.
    pub fn delete_once_unused(
        self: &Arc<Self>,
        file: &Arc<OpenFile>,
        pending: DeletePending,
    ) -> Result<(), FsError> {
        let kept = self.store.delete_once_unused(pending)?;
        self.keep_object(file, kept);
        Ok(())
    }

    /// The same for files whose object a predecessor kept for their readers.
    pub fn keep_on_for_readers(self: &Arc<Self>, file: &Arc<OpenFile>) {
        let Some(object) = file.read_object() else {
            return;
        };
        // None of a name: that one is written and deleted by its name.
        let own = self.namespace.file_key(file.inode.ino);
        if own.is_ok_and(|own| own == object.key) {
            return;
        }
        if let Some(kept) = self.store.keep_on(&object.key, &object.etag) {
            self.keep_object(file, kept);
        }
    }

    /// A task for each file that is open and has no name. At the end of the mount the
    /// object goes at once.
    pub(super) fn keep_object(self: &Arc<Self>, file: &Arc<OpenFile>, kept: Kept) {
        let (deletes, file) = (self.clone(), file.clone());
        tokio::spawn(async move {
            let read = caught("keep an object", deletes.keep_while_read(&file, &kept));
            // The log has it, if it broke off.
            let (Ok(()) | Err(_)) = read.await;
            drop(kept);
        });
    }

    /// Returns once nobody needs the object any more: the file is closed, or has
    /// its bytes in the spool. Where neither comes to be, others come first at some time.
    async fn keep_while_read(&self, file: &OpenFile, kept: &Kept) {
        let until = Instant::now() + KEPT_AT_MOST;
        loop {
            let unused = file.unused.notified();
            if !file.has_handles() {
                return;
            }
            let is_wanted = tokio::select! {
                () = unused => return,
                () = kept.wanted() => true,
                () = tokio::time::sleep(KEPT_UNTIL_COPIED) => false,
            };
            let copied = self.copy_what_fits(file, COPIED_WITHIN).await;
            if copied || is_wanted || Instant::now() > until {
                return;
            }
        }
    }

    /// Copies what handles still show of an object that goes into the spool. False
    /// where it does not fit, or takes too long: what is missing is ESTALE then.
    pub async fn copy_what_fits(&self, file: &OpenFile, within: Duration) -> bool {
        let ino = file.inode.ino.0;
        match timeout(within, self.copy_up(file)).await {
            // Or nothing is there any more that could be copied.
            Ok(Ok(()) | Err(FsError::Stale(_))) => true,
            Ok(Err(error)) => {
                tracing::warn!(ino, %error, "cannot copy a removed file for its readers");
                false
            }
            Err(_) => {
                tracing::warn!(ino, "cannot copy a removed file for its readers in time");
                false
            }
        }
    }

    /// Deletes an object whose name goes, and what an upload makes of the key that
    /// nobody waits for any more.
    ///
    /// Where a name is removed, a version that was there before is meant too: what is
    /// known may be as old as the ttl. Of what was moved only the copied version is.
    /// What is there beside these is another client's, and stays.
    /// One of many removals, and each one where the local disk is trusted, is noted in
    /// the journal and done soon after; whether something newer stays is then told in
    /// the log. After a refusal each one waits.
    /// Errors: the store's, the spool's.
    pub async fn delete_object(
        &self,
        pending: DeletePending,
        late: Option<LateObject>,
    ) -> Result<Removed, FsError> {
        let made = || self.store.take_made(&pending.key);
        let pending = DeletePending {
            etag: pending.etag.clone().or_else(made),
            ..pending
        };
        let watch = |late: Option<LateObject>| match late {
            Some(late) => self.store.late().watch_for(pending.key.clone(), late),
            None => self.store.late().resume_watch(&pending.key),
        };
        let burst = self.row.begin() && !self.store.is_failing();
        let on_disk = self.durability == Durability::Disk;
        let later = || {
            // Who deletes looks for it. Where the journal has no room, the name stays, and
            // the next upload of the file ends this.
            watch(late.clone());
            let later = self.store.delete_later(pending.clone());
            later.map(|()| Removed::Gone).map_err(FsError::from)
        };
        let outcome = if (burst || on_disk) && !self.store.is_refusing() {
            later()
        } else {
            match self.delete_version(&pending, late.as_ref()).await {
                Err(error) if on_disk && error.is_no_answer() => later(),
                Err(error) => {
                    if !error.is_no_answer() {
                        self.row.refused();
                        self.store.note_refusal();
                    }
                    Err(error)
                }
                removed => {
                    watch(late.clone());
                    removed
                }
            }
        };
        self.row.end();
        outcome
    }

    /// Shows what the store has refused to delete, as long as the run time lasts.
    pub async fn show_refused(&self) {
        loop {
            for key in self.store.refused().await {
                if let Some(path) = self.namespace.keys().path_of(&key) {
                    self.namespace.reappeared(&path);
                }
            }
        }
    }

    /// What is under a key now.
    pub async fn object_at(&self, key: &Key) -> Result<Option<ObjectMeta>, FsError> {
        match self.store.head(HeadRequest { key: key.clone() }).await {
            Ok(meta) => Ok(Some(meta)),
            Err(StoreError {
                kind: StoreErrorKind::NotFound,
                ..
            }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a predecessor may have deleted already: a version with the same bytes that has
    /// come since is another client's. What this daemon has made meanwhile is what the
    /// predecessor had not uploaded.
    pub async fn rest_of(&self, pending: DeletePending) -> Result<DeletePending, FsError> {
        if let Some(made) = self.store.take_made(&pending.key) {
            let etag = Some(made);
            return Ok(DeletePending { etag, ..pending });
        }
        let Some(removed_at) = pending.removed_at else {
            return Ok(pending);
        };
        let look = self.object_at(&pending.key);
        let look = match self.durability {
            // Then the journal decides: an outage holds nothing up.
            Durability::Disk => timeout(LOOKED_WITHIN, look).await,
            Durability::S3 => Ok(look.await),
        };
        let there = match look {
            Err(_) => return Ok(pending),
            Ok(Err(error)) if error.is_no_answer() => return Ok(pending),
            Ok(there) => there?,
        };
        let is_newer = there.is_some_and(|there| there.is_newer_than(removed_at));
        Ok(DeletePending {
            etag: pending.etag.filter(|_| !is_newer),
            ..pending
        })
    }

    /// Whether another client has made a directory since then.
    pub async fn was_made_since(&self, dir: &Pin, time: SystemTime) -> Result<bool, FsError> {
        let path = self.namespace.table().dir_path(dir.ino)?;
        let marker = self.namespace.keys().marker_key(&path)?;
        let there = self.object_at(&marker).await?;
        Ok(there.is_some_and(|marker| marker.is_newer_than(time)))
    }

    /// A name of the directory has gone, and has another client's object again.
    pub async fn shows_again(&self, dir: &Pin) {
        dir.state().dir.forget_listing();
        entry_added(&self.namespace, dir).await;
    }

    async fn delete_version(
        &self,
        pending: &DeletePending,
        late: Option<&LateObject>,
    ) -> Result<Removed, FsError> {
        let DeletePending { key, etag, .. } = pending;
        let mut known = etag.clone();
        for _ in 0..DELETE_TRIES {
            if let Some(etag) = known.take() {
                let request = DeleteRequest {
                    key: key.clone(),
                    if_match: Some(etag),
                };
                match self.store.delete(request).await {
                    Ok(()) => return Ok(Removed::Gone),
                    Err(error) if error.kind == StoreErrorKind::PreconditionFailed => {}
                    Err(error) => return Err(error.into()),
                }
            }
            match self.object_at(key).await? {
                None => return Ok(Removed::Gone),
                Some(there) if self.is_meant(pending, late, &there).await? => {
                    known = Some(there.etag);
                }
                Some(_) => break,
            }
        }
        tracing::warn!(%key, "not deleted: another client has put a new object");
        Ok(Removed::NewerStays)
    }

    /// Whether an object that is there goes with the name. Errors: why that is not known.
    async fn is_meant(
        &self,
        pending: &DeletePending,
        late: Option<&LateObject>,
        there: &ObjectMeta,
    ) -> Result<bool, StoreError> {
        let DeletePending {
            key, removed_at, ..
        } = pending;
        if removed_at.is_some_and(|removed| there.is_older_than(removed)) {
            return Ok(true);
        }
        if let Some(late) = late
            && self.store.late().is_same(key, there, late).await
        {
            return Ok(true);
        }
        self.store.late().was_awaited(key, there).await
    }

    /// Copies into the stage what open handles still show of an object that is about to go.
    pub async fn copy_up(&self, file: &OpenFile) -> Result<(), FsError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_removals_in_a_row_are_a_burst_however_slow_each_is() {
        let removals = Removals::default();
        let remove = async |pause_ms, takes_ms| {
            tokio::time::advance(Duration::from_millis(pause_ms)).await;
            let burst = removals.begin();
            tokio::time::advance(Duration::from_millis(takes_ms)).await;
            removals.end();
            burst
        };
        for _ in 0..100 {
            assert!(!remove(300, 5).await, "now and then");
        }
        for _ in 0..BURST_FROM - 1 {
            assert!(!remove(1, 300).await, "not yet");
        }
        assert!(remove(1, 300).await);
        assert!(!remove(300, 5).await, "after a pause");
    }
}
