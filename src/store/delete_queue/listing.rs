//! Listings without the objects that are to be deleted.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use super::DeleteQueue;
use crate::store::{
    FoldDirectories, Key, LIST_PAGE_LIMIT, ListAnswer, ListProgress, ListRequest, StoreError,
    StoreErrorKind, StoreOp,
};

/// Directories of a page that are looked into together.
const LOOKS_AT_ONCE: usize = 16;

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
    // A folded name stands for keys that it does not tell, and a short page may be all
    // of keys that are not to be seen: what is left of them costs more requests.
    let counts = |rest: &str| is_short(&request) || (folds && rest.contains('/'));
    queue.let_deletes_end(&request.prefix, counts).await;
    // An object that goes while the listing is under way is in the answer, and
    // is not pending any more when that comes.
    let going = queue.pending.below(&request.prefix);
    let (mut answer, overtaken) = list_objects_seen(queue, request, &going).await?;
    answer.prefixes = directories_seen(queue, answer.prefixes, &going).await?;
    Ok((answer, overtaken && !folds))
}

/// A page whose objects are to be seen; a short one has as many as there are, up to
/// its length. And whether some went while it was asked for.
async fn list_objects_seen(
    queue: &DeleteQueue,
    mut request: ListRequest,
    going: &BTreeSet<Key>,
) -> Result<(ListAnswer, bool), StoreError> {
    let (asked, short) = (usize::from(request.max_keys), is_short(&request));
    if short {
        let more = u16::try_from(unseen_below(queue, &request.prefix)).unwrap_or(u16::MAX);
        request.max_keys = request.max_keys.saturating_add(more).min(LIST_PAGE_LIMIT);
    }
    let (mut seen, mut overtaken) = (ListAnswer::default(), false);
    let mut progress = ListProgress::default();
    let until = Instant::now() + queue.max_wait;
    loop {
        let mut answer = queue.store.list(request.clone()).await?;
        progress.step(&request.prefix, &answer)?;
        answer.objects.retain(|object| {
            let goes = going.contains(&object.key);
            let went = !goes && queue.pending.has(&object.key);
            overtaken |= went;
            let found = (&object.etag, object.last_modified);
            !goes && !went && !queue.late.hides(&object.key, found)
        });
        seen.objects.append(&mut answer.objects);
        seen.prefixes.append(&mut answer.prefixes);
        seen.unusable.append(&mut answer.unusable);
        seen.next = answer.next;
        let count = seen.objects.len() + seen.prefixes.len() + seen.unusable.len();
        if !short || count >= asked || seen.next.is_none() {
            return Ok((seen, overtaken));
        }
        if Instant::now() > until {
            let (kind, prefix) = (StoreErrorKind::TimedOut, Key::new(request.prefix.as_str()));
            let why = "more objects wait for their delete than can be listed past in time";
            return Err(StoreError::new(kind, StoreOp::List, prefix, why));
        }
        request.token = seen.next.take();
    }
}

/// Keys below a prefix that are not to be seen.
fn unseen_below(queue: &DeleteQueue, prefix: &str) -> usize {
    queue.pending.count_below(prefix) + queue.late.watched_below(prefix)
}

/// Those of the directories of a page that have anything that is to be seen.
async fn directories_seen(
    queue: &DeleteQueue,
    prefixes: Vec<String>,
    going: &BTreeSet<Key>,
) -> Result<Vec<String>, StoreError> {
    let looks = prefixes.into_iter().map(|prefix| async move {
        let is_whole = !may_be_unseen(queue, &prefix, going);
        let is_seen = is_whole || has_seen_below(queue, &prefix, going).await?;
        Ok::<_, StoreError>(is_seen.then_some(prefix))
    });
    let mut looks = stream::iter(looks).buffered(LOOKS_AT_ONCE);
    let mut seen = Vec::new();
    while let Some(prefix) = looks.next().await {
        seen.extend(prefix?);
    }
    Ok(seen)
}

