//! The listing of a directory that is under way.

use std::collections::{BTreeMap, HashSet};

use tokio::time::Instant;

use super::dir_entry::{ChangeSeq, Entry};
use super::name::Name;
use super::page::Page;
use super::table::Pin;
use crate::store::{ListProgress, ListToken};
use crate::vocabulary::Kind;

/// One entry as a listing gives it.
#[derive(Debug, Clone)]
pub struct StreamedEntry {
    pub name: Name,
    pub kind: Kind,
    pub(super) source: Source,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    /// In the table, not in the store.
    Local,
    /// A predecessor gave it out, or was about to.
    Before,
    Store {
        entry: Entry,
        asked_at: Instant,
        seq: ChangeSeq,
    },
}

impl StreamedEntry {
    /// An entry that a predecessor listed.
    pub fn given_before(name: Name) -> Self {
        Self {
            name,
            kind: Kind::File,
            source: Source::Before,
        }
    }
}

/// A listing under way.
#[derive(Debug)]
pub struct DirStream {
    pub(super) dir: Pin,
    pub(super) at: Position,
    pub(super) progress: ListProgress,
    /// The last key so far, without what the directory's keys begin with.
    last: String,
    /// Files of the page before whose directory twin may follow.
    pub(super) unsettled: Vec<StreamedEntry>,
    /// Keys of the pages so far that cannot be shown.
    pub(super) hidden: usize,
    /// Names given out that the store may list again.
    pub(super) given: HashSet<Name>,
    /// The pages so far, while they are few enough to be remembered at the end.
    pub(super) pages: Option<Pages>,
}

#[derive(Debug)]
pub(super) struct Pages {
    /// When the first was asked for, and where the directory's log stood.
    pub(super) asked_at: Instant,
    pub(super) seq: ChangeSeq,
    pub(super) entries: BTreeMap<Name, Entry>,
}

#[derive(Debug)]
pub(super) enum Position {
    Start,
    Next(NextPage),
    End,
}

#[derive(Debug)]
pub(super) struct NextPage {
    pub(super) token: ListToken,
    /// What the directory's keys began with when the token was given.
    prefix: String,
}

impl DirStream {
    pub fn new(dir: Pin) -> Self {
        Self {
            dir,
            at: Position::Start,
            progress: ListProgress::default(),
            last: String::new(),
            unsettled: Vec::new(),
            hidden: 0,
            given: HashSet::new(),
            pages: None,
        }
    }

    pub fn dir(&self) -> &Pin {
        &self.dir
    }

    /// Where the listing goes on: a directory that has moved since, behind the last key.
    pub(super) fn next_at(&mut self, next: NextPage, prefix: &str) -> NextPage {
        if next.prefix == prefix {
            return next;
        }
        // A store may fold what lies behind its name into the same directory once more.
        let folded = self.last.strip_suffix('/').and_then(Name::from_segment);
        self.given.extend(folded);
        self.progress = ListProgress::default();
        self.pages = None;
        NextPage {
            token: ListToken::after(&format!("{prefix}{}", self.last)),
            prefix: prefix.to_owned(),
        }
    }
}

pub(super) fn streamed(
    name: Name,
    entry: Entry,
    asked_at: Instant,
    seq: ChangeSeq,
) -> StreamedEntry {
    StreamedEntry {
        name,
        kind: entry.kind(),
        source: Source::Store {
            entry,
            asked_at,
            seq,
        },
    }
}

pub(super) fn stream_unseen(stream: &DirStream, entries: Vec<StreamedEntry>) -> Vec<StreamedEntry> {
    entries
        .into_iter()
        .filter(|entry| !stream.given.contains(&entry.name))
        .collect()
}

/// Takes a page into the stream: what is settled is given out, the rest waits for the next page.
pub(super) fn stream_page(
    stream: &mut DirStream,
    prefix: &str,
    mut page: Page,
    asked_at: Instant,
    seq: ChangeSeq,
) -> Vec<StreamedEntry> {
    let mut waiting = std::mem::take(&mut stream.unsettled);
    let shadowed = waiting.extract_if(.., |file| page.is_directory(&file.name));
    stream.hidden += page.hidden.len() + shadowed.count();
    waiting.retain(|file| !page.entries.contains_key(&file.name));
    let is_settled = |entry: &StreamedEntry| page.is_complete_for(prefix, &entry.name);
    let (mut given, still): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_settled);
    stream.unsettled = still;
    let unsettled = page.take_unsettled(prefix).into_iter();
    stream
        .unsettled
        .extend(unsettled.map(|(name, entry)| streamed(name, entry, asked_at, seq)));
    given.extend(
        page.entries
            .into_iter()
            .map(|(name, entry)| streamed(name, entry, asked_at, seq)),
    );
    if let Some(last) = page
        .last
        .as_deref()
        .and_then(|last| last.strip_prefix(prefix))
    {
        last.clone_into(&mut stream.last);
    }
    let next = page.next.map(|token| NextPage {
        token,
        prefix: prefix.to_owned(),
    });
    stream.at = next.map_or(Position::End, Position::Next);
    stream_unseen(stream, given)
}
