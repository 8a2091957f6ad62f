//! Removals: a whiteout on disk, then the delete of what the bucket has.

use std::io;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use super::core::{Core, of_old, refused};
use super::marks::{Marks, hash_of};
use super::old_directory::OldStat;
use super::versions::{Version, Versions};
use crate::failpoint::{self, Point};
use crate::record_log::Durable;
use crate::store::{
    DeletePending, DeleteRequest, ETag, HeadRequest, Key, LateObject, StoreError, StoreLog,
    StoreOp, UploadId,
};

/// Keys of one request that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

/// What the bucket has to be asked for one removal.
enum Removal {
    Above(DeleteRequest),
    /// The bucket has nothing of it.
    Done,
    Refused(StoreError),
}

/// Removes what both have.
#[derive(Debug)]
pub struct Removals {
    pub core: Arc<Core>,
    pub versions: Arc<Versions>,
}

impl Removals {
    pub async fn remove(&self, request: DeleteRequest) -> Result<(), StoreError> {
        let key = request.key.clone();
        let removal = self.removal(StoreOp::Delete, request).await?;
        self.sync_whiteouts(StoreOp::Delete, &key)?;
        match removal {
            Removal::Above(request) => self.core.parts.store.delete(request).await,
            Removal::Done => Ok(()),
            Removal::Refused(error) => Err(error),
        }
    }

    pub async fn remove_many(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> Result<Vec<(Key, StoreError)>, StoreError> {
        let Some(first) = requests.first().map(|request| request.key.clone()) else {
            return Ok(Vec::new());
        };
        let (above, mut failed) = self.left_above(requests).await;
        self.sync_whiteouts(StoreOp::DeleteMany, &first)?;
        if !above.is_empty() {
            failed.extend(self.core.parts.store.delete_many(above).await?);
        }
        Ok(failed)
    }

    /// What the bucket is to be asked once whiteouts are written, and what cannot be
    /// removed. The order stays: a directory that a store keeps goes when it is empty.
    pub async fn left_above(
        &self,
        requests: Vec<DeleteRequest>,
    ) -> (Vec<DeleteRequest>, Vec<(Key, StoreError)>) {
        let (mut above, mut failed) = (Vec::new(), Vec::new());
        let removals = stream::iter(requests).map(|request| async move {
            let key = request.key.clone();
            (key, self.removal(StoreOp::DeleteMany, request).await)
        });
        let mut removals = removals.buffered(LOOKS_AT_ONCE);
        while let Some((key, removal)) = removals.next().await {
            match removal {
                Ok(Removal::Above(request)) => above.push(request),
                Ok(Removal::Done) => {}
                Ok(Removal::Refused(error)) | Err(error) => failed.push((key, error)),
            }
        }
        (above, failed)
    }

    /// Hides what the old directory has under the key. It counts no more from now on, and
    /// outlives a power loss once the log is synced.
    async fn removal(&self, op: StoreOp, request: DeleteRequest) -> Result<Removal, StoreError> {
        let key = request.key.clone();
        let Some(path) = self.core.path(&key) else {
            return Ok(Removal::Above(request));
        };
        let hash = hash_of(path);
        let _turn = self.core.turn(path).await;
        let known = |marks: &Marks| (marks.may_count(hash), marks.twin(hash));
        let (may_count, twin) = self.core.marks.with(known);
        let is_late = twin.is_some_and(|twin| !twin.is_stored());
        if is_late && self.core.parts.late.has(&key) {
            let ask = || async {
                let request = HeadRequest { key: key.clone() };
                self.core.parts.store.head(request).await.map(drop)
            };
            self.core.parts.late.wait_for_late(&key, ask).await?;
        }
        let removal = match &request.if_match {
            None => Removal::Above(request.clone()),
            Some(etag) => match self.versions.version(&key, etag).await? {
                Version::Above(etag) => Removal::Above(DeleteRequest {
                    if_match: Some(etag),
                    ..request
                }),
                Version::Below(_) => Removal::Done,
                // It was hidden, and the bucket had nothing of it.
                Version::Gone if !may_count && self.is_gone(&key, etag).await? => Removal::Done,
                Version::Gone => Removal::Refused(refused(op, &key)),
            },
        };
        if may_count && !matches!(removal, Removal::Refused(_)) {
            let has_some = self.core.stat(&key, path).await?.is_some();
            let hidden = has_some
                .then(|| self.core.hide([path], Durable::No))
                .transpose();
            hidden.map_err(|error| of_old(op, &key, &error))?;
        }
        Ok(removal)
    }

    /// Whether an old version that is hidden has no object.
    async fn is_gone(&self, key: &Key, etag: &ETag) -> Result<bool, StoreError> {
        Ok(OldStat::is_etag(etag) && self.versions.head_above(key).await?.is_none())
    }

    fn sync_whiteouts(&self, op: StoreOp, key: &Key) -> Result<(), StoreError> {
        let synced = self.core.sync();
        failpoint::at(Point::WhiteoutWritten);
        synced.map_err(|error| of_old(op, key, &error))
    }
}

/// The journal of deletes that wait, which writes whiteouts beside it: a removal that is
/// carried out later is answered before.
#[derive(Debug)]
pub struct OverlayLog {
    journal: Arc<dyn StoreLog>,
    core: Arc<Core>,
}

impl OverlayLog {
    pub fn new(journal: Arc<dyn StoreLog>, core: Arc<Core>) -> Self {
        Self { journal, core }
    }

    /// The old file of a key does not count any more, even after a power loss.
    fn white_out(&self, key: &Key) -> io::Result<()> {
        let Some(path) = self.core.path(key) else {
            return Ok(());
        };
        let may_count = self.core.marks.with(|marks| marks.may_count(hash_of(path)));
        if may_count && self.core.old.stat(path)?.is_some() {
            self.core.hide([path], Durable::No)?;
        }
        Ok(())
    }
}

impl StoreLog for OverlayLog {
    fn delete_pending(&self, pending: &DeletePending) -> io::Result<()> {
        self.journal.delete_pending(pending)?;
        let whited_out = self.white_out(&pending.key);
        whited_out.inspect_err(|_| self.journal.settled(std::slice::from_ref(&pending.key)))
    }

    /// What was sent of an old file goes with it: it would be there again.
    fn sync_deletes(&self) -> io::Result<()> {
        self.core.sync()?;
        self.journal.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.journal.sync()
    }

    fn settled(&self, keys: &[Key]) {
        self.journal.settled(keys);
    }

    fn expect_late(&self, key: &Key, objects: &[LateObject]) -> io::Result<()> {
        self.journal.expect_late(key, objects)
    }

    fn forget_late(&self, key: &Key) {
        self.journal.forget_late(key);
    }

    fn keep_late(&self, key: &Key) -> io::Result<()> {
        self.journal.keep_late(key)
    }

    fn upload_begun(&self, key: Key, upload: UploadId) {
        self.journal.upload_begun(key, upload);
    }

    fn upload_ended(&self, key: Key, upload: UploadId) {
        self.journal.upload_ended(key, upload);
    }
}
