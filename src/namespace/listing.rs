//! Listing a directory page by page.

use std::ops::{Bound, RangeInclusive};
use std::sync::Arc;

use tokio::time::Instant;

use super::Namespace;
use super::dir::{DirState, Listing, REMEMBERED_ENTRIES_LIMIT};
use super::dir_entry::{ChangeSeq, Entry};
use super::dir_stream::{
    DirStream, NextPage, Pages, Position, Source, StreamedEntry, stream_page, stream_unseen,
    streamed,
};
use super::inode::Inode;
use super::listed_pages::ListedPage;
use super::lookup::{Asker, FirstPage};
use super::name::Name;
use super::page::Page;
use super::store_answer::StoreAnswer;
use super::table::Pin;
use crate::error::FsError;
use crate::store::{FoldDirectories, ListRequest};
use crate::vocabulary::{Ino, Kind, ObjectId};

/// Entries of a listing that are looked at for some files.
pub(super) const LOOKED_AT_LIMIT: usize = 512;

/// The next entries of a directory, each name once; none at the end.
///
/// Never more than a page and the local entries at a time.
pub async fn next_entries(
    namespace: &Namespace,
    stream: &mut DirStream,
) -> Result<Option<Vec<StreamedEntry>>, FsError> {
    match std::mem::replace(&mut stream.at, Position::End) {
        Position::Start => {
            let mut entries = local_entries(namespace, &stream.dir);
            entries.retain(|entry| !stream.given.contains(&entry.name));
            let names = entries.iter().map(|entry| entry.name.clone());
            stream.given.extend(names);
            match first_entries(namespace, stream).await {
                Ok(first) => entries.extend(first),
                Err(error) => {
                    stream.at = Position::Start;
                    for entry in &entries {
                        stream.given.remove(&entry.name);
                    }
                    return Err(error);
                }
            }
            Ok(Some(entries))
        }
        Position::Next(next) => Ok(Some(entries_after(namespace, stream, next).await?)),
        Position::End => Ok(None),
    }
}

/// Before entries from `first` on are asked for: what a predecessor listed
/// and the kernel has not taken is listed again, the rest is not.
pub fn resume_listing(stream: &mut DirStream, listed: &mut Vec<StreamedEntry>, first: usize) {
    let before = listed.last().map(|entry| &entry.source);
    if !matches!(before, Some(Source::Before)) || !matches!(stream.at, Position::Start) {
        return;
    }
    listed.truncate(first);
    stream.given = listed.iter().map(|entry| entry.name.clone()).collect();
}

fn local_entries(namespace: &Namespace, dir: &Pin) -> Vec<StreamedEntry> {
    let children = namespace.table.children_only_here(dir).into_iter();
    let entries = children.map(|(name, child)| StreamedEntry {
        name,
        kind: child.kind,
        source: Source::Local,
    });
    entries.collect()
}

/// What is there counts for `ttl`, in a listing as by name. What came since shows
/// with the next listing, which a lookup of its name after `negative_ttl` asks for.
async fn first_entries(
    namespace: &Namespace,
    stream: &mut DirStream,
) -> Result<Vec<StreamedEntry>, FsError> {
    let dir = stream.dir.clone();
    let ttl = namespace.coherence().ttl;
    let young = |asked_at: Instant| asked_at.elapsed() < ttl;
    if let Some(entries) = listed(&dir, DirState::listing, young) {
        return Ok(stream_unseen(stream, entries));
    }
    let usable = |asked_at| namespace.validity.is_usable(asked_at);
    let known = || listed(&dir, DirState::last_listing, usable).map(Ok);
    let asked = list_first(namespace, stream);
    let entries = namespace.validity.or_last_known(asked, known).await?;
    Ok(stream_unseen(stream, entries))
}

