//! A write that finds the spool full waits until parts that S3 has have left it.
//!
//! Parts of files that are being written leave the spool, the oldest first, as soon as
//! S3 has confirmed them and somebody needs their room (`write_path::offload`). Where
//! there is none yet, the writer waits for its own parts, or sends them itself, within
//! the longest wait of a request; then the write is ENOSPC.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::publish::Uploads;
use crate::error::FsError;
use crate::files::{OpenFile, OpenFiles, StageFactory, long_files};
use crate::journal::Offloaded;
use crate::namespace::{Namespace, SubtreeLocks};
use crate::store::log_failure;
use crate::write_path::{StageFile, Uploader};

/// Pause before parts are looked for, or sent, again.
const PAUSE: Duration = Duration::from_millis(100);

/// Has parts that S3 has leave the spool.
#[derive(Debug)]
pub struct RoomMaker {
    pub namespace: Arc<Namespace>,
    pub files: Arc<OpenFiles>,
    pub stage_factory: Arc<StageFactory>,
    pub subtrees: Arc<SubtreeLocks>,
    pub uploads: Arc<Uploads>,
    pub uploader: Arc<Uploader>,
}

impl RoomMaker {
    /// Returns once the spool has more room than before.
    pub async fn make_room(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        loop {
            if self.offload_any(file).await? {
                return Ok(());
            }
            let target = self
                .uploads
                .target_ahead(file)
                .await?
                .ok_or(FsError::NoSpace)?;
            let part_size = self.uploader.parts().part_size();
            let Some(part) = long_files::next_unsent(file, &target.key, part_size) else {
                let is_coming = |it: &Arc<OpenFile>| long_files::has_parts_under_way(it);
                if !file.is_held() && !self.files.all().iter().any(is_coming) {
                    return Err(FsError::NoSpace);
                }
                sleep(PAUSE).await;
                continue;
            };
            if let Err(error) = self.uploader.parts().send_full_part(&target, &part).await {
                log_failure!(
                    warn,
                    &error,
                    [ino = file.inode.ino.0,],
                    "the spool is full, and a part that would leave it cannot be sent"
                );
                if !error.is_no_answer() {
                    return Err(FsError::NoSpace);
                }
                sleep(PAUSE).await;
            }
        }
    }

    /// One part leaves the spool: of this file if it has one to give, else of another.
    async fn offload_any(&self, file: &Arc<OpenFile>) -> Result<bool, FsError> {
        if self.offload(file).await? {
            return Ok(true);
        }
        for other in self.files.all() {
            if self.offload(&other).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn offload(&self, file: &OpenFile) -> Result<bool, FsError> {
        let Some((stage, marked)) = self.mark_offloaded(file) else {
            return Ok(false);
        };
        let stage_factory = self.stage_factory.clone();
        // No wait comes between: what is marked is punched, whoever waits for it.
        let punched =
            tokio::task::spawn_blocking(move || stage_factory.spool.offload(&stage, marked));
        punched.await.map_err(std::io::Error::other)??;
        Ok(true)
    }

    fn mark_offloaded(&self, file: &OpenFile) -> Option<(Arc<StageFile>, Offloaded)> {
        let ino = file.inode.ino;
        // No directory above it is being moved.
        let _subtrees = self.subtrees.try_share(ino)?;
        let key = self.namespace.file_key(ino).ok()?;
        long_files::mark_offloaded(file, &key)
    }
}
