//! Parts of files that are still being written go to the store in the background.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::publish::Uploads;
use crate::error::FsError;
use crate::files::OpenFile;
use crate::namespace::Namespace;
use crate::task::caught;
use crate::write_path::{FullPart, Uploader};

/// Parts to be sent. As many as the spool has bytes for.
pub type PartQueue = mpsc::UnboundedSender<(Arc<OpenFile>, FullPart)>;

pub type QueuedParts = mpsc::UnboundedReceiver<(Arc<OpenFile>, FullPart)>;

/// Parts of files that are being written, which go to the store before close.
#[derive(Debug)]
pub struct EarlyParts {
    pub namespace: Arc<Namespace>,
    pub uploads: Arc<Uploads>,
    pub uploader: Arc<Uploader>,
    pub queue: PartQueue,
}

impl EarlyParts {
    /// To be called after a write: has the parts sent that are full now.
    ///
    /// Stored attributes are fixed when an upload begins, and a write changes
    /// them: those files are sent at close.
    pub fn queue_full_parts(&self, file: &Arc<OpenFile>) {
        if self.namespace.stores_attributes() {
            return;
        }
        while let Some(part) = file.next_ahead(self.uploader.part_size()) {
            if self.queue.send((file.clone(), part)).is_err() {
                tracing::debug!("the mount ends: close sends what is written");
            }
        }
    }

    /// Sends the parts that are queued, as long as the run time lasts.
    pub async fn send_full_parts(self: Arc<Self>, mut queued: QueuedParts) {
        while let Some((file, part)) = queued.recv().await {
            let this = self.clone();
            tokio::spawn(async move {
                let send = async {
                    if let Some(target) = this.uploads.target_ahead(&file).await? {
                        this.uploader.upload_early(&target, part).await;
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
}
