//! A write that finds the spool full waits until parts that S3 has have left it.
//!
//! Parts of files that are being written leave the spool, the oldest first, as soon as
//! S3 has confirmed them and somebody needs their room (`write_path::offload`). Where
//! there is none yet, the writer waits for its own parts, or sends them itself, within
//! the patience of a request; then the write is ENOSPC.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::Ops;
use super::attr::Caller;
use super::handles::HandleId;
use super::open_file::OpenFile;
use super::write::{Privileges, WriteOrigin};
use crate::error::FsError;
use crate::store::Key;
use crate::vocabulary::Ino;
use crate::write_path::{FullPart, Offloaded, PartSize, StageFile};

/// Pause before parts are looked for, or sent, again.
const PAUSE: Duration = Duration::from_millis(100);

impl OpenFile {
    /// Marks a part that is to leave the spool. None of a file whose name is being
    /// changed: parts are of one key.
    fn mark_offloaded(&self, key: &Key) -> Option<(Arc<StageFile>, Offloaded)> {
        let content = self.content.lock();
        if content.orphan || content.failed.is_some() || content.holders > 0 {
            return None;
        }
        content.stage.as_ref()?.mark_offloaded(key)
    }

    /// The first full part that nobody has sent or sends under this key.
    fn next_unsent(&self, key: &Key, part_size: PartSize) -> Option<FullPart> {
        let content = self.content.lock();
        if content.orphan || content.failed.is_some() || content.holders > 0 {
            return None;
        }
        content.stage.as_ref()?.next_unsent(key, part_size)
    }

    fn has_parts_under_way(&self) -> bool {
        let content = self.content.lock();
        let stage = content.stage.as_ref().filter(|_| !content.orphan);
        let upload = stage.and_then(|stage| stage.file().upload());
        upload.is_some_and(|upload| upload.has_parts_under_way())
    }

    /// Whether parts of the file are in its unfinished upload alone.
    pub fn has_offloaded(&self) -> bool {
        let content = self.content.lock();
        let stage = content.stage.as_ref().filter(|_| !content.orphan);
        let sealed = std::iter::successors(content.base.sealed(), |it| it.base.sealed());
        let mut stages = stage.into_iter().chain(sealed.map(|sealed| &sealed.stage));
        stages.any(|stage| stage.file().has_offloaded())
    }

    /// Whether a rename needs what S3 has of the file, or is about to have.
    pub fn rests_on_s3(&self) -> bool {
        self.has_object_below() || self.has_offloaded()
    }

    /// Errors: `Offloaded`, where parts of it are in S3 under its present key alone.
    pub(super) fn check_renamable(&self) -> Result<(), FsError> {
        if !self.has_offloaded() {
            return Ok(());
        }
        tracing::warn!(
            ino = self.inode.ino.0,
            "cannot be renamed before it is closed: it is longer than the spool has room for, and parts of it are in S3 under its name"
        );
        Err(FsError::Offloaded)
    }

    /// Whether parts of what is sealed are in its unfinished upload alone.
    pub fn has_sealed_offloaded(&self) -> bool {
        let sealed = self.sealed_stages();
        sealed.iter().any(|it| it.stage.file().has_offloaded())
    }
}

impl Ops {
    /// Whether files leave a full spool part by part. Stored attributes are fixed when
    /// an upload begins, and those files are sent at close.
    pub fn offloads(&self) -> bool {
        !self.namespace.stores_attributes()
    }

    /// As `write`, once the spool has room.
    ///
    /// Errors: as `write`; `NoSpace` where no room could be made in time.
    pub async fn write_with_room(
        &self,
        id: HandleId,
        caller: Caller,
        how: (Privileges, WriteOrigin),
        offset: u64,
        data: &[u8],
    ) -> Result<(), FsError> {
        let file = self.handles.file(id)?.file.clone();
        let deadline = Instant::now() + self.settings.patience;
        loop {
            match timeout_at(deadline, self.make_room(&file)).await {
                Ok(made) => made?,
                Err(_) => return Err(FsError::NoSpace),
            }
            match self.write(id, caller, how, offset, data) {
                Err(FsError::NoSpace) => {}
                outcome => return outcome,
            }
        }
    }

    /// Returns once the spool has more room than before.
    async fn make_room(&self, file: &Arc<OpenFile>) -> Result<(), FsError> {
        loop {
            if self.offload_any(file).await? {
                return Ok(());
            }
            let target = self.target_ahead(file).await?.ok_or(FsError::NoSpace)?;
            let part_size = self.uploader.part_size();
            let Some(part) = file.next_unsent(&target.key, part_size) else {
                let is_coming = |it: &Arc<OpenFile>| it.has_parts_under_way();
                if !file.is_held() && !self.files.all().iter().any(is_coming) {
                    return Err(FsError::NoSpace);
                }
                sleep(PAUSE).await;
                continue;
            };
            if let Err(error) = self.uploader.send_full_part(&target, &part).await {
                tracing::warn!(ino = file.inode.ino.0, %error, "the spool is full, and a part that would leave it cannot be sent");
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
        let desk = self.desk.clone();
        // No wait comes between: what is marked is punched, whoever waits for it.
        let punched = tokio::task::spawn_blocking(move || desk.spool.offload(&stage, marked));
        punched.await.map_err(std::io::Error::other)??;
        Ok(true)
    }

    fn mark_offloaded(&self, file: &OpenFile) -> Option<(Arc<StageFile>, Offloaded)> {
        let ino = file.inode.ino;
        // No directory above it is being moved.
        let _subtrees = self.subtrees.try_share(ino)?;
        let key = self.namespace.file_key(ino).ok()?;
        file.mark_offloaded(&key)
    }

    /// Errors: `Offloaded`, where a file below a directory that is to be moved has parts
    /// under its present key alone.
    pub(super) fn check_movable(&self, dir: Ino) -> Result<(), FsError> {
        let table = self.namespace.table();
        let files = self.files.all().into_iter();
        let mut below = files.filter(|file| table.is_within(file.inode.ino, dir));
        below.try_for_each(|file| file.check_renamable())
    }
}
