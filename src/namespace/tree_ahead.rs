//! Listing a tree ahead of a program that walks its directories one after the other.
//!
//! A walk asks for each directory by itself: as many requests as directories. Once some
//! directories of one parent were listed in a row, the keys of the parent's tree are
//! listed instead, without folding, from the directory that is asked for on: each page
//! answers for every directory that lies in it whole.
//!
//! What was listed ahead counts as if it had been asked for by itself at that moment,
//! but for markers, and for names that are looked up and absent. It is dropped when
//! anything is changed here. Most of what is listed for a walk has to be of use, or the
//! rest is asked for directory by directory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::dir_entry::Marker;
use super::page::Page;
use crate::store::{ListAnswer, ListedObject};
use crate::vocabulary::Ino;

/// So many directories of one parent that are listed in a row are a walk.
const WALK_FROM: u32 = 2;
/// A longer pause between two of them ends it.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);
/// Walks that are under way at once. `NonZeroUsize::MIN` is 1.
const WALKS_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// Pages for one walk before each has to have told of two directories.
const PAGES_TRIED: u32 = 4;
/// Entries that are listed ahead and nobody has asked for yet.
const ENTRIES_LIMIT: usize = 20_000;

/// Directories that were listed ahead.
#[derive(Debug)]
pub struct TreeAhead(Mutex<State>);

#[derive(Debug)]
struct State {
    /// By the parent whose directories are walked.
    walks: LruCache<Ino, Walk>,
    /// By the prefix of the directory.
    listed: LruCache<String, Listed>,
    entries: usize,
    /// Changes made here so far.
    changes: u64,
}

#[derive(Debug)]
struct Walk {
    in_a_row: u32,
    last: Instant,
    /// Directories that were listed ahead for it, and those that it came to.
    ahead: u32,
    used: u32,
    /// Pages that were asked for.
    pages: u32,
}

#[derive(Debug)]
struct Listed {
    page: Page,
    asked_at: Instant,
    walk: Ino,
}

/// A listing of a tree under way.
#[derive(Debug, Clone, Copy)]
pub struct Asking {
    pub asked_at: Instant,
    walk: Ino,
    changes: u64,
}

impl Default for TreeAhead {
    fn default() -> Self {
        Self(Mutex::new(State {
            walks: LruCache::new(WALKS_LIMIT),
            listed: LruCache::unbounded(),
            entries: 0,
            changes: 0,
        }))
    }
}

impl TreeAhead {
    /// Something is changed here: what was listed before may be without it.
    pub fn changed(&self) {
        let mut state = self.0.lock();
        let State {
            walks,
            listed,
            entries,
            changes,
        } = &mut *state;
        *changes += 1;
        *entries = 0;
        while let Some((_, dropped)) = listed.pop_lru() {
            // The walk may come to it yet.
            if let Some(walk) = walks.get_mut(&dropped.walk) {
                walk.ahead = walk.ahead.saturating_sub(1);
            }
        }
    }

    /// A directory that was listed ahead since, and less than `max_age` ago.
    pub fn take(
        &self,
        prefix: &str,
        since: Option<Instant>,
        max_age: Duration,
    ) -> Option<(Page, Instant)> {
        let mut state = self.0.lock();
        let listed = state.listed.pop(prefix)?;
        state.entries -= weight(&listed.page);
        if listed.asked_at.elapsed() >= max_age || since >= Some(listed.asked_at) {
            return None;
        }
        if let Some(walk) = state.walks.get_mut(&listed.walk) {
            walk.used += 1;
            walk.last = Instant::now();
        }
        Some((listed.page, listed.asked_at))
    }

    /// A directory of this parent is about to be listed. What to do where its tree is
    /// to be listed from there on.
    pub fn begin(&self, parent: Ino) -> Option<Asking> {
        let mut state = self.0.lock();
        let changes = state.changes;
        let now = Instant::now();
        let walk = state.walks.get_or_insert_mut(parent, || Walk::new(now));
        if walk.last.elapsed() > PAUSE_LIMIT {
            *walk = Walk::new(now);
        }
        walk.last = now;
        walk.in_a_row = walk.in_a_row.saturating_add(1);
        if walk.in_a_row <= WALK_FROM || !walk.pays() {
            return None;
        }
        walk.pages += 1;
        Some(Asking {
            asked_at: now,
            walk: parent,
            changes,
        })
    }

