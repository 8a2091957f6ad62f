//! What a panic, or a cancel, leaves of an upload.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::publish::{Asker, PublishOutcome, Uploads};
use crate::error::FsError;
use crate::files::{OpenFile, SealedStage};
use crate::store::LateObject;
use crate::task::caught;
use crate::write_path::PriorAttempt;

/// How long a removal waits for the bytes of an upload that it cancels.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

impl Uploads {
    /// Uploads one sealed stage. To be called with the file's turn.
    pub async fn publish(
        &self,
        file: &OpenFile,
        sealed: &Arc<SealedStage>,
        prior: PriorAttempt,
        asker: Asker,
    ) -> Result<PublishOutcome, FsError> {
        let stage = sealed.stage.file();
        let brought = caught("upload", self.send_and_publish(file, sealed, prior, asker)).await;
        if brought.is_err() && !file.has_sealed(stage.id()) {
            // The store has it, and nobody is to upload it once more later.
            match file.sealed_stages().first() {
                Some(over) => over.stage.file().keep_below(stage.clone()),
                None => self.stage_factory.spool.discard(stage),
            }
            return Ok(PublishOutcome::Stored);
        }
        brought?
    }

    /// What uploads of a file that were begun may make of its key, where nobody
    /// ends them.
    pub async fn late_object(&self, file: &OpenFile) -> Option<LateObject> {
        let sealed = file.sealed_stages();
        let sent = sealed.iter().find(|sealed| sealed.sent.is_maybe_sent())?;
        self.object_of(sent).await
    }

    async fn object_of(&self, sealed: &Arc<SealedStage>) -> Option<LateObject> {
        let stage = &sealed.stage;
        if let Some(version) = sealed.sent.as_version() {
            return Some(LateObject::of_parts(version));
        }
        // Parts that are not joined come to nothing.
        if !self.uploader.sends_at_once(stage.len()) {
            return None;
        }
        // What it has of the object below was read to be sent, and is cached mostly.
        let source = self.source(sealed);
        match timeout(KNOWN_WITHIN, source.read(0..stage.len())).await {
            Ok(Ok(bytes)) => Some(LateObject::of_bytes(&bytes)),
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot tell which version a cancelled upload may create");
                None
            }
            Err(_) => {
                tracing::warn!("cannot tell in time which version a cancelled upload may create");
                None
            }
        }
    }
}
