//! Uploads that no system call waits for: `--durability=disk`, and what an
//! predecessor left sealed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc, watch};

use super::predecessor::Predecessor;
use super::publish::{Brought, Uploads};
use super::sealer::Sealer;
use crate::backoff::Backoff;
use crate::error::FsError;
use crate::files::{Durability, OpenFile, OpenFiles, StageFactory};
use crate::namespace::{Namespace, SubtreeGuard, SubtreeLocks};
use crate::task::kept_up;
use crate::write_path::Uploader;

/// Pauses between attempts, each of which has the store's own retries within.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Files of one request that are uploaded in the background at once.
const SHORT_AT_ONCE: usize = 8;
/// The same of files in parts, which share the parts that are sent at once.
const LONG_AT_ONCE: usize = 4;

/// Files with sealed stages that wait for their upload.
#[derive(Debug)]
pub struct UploadQueue {
    files: mpsc::UnboundedSender<Arc<OpenFile>>,
    waiting: watch::Sender<usize>,
    short: Semaphore,
    long: Semaphore,
    retry_now: Notify,
}

/// The other end of an `UploadQueue`.
pub type QueuedFiles = mpsc::UnboundedReceiver<Arc<OpenFile>>;

impl UploadQueue {
    pub fn new() -> (Self, QueuedFiles) {
        let (files, queued) = mpsc::unbounded_channel();
        let queue = Self {
            files,
            waiting: watch::Sender::new(0),
            short: Semaphore::new(SHORT_AT_ONCE),
            long: Semaphore::new(LONG_AT_ONCE),
            retry_now: Notify::new(),
        };
        (queue, queued)
    }

    fn add(&self, file: &Arc<OpenFile>) {
        self.waiting.send_modify(|waiting| *waiting += 1);
        if self.files.send(file.clone()).is_err() {
            tracing::warn!("the mount ends: the next one uploads what is sealed");
        }
    }
}

/// Makes safe what was written: in the store, or in the spool and later in the store.
#[derive(Debug)]
pub struct Writeback {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub stage_factory: Arc<StageFactory>,
    pub subtrees: Arc<SubtreeLocks>,
    pub predecessor: Arc<Predecessor>,
    pub sealer: Arc<Sealer>,
    pub uploads: Arc<Uploads>,
    pub uploader: Arc<Uploader>,
    pub durability: Durability,
    pub mounted_at: SystemTime,
    pub queue: UploadQueue,
}

impl Writeback {
    /// Uploads what is queued, as long as the run time lasts.
    pub async fn run(self: Arc<Self>, mut queued: QueuedFiles) {
        while let Some(file) = queued.recv().await {
            let writeback = self.clone();
            tokio::spawn(async move {
                kept_up("upload", || writeback.upload_until_settled(&file)).await;
                writeback.queue.waiting.send_modify(|waiting| *waiting -= 1);
            });
        }
    }

    /// Ends the pauses between attempts that there are now.
    pub fn retry_now(&self) {
        self.queue.retry_now.notify_waiters();
    }

    /// Files that wait for their upload.
    pub fn waiting(&self) -> usize {
        *self.queue.waiting.borrow()
    }

    /// Returns once nothing waits for its upload.
    pub async fn settled(&self) {
        let mut waiting = self.queue.waiting.subscribe();
        // The sender is in `self`.
        if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("no uploads to wait for");
        }
    }

    /// Seals what was written, so that it outlives daemon and machine, and has it uploaded.
    ///
    /// Errors: the spool's; that of an upload that failed for good.
    pub async fn seal_and_enqueue(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        self.sealer.seal(file).await?;
        // It is not safe here: S3 alone has parts of it, of an upload that is not done.
        if file.has_sealed_offloaded() {
            return self.uploads.upload(file).await;
        }
        self.queue(file);
        Ok(())
    }

    pub fn queue(&self, file: &Arc<OpenFile>) {
        if file.take_uploading() {
            self.queue.add(file);
        }
    }

    async fn upload_until_settled(&self, file: &Arc<OpenFile>) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        while let Some(outcome) = self.upload_next(file).await {
            match outcome {
                Ok(Brought::Stored) => backoff.reset(),
                Ok(Brought::Cancelled) => file.upload_lock.cancels_over().await,
                Err(error) if is_final(&error) => {
                    tracing::error!(ino = file.inode.ino.0, %error, "upload failed for good");
                    file.revert_seal(&error);
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(ino = file.inode.ino.0, %error, ?pause, "upload failed: trying again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = file.upload_lock.cancelled() => {}
                        () = self.queue.retry_now.notified() => {}
                    }
                }
            }
        }
        self.files.release_if_unused(file);
    }

    /// Uploads one sealed stage; none when nothing is sealed any more.
    async fn upload_next(&self, file: &Arc<OpenFile>) -> Option<Result<Brought, FsError>> {
        let first = file.sealed_stages().into_iter().next();
        let is_short = first.is_none_or(|first| self.uploader.sends_at_once(first.stage.len()));
        let UploadQueue { short, long, .. } = &self.queue;
        let slots = if is_short { short } else { long };
        let (_slot, _subtrees) = self.slot_and_subtrees(slots, file).await?;
        let _turn = file.upload_lock.lock().await;
        let seal_lock = file.seal_lock.lock().await;
        let (sealed, prior) = file.begin_next_upload()?;
        drop(seal_lock);
        Some(self.uploads.publish(file, &sealed, prior).await)
    }

    /// One of the slots, and no name of the file's path changes. Whoever waits for a
    /// directory that moves leaves the slot to others.
    async fn slot_and_subtrees<'a>(
        &self,
        slots: &'a Semaphore,
        file: &OpenFile,
    ) -> Option<(SemaphorePermit<'a>, SubtreeGuard)> {
        let ino = file.inode.ino;
        loop {
            let slot = slots.acquire().await.ok()?;
            if let Some(subtrees) = self.subtrees.try_share(ino) {
                return Some((slot, subtrees));
            }
            drop(slot);
            drop(self.subtrees.share([ino]).await);
        }
    }

    /// Makes what was written last as the mount's durability wants it.
    ///
    /// Errors: that of this upload, or of one that failed before; the spool's.
    pub async fn persist(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        match self.durability {
            Durability::S3 => self.uploads.upload(file).await,
            Durability::Disk => self.seal_and_enqueue(file).await,
        }
    }
}

/// Whether no later attempt can do better. An operator can mend the rest:
/// credentials, rights, the bucket, the network.
fn is_final(error: &FsError) -> bool {
    matches!(
        error,
        FsError::Stale(_)
            | FsError::Exists(_)
            | FsError::TooLarge(_)
            | FsError::NameTooLong
            | FsError::Corrupt(_)
            | FsError::PartsLost
            | FsError::Spool(_)
    )
}
