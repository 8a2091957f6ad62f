//! Looking names up: remembered answers first, then the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::dir::Listing;
use super::dir_entry::{ChangeSeq, Entry, Marker};
use super::inode::LocalState;
use super::name::Name;
use super::page::Page;
use super::store_answer::{StoreAnswer, ask_by_name, describe, known_attributes};
use super::table::Pin;
use super::tree_ahead::directories;
use super::{Coherence, Namespace};
use crate::error::FsError;
use crate::store::{FoldDirectories, ListRequest, ListToken};
use crate::vocabulary::Kind;

/// Below this ttl a name is asked for by itself: a listing would not live to answer a second one.
pub(super) const LIST_FROM_TTL: Duration = Duration::from_secs(1);
/// Times that an answer overtaken by local changes is asked for again.
const ASK_AGAIN_LIMIT: usize = 8;

/// Who wants to know what is in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    Listing,
    /// Of one name, which may be absent.
    Lookup,
}

/// The first page of a directory's listing.
pub(super) struct FirstPage {
    pub page: Page,
    /// What the directory's keys begin with.
    pub prefix: String,
    pub asked_at: Instant,
    pub seq: ChangeSeq,
}

impl Namespace {
    /// The inode behind a name. Errors: `NotFound`, `NameTooLong`, and the store's.
    pub async fn lookup(&self, parent: &Pin, name: &Name) -> Result<Pin, FsError> {
        if let Some(child) = self.fresh_child(parent, name) {
            return Ok(child);
        }
        self.child_key(parent.ino, name)?;
        let known = || self.known_child(parent, name);
        self.validity
            .or_last_known(self.look_up(parent, name), known)
            .await
    }

    async fn look_up(&self, parent: &Pin, name: &Name) -> Result<Pin, FsError> {
        for _ in 0..ASK_AGAIN_LIMIT {
            let prefix = self.prefix_of(parent)?;
            let answer = self.look_up_in_store(parent, name).await?;
            let answer = describe(self, parent, name, answer).await?;
            if !self.is_still_at(parent, &prefix)? {
                continue;
            }
            let asked = (answer.asked_at, answer.seq);
            let entry = answer.entry.as_ref();
            let mut state = parent.state();
            let dir = state.dir.if_set();
            let is_current = dir.is_none_or(|dir| dir.take_answer(name, entry, asked));
            drop(state);
            if is_current {
                return self.reconcile(parent, name, &answer);
            }
            if let Some(child) = self.fresh_child(parent, name) {
                return Ok(child);
            }
        }
        self.table.child(parent.ino, name).ok_or(FsError::NOT_FOUND)
    }

