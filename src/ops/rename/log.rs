//! Begin and end of a rename in the journal.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::FsError;
use crate::files::{Durability, KernelRequest, StageFactory};
use crate::journal::RenameIntent;
use crate::ops::resent::ExecutedRequests;
use crate::record_log::Durable;
use crate::store::{ETag, Key, ListedObject};

/// What came of a rename that a predecessor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    ExecutedRequests,
    /// Everything is as another client has made it meanwhile.
    GivenUp,
}

/// What the journal knows of renames.
#[derive(Debug)]
pub struct RenameLog {
    pub stage_factory: Arc<StageFactory>,
    pub durability: Durability,
    pub executed: Arc<ExecutedRequests>,
    /// Renames that a predecessor began, by old and new keys, and what came of them.
    pub finished: Mutex<Vec<(Key, Key, Finished)>>,
}

impl RenameLog {
    /// Notes a rename of what the store has before its first step.
    pub async fn begin_rename(&self, intent: RenameIntent) -> Result<(), FsError> {
        self.note(intent, self.durability.durable()).await
    }

    /// The copy of a file is made: a successor that does not learn of it has to guess, and
    /// finds it by itself only where it has the original's ETag.
    pub async fn note_copy(&self, intent: &RenameIntent, copy: ETag) {
        let durable = match intent.version.as_ref() == Some(&copy) {
            true => Durable::No,
            false => self.durability.durable(),
        };
        let intent = RenameIntent {
            copy: Some(copy),
            ..intent.clone()
        };
        if let Err(error) = self.note(intent, durable).await {
            tracing::debug!(%error, "the journal does not have the copy of a rename");
        }
    }

    async fn note(&self, intent: RenameIntent, durable: Durable) -> Result<(), FsError> {
        let stage_factory = self.stage_factory.clone();
        // A directory's has all its objects.
        if durable == Durable::No && !intent.is_of_a_directory() {
            return Ok(stage_factory.spool.begin_rename(intent, durable)?);
        }
        let noted =
            tokio::task::spawn_blocking(move || stage_factory.spool.begin_rename(intent, durable));
        Ok(noted.await.map_err(io::Error::other)??)
    }

    /// Whether a successor deletes none of these, even after a loss of power. No, where
    /// that is uncertain.
    pub async fn deletes_none_of(&self, objects: &[ListedObject]) -> bool {
        let spool = &self.stage_factory.spool;
        let keys = objects.iter().map(|object| &object.key);
        !spool.journal().has_pending_of(keys) && spool.sync().await.is_ok()
    }

    /// The same of everything below a prefix: what waits for its delete is in no listing.
    pub async fn deletes_none_below(&self, prefix: &str) -> bool {
        let spool = &self.stage_factory.spool;
        !spool.journal().has_pending_below(prefix) && spool.sync().await.is_ok()
    }

    pub fn note_finished(&self, from: &Key, to: &Key, finished: Finished) {
        let entry = (from.clone(), to.clone(), finished);
        self.finished.lock().push(entry);
    }

    /// What came of a predecessor's rename of a file or a directory. The kernel asks
    /// once: a later rename of the same names is another one.
    pub fn take_finished(&self, from: &Key, to: &Key) -> Option<Finished> {
        let of_directory = |key: &Key| format!("{key}/");
        let directories = (of_directory(from), of_directory(to));
        let is_it = |(old, new, _): &(Key, Key, Finished)| {
            let of_files = (old, new) == (from, to);
            of_files || (old.as_str(), new.as_str()) == (&directories.0, &directories.1)
        };
        let mut finished = self.finished.lock();
        let found = finished.iter().position(is_it);
        found.map(|at| finished.remove(at).2)
    }

    /// As `end_rename` where it is finished: of a request that comes again this is known before the
    /// journal has its end, or it would be taken for another one.
    pub async fn end_done<T, E>(
        &self,
        from: &Key,
        outcome: &Result<T, E>,
        request: Option<KernelRequest>,
    ) {
        if let Some(request) = request.filter(|_| outcome.is_ok()) {
            self.executed.record(request);
        }
        self.end_rename(from).await;
    }

    /// A rename is finished, or given up. In what a loss of power leaves of the
    /// journal it does not end before its deletes are known: else both names stay.
    pub async fn end_rename(&self, from: &Key) {
        if self.durability == Durability::Disk
            && let Err(error) = self.stage_factory.spool.sync().await
        {
            tracing::warn!(%error, "after a crash this rename is checked again");
            return;
        }
        if let Err(error) = self.stage_factory.spool.end_rename(from) {
            tracing::warn!(%error, "after a crash this rename is checked again");
        }
    }
}