    /// Takes the directories of a page in.
    pub fn put(&self, asking: &Asking, pages: BTreeMap<String, Page>) {
        let mut state = self.0.lock();
        if state.changes != asking.changes {
            return;
        }
        tracing::debug!(directories = pages.len(), "listed a tree ahead of a walk");
        if let Some(walk) = state.walks.get_mut(&asking.walk) {
            let more = u32::try_from(pages.len()).unwrap_or(u32::MAX);
            walk.ahead = walk.ahead.saturating_add(more);
        }
        for (prefix, page) in pages {
            state.entries += weight(&page);
            let listed = Listed {
                page,
                asked_at: asking.asked_at,
                walk: asking.walk,
            };
            if let Some(old) = state.listed.put(prefix, listed) {
                state.entries -= weight(&old.page);
            }
        }
        while state.entries > ENTRIES_LIMIT {
            let Some((_, old)) = state.listed.pop_lru() else {
                return;
            };
            state.entries -= weight(&old.page);
        }
    }
}

impl Walk {
    fn new(now: Instant) -> Self {
        Self {
            in_a_row: 0,
            last: now,
            ahead: 0,
            used: 0,
            pages: 0,
        }
    }
}

impl Walk {
    /// Whether most of what was listed ahead was of use, and each page saved a request.
    fn pays(&self) -> bool {
        let was_used = self.used.saturating_mul(2) >= self.ahead;
        was_used && (self.pages < PAGES_TRIED || self.used >= self.pages.saturating_mul(2))
    }
}

/// In entries.
fn weight(page: &Page) -> usize {
    1 + page.entries.len() + page.hidden.len()
}

/// The directories below `root` that lie whole in a page of its keys, by prefix.
///
/// The keys of a directory follow each other, in the order of keys and in that of
/// stores that list by directory. The first one in the page is whole because the
/// listing began right behind its own key; the last one may go on.
pub fn directories(root: &str, answer: ListAnswer) -> BTreeMap<String, Page> {
    let goes_on = answer.next.is_some();
    let last = answer.objects.last().map(|last| last.key.clone());
    let mut found: BTreeMap<String, ListAnswer> = BTreeMap::new();
    for object in answer.objects {
        add(&mut found, root, object);
    }
    if let Some(last) = last.filter(|_| goes_on) {
        found.retain(|prefix, _| !last.as_str().starts_with(prefix.as_str()));
    }
    let pages = found.into_iter().map(|(prefix, answer)| {
        let mut page = Page::new(&prefix, answer);
        // The first one's is not in the page; of the others another request may tell more.
        page.marker = Marker::Unknown;
        (prefix, page)
    });
    pages.collect()
}