async fn list_first(
    namespace: &Namespace,
    stream: &mut DirStream,
) -> Result<Vec<StreamedEntry>, FsError> {
    let began = Instant::now();
    let dir = &stream.dir;
    let turn = dir.listing_lock();
    let mut turn = turn.lock().await;
    if let Some(entries) = listed(dir, DirState::listing, |asked_at| asked_at >= began) {
        return Ok(entries);
    }
    turn.since(began)?;
    let FirstPage {
        page,
        prefix,
        asked_at,
        seq,
    } = turn.ask(namespace.first_page(dir, Asker::Listing)).await?;
    drop(turn);
    note_page(namespace, &stream.dir, &prefix, &page, (asked_at, seq));
    stream.pages = page.next.is_some().then(|| Pages {
        asked_at,
        seq,
        entries: page.entries.clone(),
    });
    Ok(stream_page(stream, &prefix, page, asked_at, seq))
}

/// A remembered listing, if the time when it was asked for is good enough.
fn listed(
    dir: &Inode,
    remembered: fn(&DirState) -> Option<&Listing>,
    good: impl Fn(Instant) -> bool,
) -> Option<Vec<StreamedEntry>> {
    let state = dir.state();
    let Listing { asked_at, entries } = remembered(&state.dir)?;
    let seq = state.dir.now();
    good(*asked_at).then(|| {
        let entries = entries.iter();
        entries
            .map(|(name, entry)| streamed(name.clone(), entry.clone(), *asked_at, seq))
            .collect()
    })
}

/// None where the directory has moved meanwhile: it is asked again where it is now.
async fn entries_after(
    namespace: &Namespace,
    stream: &mut DirStream,
    next: NextPage,
) -> Result<Vec<StreamedEntry>, FsError> {
    let (asked_at, seq) = (Instant::now(), stream.dir.state().dir.now());
    let prefix = namespace.prefix_of(&stream.dir)?;
    let next = stream.next_at(next, &prefix);
    let token = Some(next.token.clone());
    let request = ListRequest::page(prefix.as_str(), FoldDirectories::Yes, token);
    let listed = namespace.store.list(request).await;
    if !namespace.is_still_at(&stream.dir, &prefix)? {
        stream.at = Position::Next(next);
        return Ok(Vec::new());
    }
    let listed = listed.and_then(|answer| {
        stream.progress.step(&prefix, &answer)?;
        Ok(answer)
    });
    // What failed is asked for again: it is not the end of the directory.
    let answer = listed.inspect_err(|_| stream.at = Position::Next(next))?;
    let page = Page::new(&prefix, answer);
    remember_pages(namespace, stream, &page);
    note_page(namespace, &stream.dir, &prefix, &page, (asked_at, seq));
    let given = stream_page(stream, &prefix, page, asked_at, seq);
    let is_end = matches!(stream.at, Position::End);
    namespace.hidden.count(&stream.dir, stream.hidden, is_end);
    Ok(given)
}

/// Remembers a listing of several pages once its last one is there.
fn remember_pages(namespace: &Namespace, stream: &mut DirStream, page: &Page) {
    let Some(mut pages) = stream.pages.take() else {
        return;
    };
    for (name, entry) in &page.entries {
        match entry {
            // A directory stands for itself and for an object of the same name.
            Entry::Directory => {
                pages.entries.insert(name.clone(), Entry::Directory);
            }
            Entry::File(_) => {
                let known = pages.entries.entry(name.clone());
                known.or_insert_with(|| entry.clone());
            }
        }
    }
    if pages.entries.len() > REMEMBERED_ENTRIES_LIMIT {
        return;
    }
    if page.next.is_some() {
        stream.pages = Some(pages);
        return;
    }
    namespace
        .directories
        .note_names(&stream.dir, pages.entries.iter(), pages.seq);
    let entries = pages.entries.len();
    let listing = Listing {
        asked_at: pages.asked_at,
        entries: Arc::new(pages.entries),
    };
    stream.dir.state().dir.remember(listing, pages.seq);
    namespace.listing_remembered(stream.dir.ino, entries);
}