/// Whether a directory has keys that are not to be seen, and perhaps no others.
fn may_be_unseen(queue: &DeleteQueue, prefix: &str, going: &BTreeSet<Key>) -> bool {
    let mut went = going.range(Key::new(prefix)..);
    let has_gone = went
        .next()
        .is_some_and(|key| key.as_str().starts_with(prefix));
    has_gone || queue.pending.has_below(prefix) || queue.late.watched_below(prefix) > 0
}

async fn has_seen_below(
    queue: &DeleteQueue,
    prefix: &str,
    going: &BTreeSet<Key>,
) -> Result<bool, StoreError> {
    let one = ListRequest {
        prefix: prefix.to_owned(),
        fold_directories: FoldDirectories::No,
        token: None,
        max_keys: 1,
    };
    let (answer, _) = list_objects_seen(queue, one, going).await?;
    Ok(!answer.objects.is_empty() || !answer.unusable.is_empty())
}

/// Whether it is not to have all that fits a page.
fn is_short(request: &ListRequest) -> bool {
    request.max_keys < LIST_PAGE_LIMIT
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Duration;

    use super::*;
    use crate::store::ObjectStore;
    use crate::store::delete_queue::tests::{delete_queue, over, pending, put};
    use crate::store::faulty::Faulty;
    use crate::store::memory::Memory;

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_there_where_removals_fill_the_page_before_what_stays() {
        let memory = Arc::new(Memory::default());
        for key in ["d/a", "d/b", "d/c", "d/d", "d/stays"] {
            put(&*memory, key).await;
        }
        let (store, _) = delete_queue(&memory, Vec::new());
        let _kept = store.delete_once_unused(pending("d/a", None)).unwrap();
        // As they come while the directory above is listed.
        for key in ["d/b", "d/c", "d/d"] {
            store.delete_later(pending(key, None)).unwrap();
        }
        let is_seen = async || has_seen_below(&store, "d/", &BTreeSet::new()).await;
        assert!(is_seen().await.unwrap());
        store.delete_later(pending("d/stays", None)).unwrap();
        assert!(!is_seen().await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_leaves_out_what_is_not_deleted_soon_and_does_not_wait_for_it() {
        const MANY: usize = 1500;
        let memory = Arc::new(Memory::default());
        for key in [
            "d/f",
            "d/gone/f",
            "d/part/f",
            "d/part/stays",
            "d/many/stays",
        ] {
            put(&*memory, key).await;
        }
        let (store, _) = delete_queue(&memory, Vec::new());
        // Nobody deletes.
        for key in ["d/gone/f", "d/part/f"] {
            store.delete_later(pending(key, None)).unwrap();
        }
        for number in 0..MANY {
            let key = format!("d/many/{number:04}");
            put(&*memory, &key).await;
            store.delete_later(pending(&key, None)).unwrap();
        }
        let began = Instant::now();
        let page = ListRequest::page("d/", FoldDirectories::Yes, None);
        for _ in 0..10 {
            let answer = store.list(page.clone()).await.unwrap();
            assert_eq!(answer.objects.len(), 1);
            assert_eq!(answer.prefixes, ["d/many/", "d/part/"]);
        }
        for (prefix, found) in [("d/gone/", 0), ("d/part/", 1), ("d/many/", 1)] {
            for max_keys in [1, 2] {
                let short = ListRequest {
                    max_keys,
                    ..ListRequest::page(prefix, FoldDirectories::No, None)
                };
                let answer = store.list(short).await.unwrap();
                assert_eq!(answer.objects.len(), found, "{prefix}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_directories_with_removals_those_with_nothing_left_are_not_seen() {
        const DIRECTORIES: usize = 200;
        let faulty = Arc::new(Faulty::new(Arc::new(Memory::default())));
        let (store, _) = over(faulty.clone());
        for number in 0..DIRECTORIES {
            let gone = format!("{number:04}/gone");
            put(&*faulty, &gone).await;
            store.delete_later(pending(&gone, None)).unwrap();
            if number % 2 == 0 {
                put(&*faulty, &format!("{number:04}/stays")).await;
            }
        }
        // Nobody deletes.
        let page = ListRequest::page("", FoldDirectories::Yes, None);
        let answer = store.list(page).await.unwrap();
        assert_eq!(answer.prefixes.len(), DIRECTORIES / 2);
    }
}