    /// Asks the store again if what is known of the inode is older than the ttl.
    ///
    /// Returns false when the inode does not stand for its name any more: it
    /// was removed or replaced by another client.
    pub async fn revalidate(&self, inode: &Pin) -> Result<bool, FsError> {
        if self.is_fresh(inode) {
            return Ok(true);
        }
        let Some((parent, name)) = self.table.place(inode.ino) else {
            return Ok(true);
        };
        let parent = self.table.get(parent)?;
        match self.lookup(&parent, &name).await {
            Ok(found) => Ok(found.ino == inode.ino),
            Err(FsError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn fresh_child(&self, parent: &Pin, name: &Name) -> Option<Pin> {
        let child = self.table.child(parent.ino, name)?;
        self.is_fresh(&child).then_some(child)
    }

    /// What was last known of a name, if that is still usable.
    pub(super) fn known_child(&self, parent: &Pin, name: &Name) -> Option<Result<Pin, FsError>> {
        if let Some(child) = self.table.child(parent.ino, name) {
            let last_confirmed_at = {
                let state = child.state();
                state.checked_at.or(state.last_confirmed_at)
            };
            if last_confirmed_at.is_some_and(|at| self.validity.is_usable(at)) {
                return Some(Ok(child));
            }
        }
        let (asked_at, entry, seq) = {
            let state = parent.state();
            let listing = state.dir.last_listing()?;
            if state.dir.is_suspect(name) {
                return None;
            }
            let entry = listing.entries.get(name).cloned();
            (listing.asked_at, entry, state.dir.now())
        };
        // With a shorter ttl names are asked for one by one: a listing may be
        // older than what was last seen.
        let is_latest = self.coherence().ttl >= LIST_FROM_TTL;
        if !self.validity.is_usable(asked_at) || (entry.is_none() && !is_latest) {
            return None;
        }
        let described = match &entry {
            Some(Entry::File(version)) if self.stores_attributes() => {
                Some(known_attributes(self, parent, name, version)?)
            }
            _ => None,
        };
        let answer = StoreAnswer {
            entry,
            described,
            asked_at,
            seq,
        };
        Some(self.reconcile(parent, name, &answer))
    }

    async fn look_up_in_store(&self, parent: &Pin, name: &Name) -> Result<StoreAnswer, FsError> {
        let began = Instant::now();
        if let Some(answer) = self.remembered(parent, name, None) {
            return Ok(answer);
        }
        if parent.state().dir.is_large() || self.coherence().ttl < LIST_FROM_TTL {
            return ask_by_name(self, parent, name).await;
        }
        let turn = parent.listing_lock();
        let mut turn = turn.lock().await;
        if let Some(answer) = self.remembered(parent, name, Some(began)) {
            return Ok(answer);
        }
        turn.since(began)?;
        let first = turn.ask(self.first_page(parent, Asker::Lookup)).await?;
        drop(turn);
        if first.page.is_complete_for(&first.prefix, name) {
            return Ok(StoreAnswer {
                entry: first.page.entries.get(name).cloned(),
                described: None,
                asked_at: first.asked_at,
                seq: first.seq,
            });
        }
        ask_by_name(self, parent, name).await
    }

    /// The answer of the remembered listing, if it is young enough or was asked for since `began`.
    fn remembered(&self, parent: &Pin, name: &Name, began: Option<Instant>) -> Option<StoreAnswer> {
        let (entry, asked_at, seq) = parent.state().dir.remembered(name)?;
        let ttl = if entry.is_some() {
            self.coherence().ttl
        } else {
            self.coherence().negative_ttl
        };
        let young = asked_at.elapsed() < ttl;
        let since = began.is_some_and(|began| asked_at >= began);
        (young || since).then_some(StoreAnswer {
            entry,
            described: None,
            asked_at,
            seq,
        })
    }

    /// What the keys of a directory begin with.
    pub(super) fn prefix_of(&self, dir: &Pin) -> Result<String, FsError> {
        Ok(self.keys.dir_prefix(&self.table.dir_path(dir.ino)?))
    }

    /// Whether the keys of a directory are what they were when the store was asked: once
    /// it has moved, the answer is of a place where nothing is any more.
    pub(super) fn is_still_at(&self, dir: &Pin, prefix: &str) -> Result<bool, FsError> {
        Ok(self.prefix_of(dir)? == prefix)
    }

    /// First page of a directory's listing; remembered when it is the only one.
    pub(super) async fn first_page(&self, dir: &Pin, asker: Asker) -> Result<FirstPage, FsError> {
        for _ in 0..ASK_AGAIN_LIMIT {
            // Before the path is known: what has moved since was asked for before.
            let (began, seq) = (Instant::now(), dir.state().dir.now());
            let prefix = self.prefix_of(dir)?;
            let (page, asked_at) = match self.page_ahead(dir, &prefix, asker).await? {
                Some(listed) => listed,
                None => {
                    let request = ListRequest::page(prefix.as_str(), FoldDirectories::Yes, None);
                    (Page::new(&prefix, self.store.list(request).await?), began)
                }
            };
            if self.is_still_at(dir, &prefix)? {
                self.note_first_page(dir, &page, (asked_at, seq));
                return Ok(FirstPage {
                    page,
                    prefix,
                    asked_at,
                    seq,
                });
            }
        }
        Err(FsError::STALE)
    }

    fn note_first_page(&self, dir: &Pin, page: &Page, (asked_at, seq): (Instant, ChangeSeq)) {
        self.hidden.note(dir, page);
        if page.next.is_none() {
            self.directories.note_names(dir, page.entries.iter(), seq);
        }
        let mut state = dir.state();
        if seq == state.dir.now() && page.marker != Marker::Unknown {
            state.dir.set_marker(page.marker);
        }
        if page.next.is_none() {
            let entries = Arc::new(page.entries.clone());
            state.dir.remember(Listing { asked_at, entries }, seq);
        } else {
            state.dir.grew_large();
        }
        drop(state);
        if page.next.is_none() {
            self.listing_remembered(dir.ino, page.entries.len());
        }
    }

    /// A directory that was listed ahead of a walk, or that begins what is listed so now.
    async fn page_ahead(
        &self,
        dir: &Pin,
        prefix: &str,
        asker: Asker,
    ) -> Result<Option<(Page, Instant)>, FsError> {
        let Coherence {
            ttl, negative_ttl, ..
        } = self.coherence();
        let max_age = match asker {
            Asker::Listing => ttl,
            Asker::Lookup => ttl.min(negative_ttl),
        };
        if ttl < LIST_FROM_TTL {
            return Ok(None);
        }
        let doubted_at = dir.state().dir.doubted_at;
        let listed = self.tree_ahead.take(prefix, doubted_at, max_age);
        if listed.is_some() || asker == Asker::Lookup {
            return Ok(listed);
        }
        let Some((parent, _)) = self.table.place(dir.ino) else {
            return Ok(None);
        };
        let Some(asking) = self.tree_ahead.begin(parent) else {
            return Ok(None);
        };
        let root = self.keys.dir_prefix(&self.table.dir_path(parent)?);
        let after = Some(ListToken::after(prefix));
        let request = ListRequest::page(root.as_str(), FoldDirectories::No, after);
        let answer = self.store.list(request).await?;
        self.tree_ahead.put(&asking, directories(&root, answer));
        Ok(self.tree_ahead.take(prefix, doubted_at, max_age))
    }

    /// Makes the table agree with what the store said of a name, unless it has
    /// said more since.
    ///
    /// An inode in use whose object was replaced loses its name and keeps its
    /// version, as after a rename over it: no reader ever mixes two versions.
    pub(super) fn reconcile(
        &self,
        parent: &Pin,
        name: &Name,
        answer: &StoreAnswer,
    ) -> Result<Pin, FsError> {
        if let Some(child) = self.table.child(parent.ino, name) {
            let overtaken = {
                let state = child.state();
                state.local.is_some() || state.checked_at > Some(answer.asked_at)
            };
            let stands = overtaken || self.still_stands(&child, answer);
            // What the store does not have stands by what is below it here.
            if overtaken || (stands && answer.kind().is_none()) {
                return Ok(child);
            }
            if !stands {
                tracing::debug!(
                    ino = child.ino.0,
                    ?name,
                    "removed or replaced by another client"
                );
                self.unlink_local(&child);
            }
        }
        let kind = answer.kind().ok_or(FsError::NOT_FOUND)?;
        let child = self.table.child_or_new(parent.ino, name, kind)?;
        self.directories.recall(&child);
        let mut state = child.state();
        match &answer.entry {
            Some(Entry::File(version)) if state.local.is_none() => {
                state.adopt(version, answer.described.as_ref(), answer.asked_at);
            }
            Some(Entry::File(_)) | None => {}
            Some(Entry::Directory) => {
                state.adopt_directory(answer.described.as_ref(), answer.asked_at);
            }
        }
        drop(state);
        Ok(child)
    }

    /// Whether the inode may go on standing for its name, given what the store has there.
    fn still_stands(&self, child: &Pin, answer: &StoreAnswer) -> bool {
        let Some(kind) = answer.kind() else {
            return child.kind == Kind::Directory && self.table.has_local_below(child);
        };
        let same_bytes = match &answer.entry {
            // Of which version a predecessor told the kernel does not matter:
            // whoever has the file open was told of with it.
            Some(Entry::File(version)) => child
                .state()
                .remote
                .as_ref()
                .is_none_or(|known| known.etag == version.etag),
            Some(Entry::Directory) | None => true,
        };
        child.kind == kind && (same_bytes || !self.table.is_pinned_elsewhere(child.ino))
    }

    /// Registers a name that exists here only until it is uploaded.
    ///
    /// Errors: `Exists`, `NameTooLong`.
    pub fn create_local(&self, parent: &Pin, name: &Name, kind: Kind) -> Result<Pin, FsError> {
        self.child_key(parent.ino, name)?;
        let local = match kind {
            Kind::Directory => LocalState::BareDirectory,
            _ => LocalState::Staged { size_bytes: 0 },
        };
        let pin = self.table.child_or_new(parent.ino, name, kind)?;
        self.directories.forget(&pin);
        pin.state().local = Some(local);
        Ok(pin)
    }
}
