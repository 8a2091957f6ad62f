//! Resumes what a predecessor had sealed and was sending.

use std::sync::Arc;

use super::queue::Writeback;
use crate::error::FsError;
use crate::files::OpenFile;
use crate::journal::SealedBase;
use crate::namespace::{Attributes, LocalState, Name, Pin, record_attributes};
use crate::vocabulary::{Kind, ObjectVersion, OpenMode, ROOT};
use crate::write_path::{LostFile, LostReason, RecoveredStage, Stage};

impl Writeback {
    /// Resumes what a predecessor was sending of sealed stages.
    pub fn take_over_uploads(&self, sealed: &[RecoveredStage]) {
        for found in sealed {
            self.predecessor.note_upload(&found.sealed);
            let sending = found.sending.clone();
            let upload = match found.file.offloaded().get() {
                Some(offloaded) => Some(self.uploader.take_over_offloaded(offloaded, sending)),
                None => sending.map(|sending| self.uploader.take_over(sending)),
            };
            found.file.upload_slot().set(upload);
        }
    }

    /// The same of stages that are still being written, where parts are there alone.
    pub fn take_over_early_uploads<'a>(&self, open: impl Iterator<Item = &'a Stage>) {
        for stage in open {
            if let Some(offloaded) = stage.file().offloaded().get() {
                stage.file().upload_slot().set_ahead_bytes(offloaded.end());
                let upload = self.uploader.take_over_offloaded(offloaded, None);
                stage.file().upload_slot().set(Some(upload));
            }
        }
    }

    /// Takes over what a predecessor had sealed: its files are there at
    /// once, with their bytes, and are uploaded in the background.
    pub fn recover(&self, recovered: Vec<RecoveredStage>) {
        for found in recovered {
            let key = found.sealed.key.clone();
            let stage = found.file.clone();
            let written = found.sealed.written.clone();
            let over_a_base = found.sealed.base != SealedBase::Empty;
            if let Err(error) = self.recover_one(found) {
                tracing::error!(%key, %error, "what the predecessor sealed has no valid path: left in the spool");
                let lost = LostFile {
                    key: Some(&key),
                    reason: LostReason::UploadFailed(error),
                    written: over_a_base.then_some(written.as_slice()),
                };
                self.stage_factory.spool.move_to_lost_found(&stage, &lost);
            }
        }
    }

    fn recover_one(&self, found: RecoveredStage) -> Result<(), FsError> {
        let sealed = &found.sealed;
        tracing::info!(key = %sealed.key, bytes = sealed.len, "uploading what the predecessor sealed");
        let path = self.stage_factory.keys.path_of(&sealed.key);
        let mut names = path.ok_or(FsError::IllegalName)?;
        let name = names.pop().ok_or(FsError::IllegalName)?;
        let dir = self.local_directories(&names)?;
        let inode = self.namespace.create_local(&dir, &name, Kind::File)?;
        let attributes = Arc::new(Attributes::decode(sealed.headers.clone()));
        record_attributes(&self.namespace, &inode, attributes.clone());
        if self.namespace.stores_attributes() {
            // What was set before the bytes were sealed is not known from the rest.
            let set = &mut inode.state().overrides;
            (set.mode, set.uid, set.gid) = (attributes.mode, attributes.uid, attributes.gid);
            (set.mtime, set.atime) = (attributes.mtime, attributes.atime);
            set.xattrs = Some(attributes.xattrs.clone());
        }
        if let SealedBase::Object(object) = &sealed.base {
            let mut state = inode.state();
            state.mtime_is_ours = true;
            state.remote = Some(ObjectVersion {
                etag: object.etag.clone(),
                size_bytes: object.size_bytes,
                last_modified: self.mounted_at,
            });
        }
        let file = self.files.open(inode, OpenMode::Read);
        file.recover(found);
        self.queue(&file);
        self.files.close(&file, OpenMode::Read);
        Ok(())
    }

    fn local_directories(&self, names: &[Name]) -> Result<Pin, FsError> {
        let table = self.namespace.table();
        let root = self.namespace.directory(ROOT)?;
        names.iter().try_fold(root, |parent, name| {
            let dir = table.child_or_new(parent.ino, name, Kind::Directory)?;
            dir.state().local = Some(LocalState::BareDirectory);
            Ok(dir)
        })
    }

    pub fn recover_into(&self, file: &Arc<OpenFile>, found: RecoveredStage) {
        if self.namespace.stores_attributes() {
            let attributes = Attributes::decode(found.sealed.headers.clone());
            let mut state = file.inode.state();
            state.attributes.get_or_insert(Arc::new(attributes));
        }
        file.recover(found);
        self.queue(file);
    }
}
