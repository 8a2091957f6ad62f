//! Uploads that no system call waits for: `--durability=disk`, and what an
//! earlier daemon left sealed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};

use super::Ops;
use super::open_file::OpenFile;
use super::removal::KeptObjects;
use super::subtree_locks::SubtreeGuard;
use super::upload::Brought;
use crate::backoff::Backoff;
use crate::error::FsError;
use crate::namespace::{Attributes, LocalState, Name, Pin};
use crate::task::kept_up;
use crate::vocabulary::{Kind, ObjectVersion, OpenMode, ROOT};
use crate::write_path::{FullPart, LostFile, LostReason, RecoveredStage, SealedBase};

/// Pauses between attempts, each of which has the store's own retries within.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_LIMIT: Duration = Duration::from_secs(30);
/// Files of one request that are uploaded in the background at once.
const SHORT_AT_ONCE: usize = 8;
/// The same of files in parts, which share the parts that are sent at once.
const LONG_AT_ONCE: usize = 4;

/// Files with sealed stages that wait for their upload.
#[derive(Debug)]
pub(super) struct UploadQueue {
    queue: mpsc::UnboundedSender<Arc<OpenFile>>,
    waiting: watch::Sender<usize>,
    short: Semaphore,
    long: Semaphore,
}

/// The end of the queue that `Ops::upload_in_background` takes from.
#[derive(Debug)]
pub struct QueueReceivers {
    files: mpsc::UnboundedReceiver<Arc<OpenFile>>,
    parts: mpsc::UnboundedReceiver<(Arc<OpenFile>, FullPart)>,
    kept: KeptObjects,
}

impl UploadQueue {
    pub fn new(
        parts: mpsc::UnboundedReceiver<(Arc<OpenFile>, FullPart)>,
        kept: KeptObjects,
    ) -> (Self, QueueReceivers) {
        let (queue, files) = mpsc::unbounded_channel();
        let backlog = Self {
            queue,
            waiting: watch::Sender::new(0),
            short: Semaphore::new(SHORT_AT_ONCE),
            long: Semaphore::new(LONG_AT_ONCE),
        };
        (backlog, QueueReceivers { files, parts, kept })
    }

    pub fn waiting(&self) -> usize {
        *self.waiting.borrow()
    }
}

impl Ops {
    /// Uploads what is queued, as long as the run time lasts.
    pub async fn upload_in_background(self: Arc<Self>, queued: QueueReceivers) {
        let ops = self.clone();
        let abort =
            async move { kept_up("abort uploads", || ops.uploader.abort_abandoned()).await };
        tokio::spawn(abort);
        tokio::spawn(self.clone().send_full_parts(queued.parts));
        tokio::spawn(self.clone().let_go_of_kept(queued.kept));
        tokio::spawn(self.clone().finish_renames());
        let ops = self.clone();
        let show = async move { kept_up("show refused deletes", || ops.show_refused()).await };
        tokio::spawn(show);
        let mut files = queued.files;
        while let Some(file) = files.recv().await {
            let ops = self.clone();
            tokio::spawn(async move {
                kept_up("upload", || ops.upload_until_settled(&file)).await;
                ops.backlog.waiting.send_modify(|waiting| *waiting -= 1);
            });
        }
    }

    /// Returns once nothing waits for its upload or its delete, and no rename of an
    /// earlier daemon to be finished.
    pub async fn uploads_settled(&self) {
        let mut waiting = self.backlog.waiting.subscribe();
        // The sender is in `self`.
        if waiting.wait_for(|waiting| *waiting == 0).await.is_err() {
            tracing::debug!("no uploads to wait for");
        }
        self.uploader.aborts_settled().await;
        self.subtrees.all_settled().await;
        self.store.settled().await;
    }

    /// Seals what was written, so that it outlives daemon and machine, and has it uploaded.
    ///
    /// Errors: the spool's; that of an upload that failed for good.
    pub(super) async fn seal_and_enqueue(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        self.seal(file).await?;
        // It is not safe here: S3 alone has parts of it, of an upload that is not done.
        if file.has_sealed_offloaded() {
            return self.upload(file).await;
        }
        self.queue(file);
        Ok(())
    }

