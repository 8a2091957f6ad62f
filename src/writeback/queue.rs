//! Uploads that no system call waits for: `--durability=disk`, and what a
//! predecessor left sealed.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::timeout;

use super::predecessor::Predecessor;
use super::publish::{Asker, PublishOutcome, Uploads};
use super::retry_queue::{Next, RetryQueue};
use super::sealer::Sealer;
use crate::backoff::Backoff;
use crate::error::FsError;
use crate::files::{Durability, OpenFile, OpenFiles, StageFactory, long_files};
use crate::namespace::{Namespace, SubtreeLocks};
use crate::store::log_failure;
use crate::task::{caught, kept_up};
use crate::write_path::Uploader;

/// Pauses between attempts, each of which has the store's own retries within.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Files of one request that are uploaded in the background at once.
const SHORT_AT_ONCE: usize = 8;
/// The same of files in parts, which share the parts that are sent at once.
const LONG_AT_ONCE: usize = 4;

/// Files with sealed stages that wait for their upload, each once.
#[derive(Debug)]
pub struct UploadQueue {
    short: RetryQueue<QueuedFile>,
    long: RetryQueue<QueuedFile>,
    /// Of those that are being uploaded, too.
    waiting: watch::Sender<usize>,
}

#[derive(Debug)]
struct QueuedFile {
    file: Arc<OpenFile>,
    backoff: Backoff,
}

impl QueuedFile {
    fn new(file: Arc<OpenFile>) -> Self {
        Self {
            file,
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LIMIT),
        }
    }
}

/// Whether what is uploaded next of a file is one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Short,
    Long,
}

/// What an attempt to upload a file came to.
enum Attempt {
    /// Nothing is sealed any more.
    Over,
    /// A directory above the file moves.
    Blocked,
    Ended(PublishOutcome),
}

impl UploadQueue {
    pub fn new() -> Self {
        Self {
            short: RetryQueue::new(),
            long: RetryQueue::new(),
            waiting: watch::Sender::new(0),
        }
    }

    fn of(&self, length: Length) -> &RetryQueue<QueuedFile> {
        match length {
            Length::Short => &self.short,
            Length::Long => &self.long,
        }
    }

    fn end_blocks(&self) {
        self.short.end_blocks();
        self.long.end_blocks();
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
    pub async fn run(self: Arc<Self>) {
        // Before a worker can be kept off a path.
        let mut releases = self.subtrees.releases();
        let lines = [(Length::Short, SHORT_AT_ONCE), (Length::Long, LONG_AT_ONCE)];
        for (length, workers) in lines {
            for _ in 0..workers {
                let this = self.clone();
                tokio::spawn(async move { kept_up("upload", || this.work(length)).await });
            }
        }
        while releases.changed().await.is_ok() {
            self.queue.end_blocks();
        }
    }

    async fn work(&self, length: Length) {
        let line = self.queue.of(length);
        loop {
            let turn = async |queued: &mut QueuedFile| self.take_turn(queued, length).await;
            line.give_turn("upload", turn).await;
        }
    }

    /// Ends the pauses between attempts that there are now.
    pub fn retry_now(&self) {
        self.queue.short.end_pauses();
        self.queue.long.end_pauses();
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
        if long_files::has_sealed_offloaded(file) {
            return self.uploads.upload(file).await;
        }
        self.queue(file);
        Ok(())
    }

    pub fn queue(&self, file: &Arc<OpenFile>) {
        if !file.take_uploading() {
            return;
        }
        self.queue.waiting.send_modify(|waiting| *waiting += 1);
        let queued = QueuedFile::new(file.clone());
        self.queue.of(self.length_of(file)).add(queued);
    }

    fn length_of(&self, file: &OpenFile) -> Length {
        let first = file.sealed_stages().into_iter().next();
        match first.is_none_or(|first| self.uploader.sends_at_once(first.stage.len())) {
            true => Length::Short,
            false => Length::Long,
        }
    }

    /// One attempt; the file waits for the next one unless nothing is left to upload.
    async fn take_turn(&self, queued: &mut QueuedFile, length: Length) -> Next {
        let file = queued.file.clone();
        let now = self.length_of(&file);
        if now != length {
            self.queue.of(now).add(QueuedFile::new(file));
            return Next::Over;
        }
        let attempt = caught("upload", self.upload_next(&file)).await;
        match attempt.map_err(FsError::from).flatten() {
            Ok(Attempt::Over) => {
                self.files.release_if_unused(&file);
                self.queue.waiting.send_modify(|waiting| *waiting -= 1);
                Next::Over
            }
            Ok(Attempt::Blocked) => Next::Blocked,
            Ok(Attempt::Ended(PublishOutcome::Stored)) => {
                queued.backoff.reset();
                // Mostly there is nothing more of it: it need not wait to be told so.
                match file.sealed_stages().is_empty() {
                    true => Next::First,
                    false => Next::Ready,
                }
            }
            Ok(Attempt::Ended(PublishOutcome::Cancelled)) => {
                let over = timeout(PAUSE_FIRST, file.upload_lock.cancels_over()).await;
                over.map_or(Next::Pause(PAUSE_FIRST), |()| Next::Ready)
            }
            Err(error) if is_final(&error) => {
                log_failure!(
                    error,
                    &error,
                    [ino = file.inode.ino.0,],
                    "upload failed for good"
                );
                file.revert_seal(&error);
                Next::Ready
            }
            Err(error) => {
                let pause = queued.backoff.next_pause();
                log_failure!(warn, &error, [ino = file.inode.ino.0, ?pause,], "upload failed: trying again");
                Next::Pause(pause)
            }
        }
    }

    /// Uploads one sealed stage, while no name of the file's path changes.
    async fn upload_next(&self, file: &Arc<OpenFile>) -> Result<Attempt, FsError> {
        let Some(_subtrees) = self.subtrees.try_share(file.inode.ino) else {
            return Ok(Attempt::Blocked);
        };
        let _turn = file.upload_lock.lock().await;
        let seal_lock = file.seal_lock.lock().await;
        let Some((sealed, prior)) = file.begin_next_upload() else {
            return Ok(Attempt::Over);
        };
        drop(seal_lock);
        let brought = self
            .uploads
            .publish(file, &sealed, prior, Asker::Queue)
            .await;
        brought.map(Attempt::Ended)
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
