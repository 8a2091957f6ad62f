//! What is asked again after a daemon died: it may be done already, or still under way.

use std::sync::Arc;

use tokio::time::Instant;

use crate::error::FsError;
use crate::files::Durability;
use crate::journal::SealRecord;
use crate::store::{DeleteQueue, ETag, Key, LATE_LIMIT, StoreOp, WriteCondition};

/// What the predecessor may have sent, and S3 may do still.
#[derive(Debug)]
pub struct Predecessor {
    pub store: Arc<DeleteQueue>,
    pub durability: Durability,
    /// When this daemon began.
    pub began_at: Instant,
}

impl Predecessor {
    /// Returns once nothing that a predecessor sent can undo what this daemon does at these
    /// keys and below them. Others may belong to a server of the store that is silent.
    ///
    /// S3 may do what it has received after the end of who sent it. Where it heeds
    /// conditions, a late change finds another version, and nothing waits here.
    ///
    /// Errors: `TimedOut` where S3 does not answer.
    pub async fn wait_for_requests(&self, places: &[Key]) -> Result<(), FsError> {
        if self.store.late().changes().abilities().heeds_all() {
            return Ok(());
        }
        Ok(self.store.late().wait_for_predecessor(places, None).await?)
    }

    /// The same before a change of a name. Where the local disk is trusted, an outage does
    /// not hold it up: what it deletes waits in the journal, key by key.
    ///
    /// Errors: `TimedOut` where S3 does not answer and the change is to be in it.
    pub async fn wait_before_change(&self, places: &[Key]) -> Result<(), FsError> {
        if self.durability == Durability::S3 || self.store.late().changes().abilities().heeds_all()
        {
            return self.wait_for_requests(places).await;
        }
        let answer_by = self.began_at + LATE_LIMIT;
        let landed = self
            .store
            .late()
            .wait_for_predecessor(places, Some(answer_by))
            .await;
        match landed {
            Err(error) if error.kind.is_no_answer() => {
                tracing::info!(%error, "changed without waiting for requests of the predecessor");
                Ok(())
            }
            landed => Ok(landed?),
        }
    }

    /// A predecessor may have sent a delete of this object, and more than once.
    pub fn note_delete(&self, key: &Key, etag: Option<ETag>) {
        let condition = etag.map(WriteCondition::IfMatch);
        let late = self.store.late().changes();
        late.note(StoreOp::Delete, key, condition.unwrap_or_default());
    }

    /// A predecessor may have been uploading this stage.
    pub fn note_upload(&self, sealed: &SealRecord) {
        let condition = match (&sealed.condition, &sealed.known) {
            (WriteCondition::Always, WriteCondition::Always) => &WriteCondition::IfAbsent,
            (WriteCondition::Always, known) => known,
            (condition, _) => condition,
        };
        let late = self.store.late().changes();
        late.note(StoreOp::Put, &sealed.key, condition.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::journal::Journal;
    use crate::store::faulty::{Fault, Faulty};
    use crate::store::memory::Memory;
    use crate::store::{LateChanges, LeftByPredecessor, RecoveredWork, Retry, StoreHealth};

    #[tokio::test(start_paused = true)]
    async fn an_outage_holds_no_change_up_for_long_where_the_disk_is_trusted() {
        const PATIENCE: Duration = Duration::from_secs(30);
        for durability in [Durability::Disk, Durability::S3] {
            let dir = tempfile::tempdir().unwrap();
            let journal = Arc::new(Journal::open(&dir.path().join("journal")).unwrap());
            let faulty = Faulty::new(Arc::new(Memory::without_conditions()));
            for nth in 1..100 {
                faulty.plan(StoreOp::Head, nth, Fault::Stall);
            }
            let retry = Retry::new(Arc::new(faulty), PATIENCE, StoreHealth::default());
            let late = LateChanges::new(retry.unanswered().clone(), Arc::default());
            let left_unknown = LeftByPredecessor {
                may_lack_some: true,
                ..LeftByPredecessor::default()
            };
            late.recorded_by(journal.clone(), left_unknown);
            let left = RecoveredWork::default();
            let store = DeleteQueue::new(Arc::new(retry), journal, PATIENCE, left, late);
            let predecessor = Predecessor {
                store: Arc::new(store),
                durability,
                began_at: Instant::now(),
            };
            let is_disk = durability == Durability::Disk;
            let places = [Key::new("k")];
            for waits_at_most in [LATE_LIMIT, Duration::ZERO] {
                let began = Instant::now();
                let waited = predecessor.wait_before_change(&places).await;
                assert_eq!(waited.is_ok(), is_disk);
                let limit = waits_at_most + Duration::from_millis(10);
                assert_eq!(began.elapsed() <= limit, is_disk, "{:?}", began.elapsed());
            }
            predecessor.wait_for_requests(&places).await.unwrap_err();
        }
    }
}
