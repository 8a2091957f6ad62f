//! Parts of files that are still being written go to the store in the background.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::publish::Uploads;
use super::retry_queue::RetryQueue;
use crate::error::FsError;
use crate::files::{OpenFile, long_files};
use crate::namespace::Namespace;
use crate::task::{caught, kept_up};
use crate::vocabulary::Ino;
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
    pub sending: Mutex<Sending>,
}

/// How many workers each file has.
#[derive(Debug, Default)]
pub struct Sending {
    of_files: HashMap<Ino, usize>,
    all: usize,
}

/// A worker's time for a part of a file.
#[derive(Debug)]
struct Turn<'a> {
    parts: &'a EarlyParts,
    ino: Ino,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.parts.sending.lock().end(self.ino);
        self.parts.queue.end_blocks();
    }
}

impl Sending {
    /// A file has its first worker, or one more while others are left as many as half of
    /// what it has then: requests that hang do not keep all of them.
    fn begin(&mut self, ino: Ino, workers: usize) -> bool {
        let mine = self.of_files.get(&ino).copied().unwrap_or(0) + 1;
        let left = workers.saturating_sub(self.all + 1);
        let fits = mine == 1 || mine <= 2 * left;
        if fits {
            self.of_files.insert(ino, mine);
            self.all += 1;
        }
        fits
    }

    fn end(&mut self, ino: Ino) {
        if let Some(mine) = self.of_files.get_mut(&ino) {
            *mine -= 1;
            self.all -= 1;
            if *mine == 0 {
                self.of_files.remove(&ino);
            }
        }
    }
}

impl EarlyParts {
    /// To be called after a write: has the parts sent that are full now.
    ///
    /// Stored attributes are fixed when an upload begins, and a write changes
    /// them: those files are sent at close.
    pub fn queue_full_parts(&self, file: &Arc<OpenFile>) {
        let is_sent = !self.namespace.stores_attributes();
        if is_sent
            && long_files::has_ahead(file, self.uploader.parts().part_size())
            && file.queue_parts()
        {
            self.queue.add(file.clone());
        }
    }

    /// Sends full parts of the files that are queued, as long as the run time lasts.
    pub async fn send_full_parts(self: Arc<Self>) {
        // Each has one part in memory, at the most.
        for _ in 0..self.uploader.parts().concurrency() {
            let this = self.clone();
            tokio::spawn(async move { kept_up("send parts", || this.work()).await });
        }
    }

    async fn work(&self) {
        loop {
            let file = self.queue.next().await;
            let Some(turn) = self.begin_turn(&file) else {
                continue;
            };
            // A write from now on queues the file again.
            file.unqueue_parts();
            let Some(part) = long_files::next_ahead(&file, self.uploader.parts().part_size())
            else {
                continue;
            };
            // Its next part is another worker's, behind those of other files.
            self.queue_full_parts(&file);
            let sent = caught("send a part", self.send(&file, part)).await;
            if let Err(error) = sent.map_err(FsError::from).flatten() {
                tracing::debug!(ino = file.inode.ino.0, %error, "not sent before close");
            }
            drop(turn);
        }
    }

    /// None of a file that has its share of the workers: it waits until one is free again.
    fn begin_turn(&self, file: &Arc<OpenFile>) -> Option<Turn<'_>> {
        let ino = file.inode.ino;
        // Held until it is blocked: what frees a worker then ends that.
        let mut sending = self.sending.lock();
        if !sending.begin(ino, self.uploader.parts().concurrency()) {
            self.queue.block(file.clone());
            return None;
        }
        Some(Turn { parts: self, ino })
    }

    async fn send(&self, file: &Arc<OpenFile>, part: FullPart) -> Result<(), FsError> {
        if let Some(target) = self.uploads.target_ahead(file).await? {
            self.uploader.parts().upload_early(&target, part).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_leaves_workers_to_others_and_each_has_one() {
        const WORKERS: usize = 8;
        let mut sending = Sending::default();
        let taken = [1, 2, 3].map(|ino| {
            let begins = std::iter::from_fn(|| sending.begin(Ino(ino), WORKERS).then_some(()));
            begins.count()
        });
        assert_eq!(taken, [5, 2, 1]);
        sending.end(Ino(1));
        assert!(sending.begin(Ino(4), WORKERS) && !sending.begin(Ino(1), WORKERS));
        for (ino, times) in [(1, 4), (2, 2), (3, 1), (4, 1)] {
            (0..times).for_each(|_| sending.end(Ino(ino)));
        }
        assert!(sending.of_files.is_empty() && sending.all == 0);
        assert!(Sending::default().begin(Ino(1), 1));
    }
}
