//! Entries of an open directory, by offset.

use std::sync::Arc;

use super::entry::Entry;
use crate::error::FsError;
use crate::files::{AttributeView, DirHandle, Listed, Snapshot};
use crate::namespace::{
    Namespace, Pin, StreamedEntry, SubtreeLocks, admit_listed, listed_kind, next_entries,
    resume_listing,
};
use crate::session_state::{Record, SessionLog};
use crate::vocabulary::{Ino, Kind};

/// Most entries looked at for one answer: what fits the kernel's buffer is less.
const BATCH_LIMIT: usize = 1024;
/// `.` and `..` come first.
const DOTS: u64 = 2;

/// An entry as readdir(3) tells it.
#[derive(Debug, Clone)]
pub struct DirEntry {
    pub ino: Ino,
    pub kind: Kind,
    pub name: String,
    /// Where reading goes on after this entry.
    pub next_offset: u64,
}

/// An entry together with the attributes, for `.` and `..` without.
#[derive(Debug, Clone)]
pub struct DirEntryPlus {
    pub plain: DirEntry,
    pub entry: Option<Entry>,
}

/// Lists open directories.
#[derive(Debug)]
pub struct DirReader {
    pub namespace: Arc<Namespace>,
    pub subtrees: Arc<SubtreeLocks>,
    pub attributes: Arc<AttributeView>,
    pub session_log: Arc<SessionLog>,
}

