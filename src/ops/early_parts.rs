//! Parts of files that are still being written go to the store in the background.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Ops;
use super::content::LowerLayer;
use super::open_file::OpenFile;
use crate::error::FsError;
use crate::store::WriteCondition;
use crate::task::caught;
use crate::write_path::{Earlier, FullPart, PartSize, RecoveredStage, Stage, UploadTarget};

/// Parts to be sent. As many as the spool has bytes for.
pub(super) type AheadQueue = mpsc::UnboundedSender<(Arc<OpenFile>, FullPart)>;

impl OpenFile {
    fn next_ahead(&self, part_size: PartSize) -> Option<FullPart> {
        let content = self.content.lock();
        let stage = content.stage.as_ref();
        let stage = stage.filter(|_| !content.orphan && content.failed.is_none());
        stage.and_then(|stage: &Stage| stage.next_ahead(part_size))
    }
}

impl Ops {
    /// To be called after a write: has the parts sent that are full now.
    ///
    /// Stored attributes are fixed when an upload begins, and a write changes
    /// them: those files are sent at close.
    pub(super) fn queue_full_parts(&self, file: &Arc<OpenFile>) {
        if self.namespace.stores_attributes() {
            return;
        }
        while let Some(part) = file.next_ahead(self.uploader.part_size()) {
            if self.ahead.send((file.clone(), part)).is_err() {
                tracing::debug!("the mount ends: close sends what is written");
            }
        }
    }

    /// Sends the parts that are queued, as long as the run time lasts.
    pub(super) async fn send_full_parts(
        self: Arc<Self>,
        mut queued: mpsc::UnboundedReceiver<(Arc<OpenFile>, FullPart)>,
    ) {
        while let Some((file, part)) = queued.recv().await {
            let ops = self.clone();
            tokio::spawn(async move {
                let send = async {
                    if let Some(target) = ops.target_ahead(&file).await? {
                        ops.uploader.upload_early(&target, part).await;
                    }
                    Ok::<(), FsError>(())
                };
                let sent = caught("send a part", send).await;
                if let Err(error) = sent.map_err(FsError::from).flatten() {
                    tracing::debug!(ino = file.inode.ino.0, %error, "not sent before close");
                }
            });
        }
    }

    /// Goes on with what a predecessor was sending of sealed stages.
    pub(super) fn take_over_uploads(&self, sealed: &[RecoveredStage]) {
        for found in sealed {
            self.note_predecessors_upload(&found.sealed);
            let sending = found.sending.clone();
            let upload = match found.file.as_offloaded() {
                Some(offloaded) => Some(self.uploader.take_over_offloaded(offloaded, sending)),
                None => sending.map(|sending| self.uploader.take_over(sending)),
            };
            found.file.set_upload(upload);
        }
    }

    /// The same of stages that are still being written, where parts are there alone.
    pub(super) fn take_over_early_uploads<'a>(&self, open: impl Iterator<Item = &'a Stage>) {
        for stage in open {
            if let Some(offloaded) = stage.file().as_offloaded() {
                stage.file().set_ahead_bytes(offloaded.end());
                let upload = self.uploader.take_over_offloaded(offloaded, None);
                stage.file().set_upload(Some(upload));
            }
        }
    }

    /// None for a file that has no name any more.
    pub(super) async fn target_ahead(
        &self,
        file: &OpenFile,
    ) -> Result<Option<UploadTarget>, FsError> {
        let Some((parent, name)) = self.namespace.table().place(file.inode.ino) else {
            return Ok(None);
        };
        let base = file.content.lock().base.clone();
        let kept = self.kept_headers(&base).await?;
        Ok(Some(UploadTarget {
            key: self.namespace.child_key(parent, &name)?,
            headers: self.upload_headers(file, &name, &LowerLayer::Empty, kept)?,
            condition: WriteCondition::Always,
            known: WriteCondition::Always,
            len: file.len(),
            earlier: Earlier::None,
        }))
    }
}
