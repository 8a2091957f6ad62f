//! What a panic, or a cancel, leaves of an upload.

use std::sync::Arc;

use super::publish::{Brought, Uploads};
use crate::error::FsError;
use crate::files::{OpenFile, Sealed};
use crate::store::LateObject;
use crate::task::caught;
use crate::write_path::PriorAttempt;

impl Uploads {
    /// Uploads one sealed stage. To be called with the file's turn.
    pub async fn publish(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
        prior: PriorAttempt,
    ) -> Result<Brought, FsError> {
        let stage = sealed.stage.file();
        let brought = caught("upload", self.send_and_publish(file, sealed, prior)).await;
        if brought.is_err() && !file.has_sealed(stage.id()) {
            // The store has it, and nobody is to upload it once more later.
            self.stage_factory.spool.discard(stage);
            return Ok(Brought::Stored);
        }
        brought?
    }

    /// What uploads of a file that were begun may make of its key, where nobody
    /// ends them.
    pub async fn late_object(&self, file: &OpenFile) -> Option<LateObject> {
        let sealed = file.sealed_stages();
        let sent = sealed.iter().find(|sealed| sealed.sent.is_maybe())?;
        self.object_of(sent).await
    }

    async fn object_of(&self, sealed: &Arc<Sealed>) -> Option<LateObject> {
        let stage = &sealed.stage;
        if let Some(version) = sealed.sent.as_version() {
            return Some(LateObject::of_parts(version));
        }
        // Parts that are not joined come to nothing.
        if !self.uploader.sends_at_once(stage.len()) || stage.depends_on_base() {
            return None;
        }
        match self.source(sealed).read(0..stage.len()).await {
            Ok(bytes) => Some(LateObject::of_bytes(&bytes)),
            Err(error) => {
                tracing::warn!(%error, "cannot tell which version a cancelled upload may create");
                None
            }
        }
    }
}
