//! What of an open file is on its way to the store, before and after its close, and what
//! becomes of it where it does not get there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Durability;
use super::file::OpenFile;
use super::given_up::GivenUp;
use super::layers::{ReadSegment, Sealed};
use crate::error::FsError;
use crate::journal::Offloaded;
use crate::store::Key;
use crate::vocabulary::StageId;
use crate::write_path::{FullPart, LostFile, LostReason, PartSize, StageFile};

/// Holes of a file that are filled in S3 though its program was killed: some hundred
/// copies, or ten minutes where zeros have to be sent.
const HOLES_LIMIT_BYTES: u64 = 64 << 30;

impl OpenFile {
    /// Whether it was not queued yet, and is from now on.
    pub fn queue_parts(&self) -> bool {
        !self.parts_queued.swap(true, Ordering::AcqRel)
    }

    pub fn unqueue_parts(&self) {
        self.parts_queued.store(false, Ordering::Release);
    }

    /// Whether there is a part for `next_ahead`.
    pub fn has_ahead(&self, part_size: PartSize) -> bool {
        let content = self.content.lock();
        let is_kept = !content.is_nameless() && content.failed.is_none();
        let stage = content.stage.as_ref();
        is_kept && stage.is_some_and(|stage| FullPart::place_ahead(stage, part_size).is_some())
    }

    pub fn next_ahead(&self, part_size: PartSize) -> Option<FullPart> {
        let content = self.content.lock();
        let stage = content.stage.as_ref();
        let stage = stage.filter(|_| !content.is_nameless() && content.failed.is_none());
        stage.and_then(|stage| FullPart::next_ahead(stage, part_size))
    }

    /// Marks a part that is to leave the spool. None of a file whose name is being
    /// changed: parts are of one key.
    pub fn mark_offloaded(&self, key: &Key) -> Option<(Arc<StageFile>, Offloaded)> {
        let content = self.content.lock();
        if content.is_nameless() || content.failed.is_some() || content.holders > 0 {
            return None;
        }
        content.stage.as_ref()?.mark_offloaded(key)
    }

    /// The first full part that nobody has sent or sends under this key.
    pub fn next_unsent(&self, key: &Key, part_size: PartSize) -> Option<FullPart> {
        let content = self.content.lock();
        if content.is_nameless() || content.failed.is_some() || content.holders > 0 {
            return None;
        }
        FullPart::next_unsent(content.stage.as_ref()?, key, part_size)
    }

    pub fn has_parts_under_way(&self) -> bool {
        let content = self.content.lock();
        let stage = content.stage.as_ref().filter(|_| !content.is_nameless());
        let upload = stage.and_then(|stage| stage.file().upload());
        upload.is_some_and(|upload| upload.has_parts_under_way())
    }

    /// Whether parts of the file are in its unfinished upload alone.
    pub fn has_offloaded(&self) -> bool {
        let content = self.content.lock();
        let stage = content.stage.as_ref().filter(|_| !content.is_nameless());
        let sealed = std::iter::successors(content.base.sealed(), |it| it.base.sealed());
        let mut stages = stage.into_iter().chain(sealed.map(|sealed| &sealed.stage));
        stages.any(|stage| stage.file().offloaded().has_any())
    }

    /// Whether a rename needs what S3 has of the file, or is about to have.
    pub fn rests_on_s3(&self) -> bool {
        self.has_object_below() || self.has_offloaded()
    }

    /// Errors: `Offloaded`, where parts of it are in S3 under its present key alone.
    pub fn check_renamable(&self) -> Result<(), FsError> {
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
        sealed
            .iter()
            .any(|it| it.stage.file().offloaded().has_any())
    }

    /// Whether a stage is still to be uploaded, as far as the file knows.
    pub fn has_sealed(&self, stage: StageId) -> bool {
        let sealed = self.sealed_stages();
        sealed
            .iter()
            .any(|sealed| sealed.stage.file().id() == stage)
    }

    /// What is sealed could not be uploaded: it is the staged content again, and the file has failed.
    pub fn revert_seal(&self, why: &FsError) {
        let mut content = self.edit();
        content.failed = Some(why.clone());
        content.changes.none_is_safe();
        while let Some(sealed) = content.base.sealed().cloned() {
            sealed.stage.file().set_upload(None);
            let merged = match content.stage.as_mut() {
                Some(later) => later.absorb(&sealed.stage),
                None => {
                    content.stage = Some(sealed.stage.clone());
                    Ok(())
                }
            };
            if let Err(error) = merged {
                tracing::error!(ino = self.inode.ino.0, %error, "sealed bytes stay in the spool");
                if sealed.stage.file().offloaded().has_any() {
                    // The next start could not upload it. It stays below what is over it.
                    self.move_to_lost_found(&sealed, why);
                }
                return;
            }
            let kept = content.stage.as_ref().map(|stage| stage.file().id());
            if kept != Some(sealed.stage.file().id()) {
                self.stage_factory.spool.discard(sealed.stage.file());
            }
            content.base = sealed.base.clone();
        }
        content.dirty = true;
    }

    fn move_to_lost_found(&self, sealed: &Sealed, why: &FsError) {
        let key = self.inode.key(&self.stage_factory.keys);
        let lost = LostFile {
            key: key.as_ref(),
            reason: LostReason::UploadFailed(why.clone()),
            written: None,
        };
        let file = sealed.stage.file();
        self.stage_factory.spool.move_to_lost_found(file, &lost);
    }

    pub fn has_many_holes(&self) -> bool {
        if self.len() <= HOLES_LIMIT_BYTES {
            return false;
        }
        let zeros = self.plan(0..u64::MAX).into_iter();
        let zeros = zeros.filter_map(|piece| match piece {
            ReadSegment::Zero(len) => Some(len),
            ReadSegment::Local(..) | ReadSegment::Object(..) => None,
        });
        zeros.sum::<u64>() > HOLES_LIMIT_BYTES
    }

    /// None where some of it was acknowledged.
    pub fn give_up(&self, durability: Durability) -> Option<GivenUp<'_>> {
        let mut content = self.edit();
        match content.base.sealed() {
            _ if content.is_nameless() => return None,
            None if content.dirty => content.failed = Some(FsError::Interrupted),
            None => return None,
            Some(sealed) => {
                let is_promised = content.has_uploader || sealed.base.sealed().is_some();
                if durability == Durability::Disk || is_promised {
                    return None;
                }
            }
        }
        tracing::warn!(
            ino = self.inode.ino.0,
            "the program that wrote this file was killed, and it is mostly holes: not uploaded"
        );
        Some(GivenUp::begin(&self.given_up))
    }

    /// Returns once the file's upload is given up.
    pub async fn given_up(&self) {
        let mut given_up = self.given_up.subscribe();
        // The sender is in `self`.
        if given_up.wait_for(|given_up| *given_up).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
