//! What is asked again after a daemon died: it may be done already, or still under way.

use std::sync::Arc;

use crate::error::FsError;
use crate::journal::SealedStage;
use crate::store::{DeleteQueue, ETag, Key, StoreOp, WriteCondition};

/// What the predecessor may have sent, and S3 may do still.
#[derive(Debug)]
pub struct Predecessor {
    pub store: Arc<DeleteQueue>,
}

impl Predecessor {
    /// Returns once nothing that a predecessor sent can undo what this daemon does.
    ///
    /// S3 may do what it has received after the end of who sent it. Where it heeds
    /// conditions, a late change finds another version, and nothing waits here.
    ///
    /// Errors: `TimedOut` where S3 does not answer.
    pub async fn wait_for_requests(&self) -> Result<(), FsError> {
        if self.store.late().abilities().heeds_all() {
            return Ok(());
        }
        Ok(self.store.predecessor_landed().await?)
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
