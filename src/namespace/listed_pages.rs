//! What listings of a directory that is too large to be remembered have told lately.
//!
//! Programs read very many names of a directory before they look at the first of them,
//! as fts(3) does for find, chown and rm: each would be asked for by itself.

use std::collections::{BTreeMap, VecDeque};

use tokio::time::Instant;

use super::dir_entry::{ChangeSeq, Entry};
use super::name::Name;
use super::page::Page;

/// fts(3) of the GNU programs reads 100,000 names at once.
const ENTRIES_LIMIT: usize = 110_000;

/// The last pages, the oldest first.
#[derive(Debug, Default)]
pub struct ListedPages {
    pages: VecDeque<ListedPage>,
    entries: usize,
}

/// Entries of which no other page tells.
#[derive(Debug)]
pub struct ListedPage {
    /// When it was asked for, and where the directory's log of changes stood.
    pub asked_at: Instant,
    pub seq: ChangeSeq,
    pub entries: BTreeMap<Name, Entry>,
}

impl ListedPage {
    pub fn of(page: &Page, prefix: &str, (asked_at, seq): (Instant, ChangeSeq)) -> Self {
        let is_settled = |(name, entry): &(&Name, &Entry)| {
            **entry == Entry::Directory || page.is_complete_for(prefix, name)
        };
        let settled = page.entries.iter().filter(is_settled);
        Self {
            asked_at,
            seq,
            entries: settled
                .map(|(name, entry)| (name.clone(), entry.clone()))
                .collect(),
        }
    }
}

impl ListedPages {
    /// Returns how many entries are known by now.
    pub fn add(&mut self, page: ListedPage) -> usize {
        self.entries += page.entries.len();
        self.pages.push_back(page);
        while self.entries > ENTRIES_LIMIT
            && let Some(oldest) = self.pages.pop_front()
        {
            self.entries -= oldest.entries.len();
        }
        self.entries
    }

    /// The last page that has the name, and what it has.
    pub fn find(&self, name: &Name) -> Option<(&ListedPage, &Entry)> {
        let mut last_first = self.pages.iter().rev();
        last_first.find_map(|page| Some((page, page.entries.get(name)?)))
    }

    /// The store was asked for `name` alone: older pages do not tell of it any more.
    pub fn correct(&mut self, name: &Name, asked_at: Instant) {
        let older = self.pages.iter_mut().filter(|it| it.asked_at < asked_at);
        for page in older {
            self.entries -= usize::from(page.entries.remove(name).is_some());
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::from_segment(&format!("{number:06}")).unwrap()
    }

    #[test]
    fn the_oldest_pages_go_and_a_newer_answer_counts() {
        let mut pages = ListedPages::default();
        let page = |from: usize| ListedPage {
            asked_at: Instant::now(),
            seq: ChangeSeq(0),
            entries: (from..from + 1000)
                .map(|number| (name(number), Entry::Directory))
                .collect(),
        };
        let counts: Vec<usize> = (0..200).map(|at| pages.add(page(at * 1000))).collect();
        assert_eq!(counts[199], ENTRIES_LIMIT);
        assert!(pages.find(&name(89_999)).is_none());
        assert!(pages.find(&name(90_000)).is_some());
        assert!(pages.find(&name(199_999)).is_some());
        pages.correct(&name(90_000), Instant::now());
        assert!(pages.find(&name(90_000)).is_none());
        pages.add(page(90_000));
        assert!(pages.find(&name(90_000)).is_some());
        pages.clear();
        assert!(pages.find(&name(90_001)).is_none());
    }
}
