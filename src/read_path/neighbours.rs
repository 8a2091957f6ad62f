//! Which small files to fetch beside the one that is read.
//!
//! A program that copies or searches a directory reads its files in the order of the
//! listing, each a round trip. Once some were read in a row, those that come next are
//! fetched in parallel: ever more of them, as long as most of what was fetched is read.
//! What nobody comes to is counted, and ends it.
//!
//! A file is named by its version as the listing had it: what is fetched for a version
//! that is no more is of use to nobody, and is served to nobody.

use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::store::Key;
use crate::vocabulary::ObjectId;

/// So many files in a row are a walk.
const WALK_FROM: u32 = 2;
/// Several readers may share one, each so much out of order.
const ORDER: usize = 16;
const WINDOW_FIRST: usize = 4;
/// Most files fetched and not read yet, of one directory.
const WINDOW_LIMIT: usize = 32;
/// So many may be fetched in vain before it counts.
const WASTED_TRIED: u32 = 8;
/// One fetched file in this many may stay unread.
const WASTED_SHARE: u32 = 3;
/// After so many files in a row past mistakes count half.
const FORGIVEN_AFTER: u32 = 64;
/// Directories that are read at once. `NonZeroUsize::MIN` is 1.
const WALKS_LIMIT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

#[derive(Debug)]
pub struct Neighbours(Mutex<State>);

#[derive(Debug)]
struct State {
    /// By directory.
    walks: LruCache<u64, DirectoryReads>,
    counts: NeighbourUse,
}

/// Files that were fetched beside others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NeighbourUse {
    pub fetched: u64,
    /// That were read then.
    pub used: u64,
}

#[derive(Debug, Default)]
struct DirectoryReads {
    in_a_row: u32,
    /// The last ones that were read.
    recent: VecDeque<Key>,
    /// The furthest that was read, and those behind it.
    reached: Option<Key>,
    expected: Vec<Key>,
    window: usize,
    /// Fetched, and not read yet.
    pending: BTreeSet<Key>,
    fetched_to: Option<Key>,
    used: u32,
    wasted: u32,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self(Mutex::new(State {
            walks: LruCache::new(WALKS_LIMIT),
            counts: NeighbourUse::default(),
        }))
    }
}

impl Neighbours {
    /// A file of a directory is read from its start. `next` tells of so many small files
    /// that the listing has behind it. Returns what to fetch.
    pub fn read(
        &self,
        directory: u64,
        key: &Key,
        next: impl Fn(usize) -> Vec<ObjectId>,
    ) -> Vec<ObjectId> {
        let mut state = self.0.lock();
        let State { walks, counts } = &mut *state;
        let walk = walks.get_or_insert_mut(directory, DirectoryReads::default);
        let behind: Vec<Key> = next(ORDER).into_iter().map(|it| it.key).collect();
        if walk.arrive(key, &behind) {
            counts.used += 1;
        }
        if walk.reached.as_ref().is_none_or(|reached| reached < key) {
            walk.reached = Some(key.clone());
            walk.expected = behind;
        }
        if !walk.is_worth_it() {
            return Vec::new();
        }
        let fetch = walk.choose(key, next);
        counts.fetched += fetch.len() as u64;
        fetch
    }

    pub fn usage(&self) -> NeighbourUse {
        self.0.lock().counts
    }
}

impl DirectoryReads {
    /// Whether the file was fetched for this walk.
    fn arrive(&mut self, key: &Key, behind: &[Key]) -> bool {
        let is_used = self.pending.remove(key);
        self.used += u32::from(is_used);
        if self.expected.contains(key) {
            self.in_a_row += 1;
            if self.in_a_row.is_multiple_of(FORGIVEN_AFTER) {
                self.used /= 2;
                self.wasted /= 2;
            }
        } else if !is_used
            && !self.recent.contains(key)
            && !self.reached.as_ref().is_some_and(|it| behind.contains(it))
        {
            // It goes on elsewhere.
            self.wasted += self.pending.len() as u32;
            *self = Self {
                used: self.used,
                wasted: self.wasted,
                ..Self::default()
            };
        }
        if self.recent.len() == ORDER {
            self.recent.pop_front();
        }
        self.recent.push_back(key.clone());
        if self.recent.len() == ORDER
            && let Some(passed) = self.recent.iter().min()
        {
            let ahead = self.pending.split_off(passed);
            self.wasted += self.pending.len() as u32;
            self.pending = ahead;
        }
        is_used
    }