/// Keeps a page of a directory whose listing may be too long to be remembered.
fn note_page(
    namespace: &Namespace,
    dir: &Pin,
    prefix: &str,
    page: &Page,
    asked: (Instant, ChangeSeq),
) {
    let listed = || ListedPage::of(page, prefix, asked);
    let count = dir.state().dir.remember_page(asked.0, listed);
    if let Some(count) = count {
        namespace.listing_remembered(dir.ino, count);
    }
}

/// The inode behind a listed entry; none when it went meanwhile.
///
/// Only where attributes are not stored with objects: no listing tells them.
pub fn admit_listed(namespace: &Namespace, dir: &Pin, listed: &StreamedEntry) -> Option<Pin> {
    let Source::Store {
        entry,
        asked_at,
        seq,
    } = &listed.source
    else {
        return admit_changed(namespace, dir, &listed.name);
    };
    if dir.state().dir.changed_since(*seq, &listed.name) {
        return admit_changed(namespace, dir, &listed.name);
    }
    let answer = StoreAnswer {
        entry: Some(entry.clone()),
        described: None,
        asked_at: *asked_at,
        seq: *seq,
    };
    namespace.reconcile(dir, &listed.name, &answer).ok()
}

/// The inode behind a name that our own doing last changed: one that nobody
/// holds on to leaves the table once the store has its file.
fn admit_changed(namespace: &Namespace, dir: &Pin, name: &Name) -> Option<Pin> {
    if let Some(child) = namespace.table.child(dir.ino, name) {
        return Some(child);
    }
    let (entry, asked_at, seq) = {
        let state = dir.state();
        let change = state.dir.last_change(name)?;
        (change.entry.clone()?, change.at, state.dir.now())
    };
    let answer = StoreAnswer {
        entry: Some(entry),
        described: None,
        asked_at,
        seq,
    };
    namespace.reconcile(dir, name, &answer).ok()
}

/// What a listed entry is, as far as that is known: a symlink that was never
/// looked at is taken for a file.
pub fn listed_kind(namespace: &Namespace, dir: &Pin, listed: &StreamedEntry) -> Kind {
    let Source::Store {
        entry: Entry::File(version),
        ..
    } = &listed.source
    else {
        return listed.kind;
    };
    if let Some(child) = namespace.table.child(dir.ino, &listed.name) {
        let remote = child.state().remote.clone();
        if remote.is_none_or(|remote| remote.etag == version.etag) {
            return child.kind;
        }
    }
    let cache = namespace.attribute_cache.as_ref();
    let key = namespace.child_key(dir.ino, &listed.name).ok();
    let known = cache
        .zip(key)
        .and_then(|(cache, key)| cache.kind(&key, version));
    known.unwrap_or(listed.kind)
}

/// The first files of these sizes that the listing of a directory has after a name, in
/// its order; none where none counts as true. Others between them are passed over, but
/// not without end.
pub fn files_after(
    namespace: &Namespace,
    (dir, name): (Ino, &Name),
    sizes: &RangeInclusive<u64>,
    limit: usize,
) -> Vec<ObjectId> {
    let ttl = namespace.coherence().ttl;
    let entries = namespace.table.get(dir).ok().and_then(|dir| {
        let state = dir.state();
        let listing = state.dir.listing()?;
        (listing.asked_at.elapsed() < ttl).then(|| listing.entries.clone())
    });
    let (Some(entries), Ok(path)) = (entries, namespace.table.dir_path(dir)) else {
        return Vec::new();
    };
    let after = (Bound::Excluded(name), Bound::Unbounded);
    let looked_at = entries.range::<Name, _>(after).take(LOOKED_AT_LIMIT);
    let files = looked_at.filter_map(|(name, entry)| match entry {
        Entry::File(version) if sizes.contains(&version.size_bytes) => {
            Some(version.at(namespace.keys.file_key(&path, name).ok()?))
        }
        Entry::File(_) | Entry::Directory => None,
    });
    files.take(limit).collect()
}
