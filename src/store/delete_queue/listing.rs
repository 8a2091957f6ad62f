//! Listings without the objects that are to be deleted.

use super::DeleteQueue;
use crate::store::{
    FoldDirectories, LIST_PAGE_LIMIT, ListAnswer, ListProgress, ListRequest, ListedObject,
    StoreError, StoreOp,
};

/// How many keys below a prefix are kept or watched for.
fn unseen_below(queue: &DeleteQueue, prefix: &str) -> usize {
    queue.pending.kept_below(prefix) + queue.late.watched_below(prefix)
}

/// A page without the objects that are to be deleted, and whether it says of a
/// directory that it is gone which is not.
///
/// The marker that takes the place of a directory's last object is there before that
/// is to be deleted. An answer that is older than the marker has neither.
pub(super) async fn list_seen(
    queue: &DeleteQueue,
    request: ListRequest,
) -> Result<(ListAnswer, bool), StoreError> {
    let folds = request.fold_directories == FoldDirectories::Yes;
    let short = request.max_keys < LIST_PAGE_LIMIT;
    // A folded name stands for keys that it does not tell, and a short page
    // may be all of keys that are not to be seen.
    let counts = |rest: &str| short || (folds && rest.contains('/'));
    queue
        .wait_below(StoreOp::List, &request.prefix, counts)
        .await?;
    // An object that goes while the listing is under way is in the answer, and
    // is not pending any more when that comes.
    let going = queue.pending.below(&request.prefix);
    let mut answer = list_unkept(queue, request).await?;
    let mut overtaken = false;
    answer.objects.retain(|object| {
        let goes = going.contains(&object.key);
        let went = !goes && queue.pending.has(&object.key);
        overtaken |= went;
        !goes && !went && !queue.late.is_late(&object.key, &object.etag)
    });
    Ok((answer, overtaken && !folds))
}

/// A page without the objects that are kept or watched for: nobody waits for them.
async fn list_unkept(
    queue: &DeleteQueue,
    mut request: ListRequest,
) -> Result<ListAnswer, StoreError> {
    let kept = unseen_below(queue, &request.prefix);
    if kept == 0 {
        return queue.store.list(request).await;
    }
    // A short page may be all of keys that are not to be seen.
    let more = u16::try_from(kept).unwrap_or(u16::MAX);
    request.max_keys = request.max_keys.saturating_add(more).min(LIST_PAGE_LIMIT);
    let mut answer = queue.store.list(request).await?;
    let mut seen = Vec::with_capacity(answer.prefixes.len());
    for prefix in std::mem::take(&mut answer.prefixes) {
        let below = unseen_below(queue, &prefix);
        if below == 0 || has_others_below(queue, &prefix, below).await? {
            seen.push(prefix);
        }
    }
    answer.prefixes = seen;
    Ok(answer)
}

pub(super) async fn has_others_below(
    queue: &DeleteQueue,
    prefix: &str,
    kept: usize,
) -> Result<bool, StoreError> {
    let one_more = u16::try_from(kept).unwrap_or(u16::MAX).saturating_add(1);
    let (mut token, mut progress) = (None, ListProgress::default());
    loop {
        let request = ListRequest {
            prefix: prefix.to_owned(),
            fold_directories: FoldDirectories::No,
            token,
            max_keys: one_more.min(LIST_PAGE_LIMIT),
        };
        let answer = queue.store.list(request).await?;
        progress.step(prefix, &answer)?;
        let is_seen = |object: &ListedObject| {
            !queue.pending.has(&object.key) && !queue.late.is_late(&object.key, &object.etag)
        };
        if answer.objects.iter().any(is_seen) {
            return Ok(true);
        }
        // What is removed meanwhile may fill a page by itself.
        token = answer.next;
        if token.is_none() {
            return Ok(false);
        }
    }
}
