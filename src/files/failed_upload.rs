//! What becomes of a file whose upload has failed.

use super::file::OpenFile;
use super::layers::Sealed;
use crate::error::FsError;
use crate::write_path::{LostFile, LostReason};

impl OpenFile {
    /// What is sealed could not be uploaded: it is the staged content again, and the file has failed.
    pub fn revert_seal(&self, why: &FsError) {
        let mut content = self.edit();
        content.failed = Some(why.clone());
        content.changes.none_is_safe();
        while let Some(sealed) = content.base.sealed().cloned() {
            sealed.stage.file().set_upload(None);
            let merged = match content.stage.as_mut() {
                Some(later) => later.absorb(&sealed.stage),
                None => {
                    content.stage = Some(sealed.stage.clone());
                    Ok(())
                }
            };
            if let Err(error) = merged {
                tracing::error!(ino = self.inode.ino.0, %error, "sealed bytes stay in the spool");
                if sealed.stage.file().offloaded().has_any() {
                    // The next start could not upload it. It stays below what is over it.
                    self.move_to_lost_found(&sealed, why);
                }
                return;
            }
            let kept = content.stage.as_ref().map(|stage| stage.file().id());
            if kept != Some(sealed.stage.file().id()) {
                self.stage_factory.spool.discard(sealed.stage.file());
            }
            content.base = sealed.base.clone();
        }
        content.dirty = true;
    }

    fn move_to_lost_found(&self, sealed: &Sealed, why: &FsError) {
        let key = self.inode.key(&self.stage_factory.keys);
        let lost = LostFile {
            key: key.as_ref(),
            reason: LostReason::UploadFailed(why.clone()),
            written: None,
        };
        let file = sealed.stage.file();
        self.stage_factory.spool.move_to_lost_found(file, &lost);
    }
}