impl DirReader {
    /// Entries from an offset on; none at the end. Errors: the store's.
    pub async fn entries(&self, handle: &DirHandle, offset: u64) -> Result<Vec<DirEntry>, FsError> {
        let mut entries = self.begin(handle, offset).await?;
        let mut position = Position::of(offset);
        // An empty answer means the end: one of names that are hidden must not look like it.
        loop {
            let Some(batch) = self.next_batch(handle, &mut position).await? else {
                return Ok(entries);
            };
            for (listed, index) in batch {
                let number = self.namespace.table().number(handle.dir.ino, &listed.name);
                let kind = listed_kind(&self.namespace, &handle.dir, &listed);
                entries.push(DirEntry {
                    kind,
                    ..plain(&listed, index, number)
                });
            }
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// Hands entries on to `take` until it says that the answer is full; each one taken
    /// counts as a reference of the kernel.
    pub async fn give_entries(
        &self,
        handle: &DirHandle,
        offset: u64,
        mut take: impl FnMut(DirEntryPlus) -> BufferSpace,
    ) -> Result<(), FsError> {
        for plain in self.begin(handle, offset).await? {
            if take(DirEntryPlus { plain, entry: None }) == BufferSpace::Full {
                return Ok(());
            }
        }
        let mut taken = 0;
        let mut position = Position::of(offset);
        loop {
            let Some(batch) = self.next_batch(handle, &mut position).await? else {
                return Ok(());
            };
            for (listed, index) in batch {
                let inode = match self.admit(&handle.dir, &listed).await {
                    Ok(Some(inode)) => inode,
                    Ok(None) => continue,
                    // The kernel asks again for what was not taken.
                    Err(error) if taken == 0 => return Err(error),
                    Err(_) => return Ok(()),
                };
                let (attr, validity) = self.attributes.attr(&inode);
                let plain = plain(&listed, index, inode.ino);
                if take(DirEntryPlus {
                    plain,
                    entry: Some(Entry { attr, validity }),
                }) == BufferSpace::Full
                {
                    return Ok(());
                }
                self.namespace.table().add_lookup(inode.ino);
                taken += 1;
            }
            // An empty answer means the end: a batch that went meanwhile must not look like it.
            if taken > 0 {
                return Ok(());
            }
        }
    }

    /// The inode behind a listed entry; none when the name is gone.
    ///
    /// One that is not in the table need not be: a file that was only here when the
    /// listing was asked for is forgotten once it is uploaded.
    async fn admit(&self, dir: &Pin, listed: &StreamedEntry) -> Result<Option<Pin>, FsError> {
        if let Some(inode) = admit_listed(&self.namespace, dir, listed) {
            return Ok(Some(inode));
        }
        match self.namespace.lookup(dir, &listed.name).await {
            Ok(inode) => Ok(Some(inode)),
            Err(FsError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for renames of a predecessor. Returns `.` and `..`, as far as they are asked for.
    ///
    /// Errors: `TimedOut`.
    async fn begin(&self, handle: &DirHandle, offset: u64) -> Result<Vec<DirEntry>, FsError> {
        let dir = handle.dir.ino;
        self.subtrees.inode_settled(dir).await?;
        if offset == 0 {
            self.subtrees.names_settled(dir).await;
        }
        Ok(self.dots(dir, offset))
    }

    fn dots(&self, ino: Ino, offset: u64) -> Vec<DirEntry> {
        let parent = self
            .namespace
            .table()
            .place(ino)
            .map_or(ino, |(parent, _)| parent);
        [(ino, "."), (parent, "..")]
            .into_iter()
            .zip(1..)
            .filter(|(_, next_offset)| *next_offset > offset)
            .map(|((ino, name), next_offset)| DirEntry {
                ino,
                kind: Kind::Directory,
                name: name.to_owned(),
                next_offset,
            })
            .collect()
    }

    /// The next listed entries, each with its index, that are not hidden when it is their
    /// turn: perhaps none, and no batch at the end.
    async fn next_batch(
        &self,
        handle: &DirHandle,
        position: &mut Position,
    ) -> Result<Option<impl Iterator<Item = (StreamedEntry, u64)>>, FsError> {
        let Position { index, restart } = *position;
        let batch = self.listed_from(handle, restart, index).await?;
        *position = Position {
            index: index + batch.len() as u64,
            restart: Restart::GoOn,
        };
        if batch.is_empty() {
            return Ok(None);
        }
        let indexed = batch.into_iter().zip(index..);
        let is_shown = move |(listed, _): &(StreamedEntry, u64)| {
            !self.subtrees.hides(handle.dir.ino, &listed.name)
        };
        Ok(Some(indexed.filter(is_shown)))
    }

    /// Listed entries from an index on, listing further as needed.
    async fn listed_from(
        &self,
        handle: &DirHandle,
        restart: Restart,
        first: u64,
    ) -> Result<Vec<StreamedEntry>, FsError> {
        let first = usize::try_from(first).map_err(|_| FsError::InvalidArgument)?;
        let mut snapshot = handle.snapshot.lock().await;
        let handle_number = handle.id.0;
        // One without entries was listed too.
        let is_begun = snapshot.end || !snapshot.listed.is_empty();
        if restart == Restart::Anew && is_begun {
            *snapshot = Snapshot::of(handle.dir.ino, &self.namespace)?;
            self.session_log.record(|| Record::Rewound {
                handle: handle_number,
            });
        }
        let Snapshot {
            listed,
            stream,
            end,
            recorded,
        } = &mut *snapshot;
        if let Some(listed) = listed.whole_mut() {
            resume_listing(stream, listed, first);
        }
        listed.passed(first);
        if listed.len() < *recorded {
            self.session_log.record(|| Record::Rewound {
                handle: handle_number,
            });
            *recorded = 0;
        }
        self.record_listed(handle_number, listed, recorded, first);
        while listed.len() <= first && !*end {
            match next_entries(&self.namespace, stream).await? {
                Some(entries) => listed.extend(entries),
                None => *end = true,
            }
        }
        let last = first.saturating_add(BATCH_LIMIT).min(listed.len());
        self.record_listed(handle_number, listed, recorded, last);
        Ok(listed.from(first, BATCH_LIMIT))
    }

    /// Tells the successor of names up to an index, those that it was not told of.
    fn record_listed(&self, handle: u64, listed: &Listed, recorded: &mut usize, end: usize) {
        if *recorded >= end || end > listed.len() {
            return;
        }
        self.session_log.record(|| Record::Listed {
            handle,
            names: listed.names(*recorded..end),
        });
        *recorded = end;
    }
}

/// Whether the directory is listed again: rewinddir(3) does, and shows what came since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restart {
    Anew,
    GoOn,
}

/// Where reading stands.
#[derive(Debug, Clone, Copy)]
struct Position {
    /// Of the next entry, without the dots.
    index: u64,
    restart: Restart,
}

impl Position {
    fn of(offset: u64) -> Self {
        Self {
            index: offset.saturating_sub(DOTS),
            restart: match offset {
                0 => Restart::Anew,
                _ => Restart::GoOn,
            },
        }
    }
}

/// Whether an entry fitted the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BufferSpace {
    Yes,
    Full,
}

fn plain(listed: &StreamedEntry, index: u64, ino: Ino) -> DirEntry {
    DirEntry {
        ino,
        kind: listed.kind,
        name: listed.name.as_str().to_owned(),
        next_offset: index + DOTS + 1,
    }
}
