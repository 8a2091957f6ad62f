//! What is known of a directory's entries.

use crate::store::LIST_PAGE_LIMIT;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::dir_entry::{ChangeSeq, Entry, Marker};
use super::listed_pages::{ListedPage, ListedPages};
use super::name::Name;
use crate::error::FsError;
use tokio::time::Instant;

/// Most entries that a remembered listing may have; larger directories are asked name by name.
pub const REMEMBERED_ENTRIES_LIMIT: usize = 20_000;
/// Most local changes that a directory remembers for comparison with listings under way.
const CHANGE_LOG_LIMIT: usize = 256;
/// Most names of a listing that may be doubted; beyond it the listing is forgotten.
const DOUBTED_LIMIT: usize = 4096;

/// Every entry of a directory, as one listing found it and local changes left it.
#[derive(Debug, Clone)]
pub struct Listing {
    /// When the listing was asked for: what changed later is not in it.
    pub asked_at: Instant,
    pub entries: Arc<BTreeMap<Name, Entry>>,
}

/// The last listing that the store did not answer, and when it was asked for: whoever
/// waited for it does not wait as long once more.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Option<(Instant, FsError)>);

impl Unanswered {
    /// Errors: that of a listing that was asked for since.
    pub fn since(&self, began: Instant) -> Result<(), FsError> {
        match &self.0 {
            Some((asked_at, error)) if *asked_at > began => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Asks, and keeps what whoever waits meanwhile needs to know.
    pub async fn ask<T>(
        &mut self,
        listing: impl Future<Output = Result<T, FsError>>,
    ) -> Result<T, FsError> {
        let asked_at = Instant::now();
        let outcome = listing.await;
        let failed = outcome.as_ref().err().filter(|error| error.is_no_answer());
        self.0 = failed.map(|error| (asked_at, error.clone()));
        outcome
    }
}

#[derive(Debug, Default)]
pub struct DirState {
    pub(super) listing_lock: Arc<tokio::sync::Mutex<Unanswered>>,
    marker: Marker,
    marker_changes: u32,
    /// How often it was not deleted though something else was in the directory.
    pub(super) markers_that_stayed: u32,
    /// The log has the keys that cannot be shown and keep the directory from going.
    pub hidden_told: bool,
    /// More entries than fit one page: not worth remembering whole.
    pub large: bool,
    /// Keys that local operations brought into the directory.
    pub arrivals: u64,
    /// When an entry last came or went by our own doing, since the time was last set.
    pub changed_at: Option<SystemTime>,
    /// Sum of the hashes of all names, by the last whole listing and what was done here since.
    pub names: Option<u64>,
    /// What is kept of the directory on disk is known here.
    pub recalled: bool,
    /// Some of the names that the store showed last, and when; less those that went here since.
    pub seen: Option<(Instant, BTreeSet<Name>)>,
    listing: Option<Listing>,
    /// Instead of it where it is too long.
    pub(super) listed_pages: ListedPages,
    /// When it was last forgotten or doubted: what was asked before counts no more.
    pub(super) doubted_at: Option<Instant>,
    /// Names that the store may hold otherwise than the listing says.
    doubted: BTreeSet<Name>,
    next_seq: u64,
    changes: VecDeque<Change>,
}

/// A local change that is in the store.
#[derive(Debug)]
pub struct Change {
    seq: u64,
    name: Name,
    /// What is there since; none where nothing is.
    pub entry: Option<Entry>,
    pub at: Instant,
}

impl DirState {
    pub fn marker(&self) -> Marker {
        self.marker
    }

    pub fn set_marker(&mut self, marker: Marker) {
        self.marker = marker;
        self.marker_changes = self.marker_changes.wrapping_add(1);
    }

    /// Grows whenever what is known of the marker is set, also to the same.
    pub fn marker_changes(&self) -> u32 {
        self.marker_changes
    }

    /// The remembered listing, unless the store has contradicted it.
    pub fn listing(&self) -> Option<&Listing> {
        self.listing.as_ref().filter(|_| self.doubted.is_empty())
    }

    /// The remembered listing, all but true of names that are doubted.
    pub fn last_listing(&self) -> Option<&Listing> {
        self.listing.as_ref()
    }

    /// Whether one page does not tell of every name: they are asked for one by one.
    pub fn is_large(&self) -> bool {
        let several_pages = |listing: &Listing| listing.entries.len() > LIST_PAGE_LIMIT.into();
        self.large || self.listing.as_ref().is_some_and(several_pages)
    }

    /// What was asked for before may be wrong.
    pub fn forget_listing(&mut self) {
        self.doubted_at = Some(Instant::now());
        self.drop_listing();
    }

    /// Evicts it for space. Unlike `forget_listing`, answers under way count.
    pub fn evict_listing(&mut self) {
        self.drop_listing();
    }

    /// It has more entries than are remembered whole: a page that comes counts, what was
    /// remembered does not.
    pub fn grew_large(&mut self) {
        self.large = true;
        self.drop_listing();
    }

    fn drop_listing(&mut self) {
        self.listing = None;
        self.listed_pages.clear();
        self.doubted.clear();
    }

    /// What the listing says of `name` may be wrong: it is to be asked for again.
    pub fn mark_suspect(&mut self, name: &Name) {
        self.doubted_at = Some(Instant::now());
        self.listed_pages.clear();
        if self.doubted.len() == DOUBTED_LIMIT {
            self.forget_listing();
        }
        if self.listing.is_some() {
            self.doubted.insert(name.clone());
        }
    }

    /// Whether what was asked for then counts: nothing has come into doubt since.
    fn counts(&self, asked_at: Instant) -> bool {
        self.doubted_at
            .is_none_or(|doubted_at| asked_at > doubted_at)
    }

    pub fn is_suspect(&self, name: &Name) -> bool {
        self.doubted.contains(name)
    }

    /// What is remembered of a name, when that was asked for, and which changes it is
    /// older than. A page of a large directory's listing tells of what is there alone.
    pub fn remembered(&self, name: &Name) -> Option<(Option<Entry>, Instant, ChangeSeq)> {
        if let Some(listing) = self.listing() {
            let entry = listing.entries.get(name).cloned();
            return Some((entry, listing.asked_at, self.now()));
        }
        let (page, entry) = self.listed_pages.find(name)?;
        let is_current = !self.changed_since(page.seq, name);
        is_current.then(|| (Some(entry.clone()), page.asked_at, page.seq))
    }

    /// Takes the store's answer for one name in. False where a change of it came since:
    /// both under one lock, or the listing would lose a change that comes between.
    pub fn take_answer(
        &mut self,
        name: &Name,
        entry: Option<&Entry>,
        (asked_at, seq): (Instant, ChangeSeq),
    ) -> bool {
        let is_current = !self.changed_since(seq, name);
        if is_current {
            self.correct(name, entry, asked_at);
        }
        is_current
    }

    /// Where the log stands; taken before the store is asked.
    pub fn now(&self) -> ChangeSeq {
        ChangeSeq(self.next_seq)
    }

    /// A local change of `name` is in the store: `entry` is there now, or nothing.
    pub fn record(&mut self, name: &Name, entry: Option<Entry>) {
        if self.changes.len() == CHANGE_LOG_LIMIT {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            seq: self.next_seq,
            name: name.clone(),
            entry: entry.clone(),
            at: Instant::now(),
        });
        self.next_seq += 1;
        self.arrivals += u64::from(entry.is_some());
        if let (None, Some((_, seen))) = (&entry, &mut self.seen) {
            seen.remove(name);
        }
        let Some(listing) = &mut self.listing else {
            return;
        };
        let entries = Arc::make_mut(&mut listing.entries);
        match entry {
            Some(entry) => entries.insert(name.clone(), entry),
            None => entries.remove(name),
        };
        if entries.len() > REMEMBERED_ENTRIES_LIMIT {
            self.grew_large();
        }
    }

    /// The store was asked for `name` alone: an older listing has its answer from now on.
    pub fn correct(&mut self, name: &Name, entry: Option<&Entry>, asked_at: Instant) {
        if self.is_large() {
            self.listed_pages.correct(name, asked_at);
        }
        let Some(listing) = &mut self.listing else {
            return;
        };
        if listing.asked_at >= asked_at || listing.entries.get(name) == entry {
            return;
        }
        let entries = Arc::make_mut(&mut listing.entries);
        match entry {
            Some(entry) => entries.insert(name.clone(), entry.clone()),
            None => entries.remove(name),
        };
        if entries.len() > REMEMBERED_ENTRIES_LIMIT {
            self.grew_large();
        }
    }

    /// Whether `name` may have changed locally since `seq`: an answer of the
    /// store that was asked for at `seq` says nothing about it then.
    pub fn changed_since(&self, seq: ChangeSeq, name: &Name) -> bool {
        let forgotten = self.next_seq - self.changes.len() as u64;
        seq.0 < forgotten
            || self
                .changes
                .iter()
                .any(|change| change.seq >= seq.0 && change.name == *name)
    }

    /// The last change of a name, while the log has it.
    pub fn last_change(&self, name: &Name) -> Option<&Change> {
        self.changes.iter().rfind(|change| change.name == *name)
    }

    /// Remembers a complete listing that was asked for at `seq`, unless local
    /// changes overtook it, or a doubt.
    pub fn remember(&mut self, listing: Listing, seq: ChangeSeq) {
        let is_current = seq == self.now() && self.counts(listing.asked_at);
        if is_current && listing.entries.len() <= REMEMBERED_ENTRIES_LIMIT {
            self.large = false;
            self.doubted.clear();
            self.listed_pages.clear();
            self.listing = Some(listing);
        }
    }

    /// Remembers a page of a listing that may be too long to be remembered, unless a doubt
    /// overtook it. Returns how many entries are known by now.
    pub fn remember_page(
        &mut self,
        asked_at: Instant,
        page: impl FnOnce() -> ListedPage,
    ) -> Option<usize> {
        let counts = self.large && self.counts(asked_at);
        counts.then(|| self.listed_pages.add(page()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_segment(text).unwrap()
    }

    fn empty_listing() -> Listing {
        Listing {
            asked_at: Instant::now(),
            entries: Arc::default(),
        }
    }

    #[test]
    fn a_listing_overtaken_by_a_local_change_is_not_remembered() {
        let mut dir = DirState::default();
        let asked = dir.now();
        dir.record(&name("a"), Some(Entry::Directory));
        dir.remember(empty_listing(), asked);
        assert!(dir.listing().is_none());
        assert!(dir.changed_since(asked, &name("a")));
        assert!(!dir.changed_since(asked, &name("b")));
    }

    #[test]
    fn local_changes_show_in_a_remembered_listing() {
        let mut dir = DirState::default();
        dir.remember(empty_listing(), dir.now());
        dir.record(&name("a"), Some(Entry::Directory));
        assert!(dir.listing().unwrap().entries.contains_key(&name("a")));
        dir.record(&name("a"), None);
        assert!(dir.listing().unwrap().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_answer_for_one_name_shows_in_a_remembered_listing_and_an_older_one_does_not() {
        let mut dir = DirState::default();
        let before = Instant::now();
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        dir.remember(empty_listing(), dir.now());
        dir.correct(&name("a"), Some(&Entry::Directory), before);
        assert!(dir.listing().unwrap().entries.is_empty());
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        dir.correct(&name("a"), Some(&Entry::Directory), Instant::now());
        assert!(dir.listing().unwrap().entries.contains_key(&name("a")));
        dir.correct(&name("a"), None, Instant::now());
        assert!(dir.listing().unwrap().entries.is_empty());
    }

    #[test]
    fn a_doubted_listing_counts_only_where_nobody_can_be_asked() {
        let mut dir = DirState::default();
        dir.mark_suspect(&name("a"));
        dir.remember(empty_listing(), dir.now());
        assert!(dir.listing().is_some(), "it is younger than the doubt");
        dir.mark_suspect(&name("a"));
        assert!(dir.listing().is_none() && dir.last_listing().is_some());
        assert!(dir.is_suspect(&name("a")) && !dir.is_suspect(&name("b")));
        for number in 0..=DOUBTED_LIMIT {
            dir.mark_suspect(&name(&number.to_string()));
        }
        assert!(dir.last_listing().is_none(), "doubts have a bound");
    }

    #[tokio::test(start_paused = true)]
    async fn an_eviction_is_no_doubt_and_ends_none() {
        let a_second = std::time::Duration::from_secs(1);
        let mut dir = DirState::default();
        let before = empty_listing();
        tokio::time::advance(a_second).await;
        dir.remember(empty_listing(), dir.now());
        dir.evict_listing();
        assert!(dir.last_listing().is_none());
        dir.remember(before, dir.now());
        assert!(dir.listing().is_some(), "asked for before the eviction");

        let before = empty_listing();
        tokio::time::advance(a_second).await;
        dir.mark_suspect(&name("a"));
        dir.evict_listing();
        dir.remember(before, dir.now());
        assert!(dir.listing().is_none(), "asked for before the doubt");
    }

    #[test]
    fn a_log_that_forgot_the_asking_counts_every_name_as_changed() {
        let mut dir = DirState::default();
        let asked = dir.now();
        for _ in 0..=CHANGE_LOG_LIMIT {
            dir.record(&name("a"), None);
        }
        assert!(dir.changed_since(asked, &name("never touched")));
    }
}