    pub(super) fn queue(&self, file: &Arc<OpenFile>) {
        if !file.take_uploading() {
            return;
        }
        self.backlog.waiting.send_modify(|waiting| *waiting += 1);
        if self.backlog.queue.send(file.clone()).is_err() {
            tracing::warn!("the mount ends: the next one uploads what is sealed");
        }
    }

    async fn upload_until_settled(&self, file: &Arc<OpenFile>) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LIMIT);
        while let Some(outcome) = self.upload_next(file).await {
            match outcome {
                Ok(Brought::Stored) => backoff.reset(),
                Ok(Brought::Cancelled) => file.cancels_over().await,
                Err(error) if is_final(&error) => {
                    tracing::error!(ino = file.inode.ino.0, %error, "upload failed for good");
                    file.revert_seal(&error);
                }
                Err(error) => {
                    let pause = backoff.next_pause();
                    tracing::warn!(ino = file.inode.ino.0, %error, ?pause, "upload failed: trying again");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = file.cancelled() => {}
                    }
                }
            }
        }
        let remains = self
            .files
            .release_if_unused(file, |file| self.fall_back_to_store(file));
        self.clean_up(remains);
    }

    /// Uploads one sealed stage; none when nothing is sealed any more.
    async fn upload_next(&self, file: &Arc<OpenFile>) -> Option<Result<Brought, FsError>> {
        let first = file.sealed_stages().into_iter().next();
        let is_short = first.is_none_or(|first| self.uploader.sends_at_once(first.stage.len()));
        let UploadQueue { short, long, .. } = &self.backlog;
        let slots = if is_short { short } else { long };
        let (_slot, _subtrees) = self.slot_and_subtrees(slots, file).await?;
        let _turn = file.upload_lock.lock().await;
        let seal_lock = file.seal_lock.lock().await;
        let (sealed, earlier) = file.begin_next_upload()?;
        drop(seal_lock);
        Some(self.publish(file, &sealed, earlier).await)
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
                let remnant = LostFile {
                    key: Some(&key),
                    reason: LostReason::UploadFailed(error),
                    written: over_a_base.then_some(written.as_slice()),
                };
                self.desk.spool.move_to_lost_found(&stage, &remnant);
            }
        }
    }

    fn recover_one(&self, found: RecoveredStage) -> Result<(), FsError> {
        let sealed = &found.sealed;
        tracing::info!(key = %sealed.key, bytes = sealed.len, "uploading what the predecessor sealed");
        let path = self.desk.keys.path_of(&sealed.key);
        let mut names = path.ok_or(FsError::IllegalName)?;
        let name = names.pop().ok_or(FsError::IllegalName)?;
        let dir = self.local_directories(&names)?;
        let inode = self.namespace.create_local(&dir, &name, Kind::File)?;
        let attributes = Arc::new(Attributes::decode(sealed.headers.clone()));
        self.namespace.record_attributes(&inode, attributes);
        if let SealedBase::Object {
            etag, size_bytes, ..
        } = &sealed.base
        {
            let mut state = inode.state();
            state.mtime_is_ours = true;
            state.remote = Some(ObjectVersion {
                etag: etag.clone(),
                size_bytes: *size_bytes,
                last_modified: self.mounted_at,
            });
        }
        let file = self.open_inode(inode, OpenMode::Read);
        file.recover(found);
        self.queue(&file);
        self.close(&file, OpenMode::Read);
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
}

/// Whether no later attempt can do better. An operator can mend the rest:
/// credentials, rights, the bucket, the network.
fn is_final(error: &FsError) -> bool {
    matches!(
        error,
        FsError::Stale
            | FsError::Exists
            | FsError::TooLarge
            | FsError::NameTooLong
            | FsError::Corrupt
            | FsError::PartsLost
            | FsError::Spool(_)
    )
}
