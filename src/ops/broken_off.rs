//! What a panic leaves of an upload.

use std::sync::Arc;

use super::Ops;
use super::content::Sealed;
use super::open_file::OpenFile;
use super::upload::Brought;
use crate::error::FsError;
use crate::task::caught;
use crate::write_path::{Earlier, StageId};

impl Ops {
    /// Uploads one sealed stage. To be called with the file's turn.
    pub(super) async fn publish(
        &self,
        file: &OpenFile,
        sealed: &Arc<Sealed>,
        earlier: Earlier,
    ) -> Result<Brought, FsError> {
        let stage = sealed.stage.file();
        let brought = caught("upload", self.send_and_publish(file, sealed, earlier)).await;
        if brought.is_err() && !file.has_sealed(stage.id()) {
            // The store has it, and nobody is to upload it once more later.
            self.desk.spool.discard(stage);
            return Ok(Brought::Stored);
        }
        brought?
    }
}

impl OpenFile {
    /// Whether a stage is still to be uploaded, as far as the file knows.
    fn has_sealed(&self, stage: StageId) -> bool {
        let sealed = self.sealed_stages();
        sealed
            .iter()
            .any(|sealed| sealed.stage.file().id() == stage)
    }
}
