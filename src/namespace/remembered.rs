//! How many entries of listings are remembered, in all directories.

use lru::LruCache;

use crate::vocabulary::Ino;

/// Beyond it the listings that were asked for longest ago go.
const ENTRIES_LIMIT: usize = 200_000;
/// A listing counts as so many entries at least.
const LEAST_ENTRIES: usize = 16;

/// Directories whose listing is remembered, and how long each is.
#[derive(Debug)]
pub struct Remembered {
    lengths: LruCache<Ino, usize>,
    entries: usize,
}

impl Default for Remembered {
    fn default() -> Self {
        Self {
            lengths: LruCache::unbounded(),
            entries: 0,
        }
    }
}

impl Remembered {
    /// A directory's listing has so many entries now. Returns those that are to be forgotten.
    pub fn add(&mut self, dir: Ino, entries: usize) -> Vec<Ino> {
        let entries = entries.max(LEAST_ENTRIES);
        self.entries += entries;
        self.entries -= self.lengths.put(dir, entries).unwrap_or(0);
        let mut over = Vec::new();
        while self.entries > ENTRIES_LIMIT
            && let Some((oldest, entries)) = self.lengths.pop_lru()
        {
            self.entries -= entries;
            over.push(oldest);
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_listings_go_when_all_together_are_too_long() {
        let mut remembered = Remembered::default();
        for number in 0..200 {
            assert!(remembered.add(Ino(number), 1000).is_empty());
        }
        // Asked for again: the youngest.
        assert!(remembered.add(Ino(0), 1000).is_empty());
        assert_eq!(remembered.add(Ino(200), 2000), [Ino(1), Ino(2)]);
        let empty = (1000..20_000).map(|number| remembered.add(Ino(number), 0).len());
        assert!(empty.sum::<usize>() > 6000);
        assert!(remembered.entries <= ENTRIES_LIMIT);
    }
}