    fn is_worth_it(&self) -> bool {
        let judged = self.used + self.wasted;
        let is_wasteful = self.wasted > WASTED_TRIED && self.wasted * WASTED_SHARE > judged;
        self.in_a_row >= WALK_FROM && !is_wasteful
    }

    fn choose(&mut self, key: &Key, next: impl Fn(usize) -> Vec<ObjectId>) -> Vec<ObjectId> {
        self.window = (self.window * 2).clamp(WINDOW_FIRST, WINDOW_LIMIT);
        if self.pending.len() > self.window / 2 {
            return Vec::new();
        }
        let from = self.fetched_to.as_ref().max(Some(key)).cloned();
        let fetch: Vec<ObjectId> = next(self.window + WINDOW_LIMIT)
            .into_iter()
            .filter(|it| Some(&it.key) > from.as_ref())
            .take(self.window - self.pending.len())
            .collect();
        if let Some(last) = fetch.last() {
            self.fetched_to = Some(last.key.clone());
        }
        self.pending.extend(fetch.iter().map(|it| it.key.clone()));
        fetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;

    fn key(number: usize) -> Key {
        Key::new(format!("d/{number:05}"))
    }

    fn object(number: usize) -> ObjectId {
        ObjectId {
            key: key(number),
            etag: ETag::new("e"),
            size_bytes: 10,
        }
    }

    /// Reads a file of a directory of `files`; what is fetched beside it.
    fn read(neighbours: &Neighbours, number: usize, files: usize) -> Vec<Key> {
        let next = |limit| (number + 1..files).take(limit).map(object).collect();
        let fetch = neighbours.read(1, &key(number), next);
        fetch.into_iter().map(|it| it.key).collect()
    }

    #[test]
    fn files_in_a_row_have_their_neighbours_fetched_once_each_and_ever_more_at_once() {
        let neighbours = Neighbours::default();
        let mut ahead = BTreeSet::new();
        let mut longest = 0;
        let mut alone = 0;
        for number in 0..200 {
            alone += usize::from(!ahead.contains(&key(number)));
            let fetch = read(&neighbours, number, 200);
            longest = longest.max(fetch.len());
            for key in fetch {
                assert!(ahead.insert(key), "twice");
            }
        }
        assert!(alone <= 3, "{alone} were waited for alone");
        assert!(longest >= WINDOW_LIMIT / 2, "{longest}");
        let counts = neighbours.usage();
        assert_eq!(counts.fetched, counts.used);
    }

    #[test]
    fn readers_that_share_a_directory_are_one_walk() {
        let neighbours = Neighbours::default();
        let fetched: usize = (0..50)
            .flat_map(|group| [3, 1, 0, 2].map(|at| group * 4 + at))
            .map(|number| read(&neighbours, number, 200).len())
            .sum();
        assert!(fetched > 150, "{fetched}");
        assert!(neighbours.usage().used > 150);
    }

    #[test]
    fn a_random_reader_has_nothing_fetched_and_a_bad_guess_stops() {
        let neighbours = Neighbours::default();
        for at in 0..200 {
            assert!(read(&neighbours, at * 7919 % 10_007, 10_007).len() <= 4);
        }
        assert!(neighbours.usage().fetched < 8, "{:?}", neighbours.usage());
        // Begins in order and then goes elsewhere, again and again.
        let neighbours = Neighbours::default();
        for start in (0..10_000).step_by(100) {
            for number in start..start + 4 {
                read(&neighbours, number, 10_007);
            }
        }
        let counts = neighbours.usage();
        assert!(counts.fetched - counts.used < 30, "{counts:?}");
    }
}
