//! What is asked again after a daemon died: it may be done already, or still under way.

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use crate::journal::SealedStage;
use crate::store::{DeleteQueue, ETag, Key, LATE_LIMIT, StoreOp, WriteCondition};

/// What the predecessor may have sent, and S3 may do still.
#[derive(Debug)]
pub struct Predecessor {
    pub store: Arc<DeleteQueue>,
    /// When this daemon began.
    pub began_at: Instant,
}

impl Predecessor {
    /// Returns once nothing that a predecessor sent can undo what this daemon does.
    ///
    /// S3 may do what it has received after the end of who sent it. Where it heeds
    /// conditions, a late change finds another version, and nothing waits here.
    pub async fn wait_for_requests(&self) {
        if !self.store.late().abilities().heeds_all() {
            sleep_until(self.began_at + LATE_LIMIT).await;
        }
    }

    /// A predecessor may have sent a delete of this object, and more than once.
    pub fn note_delete(&self, key: &Key, etag: Option<ETag>) {
        let condition = etag.map(WriteCondition::IfMatch);
        let late = self.store.late();
        late.note(StoreOp::Delete, key, condition.unwrap_or_default());
    }

    /// A predecessor may have been uploading this stage.
    pub fn note_upload(&self, sealed: &SealedStage) {
        let condition = match (&sealed.condition, &sealed.known) {
            (WriteCondition::Always, WriteCondition::Always) => &WriteCondition::IfAbsent,
            (WriteCondition::Always, known) => known,
            (condition, _) => condition,
        };
        let late = self.store.late();
        late.note(StoreOp::Put, &sealed.key, condition.clone());
    }
}
