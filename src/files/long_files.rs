//! Parts of a file that leave it before its close: sent early, or out of a full spool.

use std::sync::Arc;

use super::file::OpenFile;
use crate::error::FsError;
use crate::journal::Offloaded;
use crate::store::Key;
use crate::write_path::{FullPart, PartSize, StageFile};

/// Whether there is a part for `next_ahead`.
pub fn has_ahead(file: &OpenFile, part_size: PartSize) -> bool {
    let content = file.content.lock();
    let is_kept = !content.is_nameless() && content.failed.is_none();
    let stage = content.stage.as_ref();
    is_kept && stage.is_some_and(|stage| FullPart::place_ahead(stage, part_size).is_some())
}

pub fn next_ahead(file: &OpenFile, part_size: PartSize) -> Option<FullPart> {
    let content = file.content.lock();
    let stage = content.stage.as_ref();
    let stage = stage.filter(|_| !content.is_nameless() && content.failed.is_none());
    stage.and_then(|stage| FullPart::next_ahead(stage, part_size))
}

/// Marks a part that is to leave the spool. None of a file whose name is being
/// changed: parts are of one key.
pub fn mark_offloaded(file: &OpenFile, key: &Key) -> Option<(Arc<StageFile>, Offloaded)> {
    let content = file.content.lock();
    if content.is_nameless() || content.failed.is_some() || content.holders > 0 {
        return None;
    }
    content.stage.as_ref()?.mark_offloaded(key)
}

/// The first full part that nobody has sent or sends under this key.
pub fn next_unsent(file: &OpenFile, key: &Key, part_size: PartSize) -> Option<FullPart> {
    let content = file.content.lock();
    if content.is_nameless() || content.failed.is_some() || content.holders > 0 {
        return None;
    }
    FullPart::next_unsent(content.stage.as_ref()?, key, part_size)
}

pub fn has_parts_under_way(file: &OpenFile) -> bool {
    let content = file.content.lock();
    let stage = content.stage.as_ref().filter(|_| !content.is_nameless());
    let upload = stage.and_then(|stage| stage.file().upload_slot().get());
    upload.is_some_and(|upload| upload.has_parts_under_way())
}

/// Whether parts of the file are in its unfinished upload alone.
pub fn has_offloaded(file: &OpenFile) -> bool {
    let content = file.content.lock();
    let stage = content.stage.as_ref().filter(|_| !content.is_nameless());
    let sealed = std::iter::successors(content.base.sealed(), |it| it.base.sealed());
    let mut stages = stage.into_iter().chain(sealed.map(|sealed| &sealed.stage));
    stages.any(|stage| stage.file().offloaded().has_any())
}

/// Whether a rename needs what S3 has of the file, or is about to have.
pub fn rests_on_s3(file: &OpenFile) -> bool {
    file.has_object_below() || has_offloaded(file)
}

/// Errors: `Offloaded`, where parts of it are in S3 under its present key alone.
pub fn check_renamable(file: &OpenFile) -> Result<(), FsError> {
    if !has_offloaded(file) {
        return Ok(());
    }
    tracing::warn!(
        ino = file.inode.ino.0,
        "cannot be renamed before it is closed: it is longer than the spool has room for, and parts of it are in S3 under its name"
    );
    Err(FsError::Offloaded)
}

/// Whether parts of what is sealed are in its unfinished upload alone.
pub fn has_sealed_offloaded(file: &OpenFile) -> bool {
    let sealed = file.sealed_stages();
    sealed
        .iter()
        .any(|it| it.stage.file().offloaded().has_any())
}
