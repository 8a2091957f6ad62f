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
/// Names whose own answers are compared with pages under way.
const ANSWERED_LIMIT: usize = 1024;

/// The last pages, the oldest first.
#[derive(Debug, Default)]
pub struct ListedPages {
    pages: VecDeque<ListedPage>,
    entries: usize,
    /// Names that were asked for alone, and when, the last one last.
    answered: VecDeque<(Name, Instant)>,
    /// The last time of those that are not in it any more.
    forgotten_at: Option<Instant>,
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
    ///
    /// A page does not tell of names that were asked for alone since it was.
    pub fn add(&mut self, mut page: ListedPage) -> usize {
        if self.forgotten_at > Some(page.asked_at) {
            return self.entries;
        }
        for (name, asked_at) in &self.answered {
            if *asked_at > page.asked_at {
                page.entries.remove(name);
            }
        }
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
        // What the last page tells is no newer than it.
        let last = self.pages.back();
        if last.is_none_or(|page| page.asked_at < asked_at) {
            self.note_answer(name, asked_at);
        }
    }

    fn note_answer(&mut self, name: &Name, asked_at: Instant) {
        if self.answered.len() == ANSWERED_LIMIT
            && let Some((_, oldest)) = self.answered.pop_front()
        {
            self.forgotten_at = self.forgotten_at.max(Some(oldest));
        }
        self.answered.push_back((name.clone(), asked_at));
    }

    pub fn clear(&mut self) {
        self.pages.clear();
        self.entries = 0;
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

    #[tokio::test(start_paused = true)]
    async fn a_page_does_not_tell_of_a_name_that_was_asked_for_since_it_was() {
        let mut pages = ListedPages::default();
        let asked_at = Instant::now();
        let page = || ListedPage {
            asked_at,
            seq: ChangeSeq(0),
            entries: (0..3)
                .map(|number| (name(number), Entry::Directory))
                .collect(),
        };
        pages.correct(&name(0), asked_at);
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
        pages.correct(&name(1), Instant::now());
        pages.add(page());
        assert!(pages.find(&name(0)).is_some());
        assert!(pages.find(&name(1)).is_none());
        pages.clear();
        for _ in 0..5000 {
            pages.correct(&name(7), Instant::now());
        }
        assert_eq!(pages.add(page()), 0, "it may have been any name");
    }
}
