//! Whether the version under a key is one that a lost attempt of ours made.

use std::sync::Arc;

use tokio::time::Instant;

use super::byte_source::ByteSource;
use super::part_sender::PartSender;
use super::upload_target::{UploadTarget, Uploaded};
use crate::error::FsError;
use crate::store::{ETag, GetRequest, HeadRequest, StoreErrorKind, WriteCondition};

/// The version under the key, if it is the one that an attempt was about to make,
/// or has exactly the bytes of this upload. One that was there before the first
/// attempt, where that `began` here, and that none could replace, is another client's.
pub(super) async fn find_own(
    parts: &PartSender,
    target: &UploadTarget,
    source: &Arc<dyn ByteSource>,
    began: Option<Instant>,
) -> Result<Option<Uploaded>, FsError> {
    let head = HeadRequest {
        key: target.key.clone(),
    };
    let meta = match parts.store.head(head).await {
        Ok(meta) if meta.size_bytes == target.len => meta,
        Ok(_) => return Ok(None),
        Err(error) if error.kind == StoreErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let is_older = began.is_some_and(|began| meta.is_older_by(began.elapsed()));
    if is_older && target.condition == WriteCondition::IfAbsent {
        return Ok(None);
    }
    let found = Uploaded {
        etag: meta.etag.clone(),
        found: Some(meta.headers),
    };
    if source.completed_as().as_ref() == Some(&meta.etag) {
        return Ok(Some(found));
    }
    if parts.sends_at_once(target.len)
        && ETag::of_bytes(&source.read(0..target.len).await?) == meta.etag
    {
        return Ok(Some(found));
    }
    if source.offloaded_end() > 0 {
        return Ok(None);
    }
    let mut at = 0;
    while at < target.len {
        let range = at..target.len.min(at + parts.part_size.bytes());
        at = range.end;
        let _memory = parts.budget.single(2 * parts.part_size.bytes()).await;
        let request = GetRequest {
            key: target.key.clone(),
            range: Some(range.clone()),
            if_match: Some(meta.etag.clone()),
            sink: None,
        };
        let stored = match parts.store.get(request).await {
            Ok(answer) => answer.body,
            Err(error)
                if matches!(
                    error.kind,
                    StoreErrorKind::NotFound | StoreErrorKind::PreconditionFailed
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if stored != source.read(range).await? {
            return Ok(None);
        }
    }
    Ok(Some(found))
}