/// Adds a key to each directory below `root` that it lies in.
fn add(found: &mut BTreeMap<String, ListAnswer>, root: &str, object: ListedObject) {
    let key = object.key.as_str().to_owned();
    let Some(rest) = key.strip_prefix(root) else {
        return;
    };
    let ends = rest.match_indices('/').map(|(at, _)| root.len() + at + 1);
    let mut dirs = ends.filter_map(|end| key.get(..end)).peekable();
    while let Some(dir) = dirs.next() {
        let dir_answer = found.entry(dir.to_owned()).or_default();
        match dirs.peek() {
            Some(below) => {
                if dir_answer.prefixes.last().map(String::as_str) != Some(*below) {
                    dir_answer.prefixes.push((*below).to_owned());
                }
            }
            None => dir_answer.objects.push(object.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{ETag, Key, ListToken};

    fn answer(keys: &[&str], next: Option<&str>) -> ListAnswer {
        let object = |key: &&str| ListedObject {
            key: Key::new(*key),
            etag: ETag::new("e"),
            size_bytes: 1,
            last_modified: SystemTime::UNIX_EPOCH,
        };
        ListAnswer {
            objects: keys.iter().map(object).collect(),
            next: next.map(|token| ListToken(token.to_owned())),
            ..ListAnswer::default()
        }
    }

    fn names(pages: &BTreeMap<String, Page>) -> Vec<String> {
        let lines = pages.iter().map(|(prefix, page)| {
            let names: Vec<_> = page.entries.keys().map(|name| name.as_str()).collect();
            format!("{prefix} {}", names.join(","))
        });
        lines.collect()
    }

    #[test]
    fn a_page_answers_for_each_directory_that_lies_in_it_whole() {
        let keys = [
            "p/a/1", "p/a/s/2", "p/a/s/3", "p/a/t/", "p/b/1", "p/b.x", "p/c/1",
        ];
        let whole = directories("p/", answer(&keys, None));
        let wanted = ["p/a/ 1,s,t", "p/a/s/ 2,3", "p/a/t/ ", "p/b/ 1", "p/c/ 1"];
        assert_eq!(names(&whole), wanted);
        let cut = directories("p/", answer(&keys, Some("more")));
        assert_eq!(names(&cut), wanted[..4]);
        let deep = directories("p/", answer(&["p/a/1", "p/a/s/1"], Some("more")));
        assert!(names(&deep).is_empty(), "both may go on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_walk_begins_with_the_third_directory_and_ends_where_it_is_of_no_use() {
        let ahead = TreeAhead::default();
        let parent = Ino(5);
        assert!(ahead.begin(parent).is_none() && ahead.begin(parent).is_none());
        let asking = ahead.begin(parent).unwrap();
        let keys = ["p/c/1", "p/d/1", "p/e/1", "p/f/1"];
        ahead.put(&asking, directories("p/", answer(&keys, None)));
        let ttl = Duration::from_secs(60);
        assert!(ahead.take("p/c/", None, ttl).is_some());
        assert!(ahead.take("p/c/", None, ttl).is_none(), "once");
        assert!(ahead.begin(parent).is_none(), "one of four was of use");
        assert!(ahead.take("p/e/", None, ttl).is_some());
        assert!(ahead.begin(parent).is_some());
        tokio::time::advance(PAUSE_LIMIT * 2).await;
        assert!(ahead.begin(parent).is_none(), "another walk");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_a_change_or_its_time_counts_no_more() {
        let ahead = TreeAhead::default();
        let ttl = Duration::from_secs(60);
        let mut parents = 5..;
        let mut put = || {
            let parent = Ino(parents.next().unwrap());
            let begun = (0..=WALK_FROM).map(|_| ahead.begin(parent));
            let asking = begun.last().unwrap().unwrap();
            ahead.put(&asking, directories("p/", answer(&["p/a/1"], None)));
            asking
        };
        let asking = put();
        ahead.changed();
        ahead.put(&asking, directories("p/", answer(&["p/a/1"], None)));
        assert!(ahead.take("p/a/", None, ttl).is_none());
        put();
        assert!(ahead.take("p/a/", Some(Instant::now()), ttl).is_none());
        put();
        tokio::time::advance(ttl).await;
        assert!(ahead.take("p/a/", None, ttl).is_none());
        assert_eq!(ahead.0.lock().entries, 0);
    }

    #[test]
    fn what_is_listed_ahead_is_bounded() {
        let ahead = TreeAhead::default();
        for root in 0..100 {
            let parent = Ino(root);
            for _ in 0..WALK_FROM {
                assert!(ahead.begin(parent).is_none());
            }
            let asking = ahead.begin(parent).unwrap();
            let keys: Vec<_> = (0..1000).map(|n| format!("{root}/d{n}/f")).collect();
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            ahead.put(
                &asking,
                directories(&format!("{root}/"), answer(&keys, None)),
            );
        }
        let state = ahead.0.lock();
        assert!(state.entries <= ENTRIES_LIMIT && state.walks.len() <= WALKS_LIMIT.get());
    }
}
