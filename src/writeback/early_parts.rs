//! Parts of files that are still being written go to the store in the background.

use std::sync::Arc;

use super::publish::Uploads;
use super::retry_queue::RetryQueue;
use crate::error::FsError;
use crate::files::OpenFile;
use crate::namespace::Namespace;
use crate::task::{caught, kept_up};
use crate::write_path::{FullPart, Uploader};

/// Parts of files that are being written, which go to the store before close.
#[derive(Debug)]
pub struct EarlyParts {
    pub namespace: Arc<Namespace>,
    pub uploads: Arc<Uploads>,
    pub uploader: Arc<Uploader>,
    /// Files that may have full parts, each once. Which ones is looked up when there is
    /// somebody to send one.
    pub queue: RetryQueue<Arc<OpenFile>>,
}

impl EarlyParts {
    /// To be called after a write: has the parts sent that are full now.
    ///
    /// Stored attributes are fixed when an upload begins, and a write changes
    /// them: those files are sent at close.
    pub fn queue_full_parts(&self, file: &Arc<OpenFile>) {
        let is_sent = !self.namespace.stores_attributes();
        if is_sent && file.has_ahead(self.uploader.part_size()) && file.queue_parts() {
            self.queue.add(file.clone());
        }
    }

    /// Sends full parts of the files that are queued, as long as the run time lasts.
    pub async fn send_full_parts(self: Arc<Self>) {
        // Each has one part in memory, at the most.
        for _ in 0..self.uploader.concurrency() {
            let this = self.clone();
            tokio::spawn(async move { kept_up("send parts", || this.work()).await });
        }
    }

    async fn work(&self) {
        loop {
            let file = self.queue.next().await;
            // A write from now on queues the file again.
            file.unqueue_parts();
            let Some(part) = file.next_ahead(self.uploader.part_size()) else {
                continue;
            };
            // Its next part is another worker's, behind those of other files.
            self.queue_full_parts(&file);
            let sent = caught("send a part", self.send(&file, part)).await;
            if let Err(error) = sent.map_err(FsError::from).flatten() {
                tracing::debug!(ino = file.inode.ino.0, %error, "not sent before close");
            }
        }
    }

    async fn send(&self, file: &Arc<OpenFile>, part: FullPart) -> Result<(), FsError> {
        if let Some(target) = self.uploads.target_ahead(file).await? {
            self.uploader.upload_early(&target, part).await;
        }
        Ok(())
    }
}
