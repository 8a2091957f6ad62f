//! What is known, since when, and what makes it unknown: inodes on one side, keys on
//! the other.
//!
//! Owns: the inode table, what the store is known to hold and since when,
//! looking names up, listing directories, directory markers. `Namespace` has what is
//! known and looks names up; listings, markers and stored attributes are functions of it.
//! Must not know: bytes of files, handles, FUSE.
//!
//! **Three sources.** A name is answered from the first of these that may answer:
//!
//! 1. *Local state* (`LocalState`): a file with staged bytes, a directory that no key
//!    makes exist. It is true until it is uploaded or removed; no request is needed.
//! 2. *Memory*: the inode (`remote`, confirmed at `checked_at`), or the directory's
//!    remembered listing (`dir`, asked at `asked_at`). What is there counts for `ttl`,
//!    in a listing of the directory too; what is not there for `negative_ttl`.
//! 3. *The store*: one listing page of the directory, which answers for every name of
//!    it at once; or, for a directory known to be large or with a short ttl, one HEAD
//!    and one LIST of the name. `listing_lock` lets one page be asked for, and whoever
//!    waited for it takes its answer, or that there was none.
//!
//! ```text
//!              asked                     ttl over
//!   unknown ─────────▶ confirmed ───────────────────▶ to be asked again
//!      ▲                 │  ▲                              │
//!      │ another client  │  └──────── asked ───────────────┤
//!      └─────────────────┘                                 │ S3 does not serve
//!         (ETag differs: content generation + 1)           ▼
//!                                           last known, for `stale_ttl` (`validity`)
//! ```
//!
//! **An answer is never older than a change.** A request that was sent before a change
//! of the same name can be answered after it. Each change of a directory takes a number
//! (`seq`), each answer carries the number at which it was asked, and an answer from
//! before a change of its name is dropped and asked for again.
//!
//! **What makes it unknown.** `mark_suspect` (a request that got no answer may have
//! changed the name), `invalidate` (a reader found another version), an answer with
//! another ETag, and the ttl. What the kernel was told is withdrawn by notification
//! (`Invalidations`), or ends with the validity that each reply states.
//!
//! **No answer is never "nothing".** An outage, a timeout or a refusal leaves what was
//! known as it was; only a whole answer of the store makes a name absent.
//!
//! **A walk** of a tree asks for directory after directory. Once some of one parent were
//! listed in a row, the keys of the parent's tree are listed instead, and each page
//! answers for every directory that lies in it whole (`tree_ahead`).
//!
//! **Attributes.** A listing does not carry metadata. With stored attributes each version
//! (key, ETag, Last-Modified) is asked for once and kept on disk (`attribute_cache`); a
//! version that is younger than two seconds is not kept, since a copy onto itself has
//! the same ETag and may have the same second.
//!
//! **Inode numbers** are derived from parent and name (`numbers`), so that they are the
//! same after the kernel forgot them and after a remount; a number that is taken gets
//! the next free one, which is kept in `name_store`.
//!
//! **Memory** has a bound but for the names themselves. An inode is *awake* while somebody
//! uses it or more is known of it than the store tells; of the others the oldest go
//! dormant, as those of a predecessor are (`restore`). Listings are remembered up to so
//! many entries in all (`remembered`).
//!
//! Lock order: table, then one inode's state. A directory's `listing_lock` is the only
//! lock held across a request; nothing else is taken while waiting for it. `coherence`
//! is taken for a copy, with any of them held.

mod attribute_cache;
mod attributes;
mod checked;
mod dir;
mod dir_entry;
mod dir_stream;
mod directory_record;
mod entries;
mod hidden;
mod inner;
mod inode;
mod invalidation;
mod kept_database;
mod keyspace;
mod listed_pages;
mod listing;
mod lookup;
mod marker;
mod name;
mod name_store;
mod numbers;
mod page;
mod rare;
mod refresh;
mod remembered;
mod restore;
mod slot;
mod store_answer;
mod stored_attributes;
mod subtree_locks;
mod table;
mod tree_ahead;
mod validity;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use attribute_cache::{AttributeCache, AttributeCacheError};
pub use attributes::Attributes;
pub use dir_entry::{Entry, Marker};
pub use dir_stream::{DirStream, StreamedEntry};
pub use directory_record::{DirectoryRecords, EntryChange, shown_of};
pub use hidden::HiddenKeys;
pub use inode::{Inode, InodeState, LocalState};
pub use invalidation::{Invalidation, Invalidations};
pub use keyspace::{DirPath, KeySpace};
pub use listing::{admit_listed, files_after, listed_kind, next_entries, resume_listing};
pub use marker::{
    BeforeStoring, DirMarkers, before_entry_removed, check_emptied, check_empty, entry_added,
    persist_directory, put_marker, put_marker_object, remove_marker, remove_marker_last,
    store_directory_attributes,
};
pub use name::{NAME_LIMIT_BYTES, Name};
pub use name_store::{NameStore, Session};
pub use numbers::Numbers;
pub use page::{HiddenKey, Page, SHADOWED, is_scratch};
pub use refresh::forget_below;
pub use stored_attributes::{
    Asked, ask_attributes, learn_attributes, record_attributes, record_copied, relearn_attributes,
    stored_version, take_attributes,
};
pub use subtree_locks::{Hold, SubtreeGuard, SubtreeLocks, Target};
pub use table::{InodeTable, Pin};
pub use validity::Coherence;

use parking_lot::Mutex;
use tokio::time::Instant;

use remembered::Remembered;
use tree_ahead::TreeAhead;
use validity::Validity;

use crate::error::FsError;
use crate::session_state::SessionLog;
use crate::store::{Key, LateChanges, ObjectStore, StoreHealth};
use crate::vocabulary::{Ino, Kind, ObjectVersion, ROOT};

/// The store behind the names, and what its requests tell of it.
#[derive(Debug)]
pub struct Origin {
    pub store: Arc<dyn ObjectStore>,
    pub health: StoreHealth,
    /// What it can do.
    pub late: LateChanges,
}

/// The mounted part of a bucket as a tree of names.
#[derive(Debug)]
pub struct Namespace {
    store: Arc<dyn ObjectStore>,
    keys: KeySpace,
    validity: Validity,
    markers: DirMarkers,
    late: LateChanges,
    table: Arc<InodeTable>,
    invalidations: Invalidations,
    /// Present where attributes are stored with objects.
    attribute_cache: Option<AttributeCache>,
    kept: Arc<NameStore>,
    remembered: Mutex<Remembered>,
    hidden: HiddenKeys,
    directories: DirectoryRecords,
    tree_ahead: TreeAhead,
}

impl Namespace {
    pub fn new(
        origin: Origin,
        keys: KeySpace,
        coherence: Coherence,
        markers: DirMarkers,
        invalidations: Invalidations,
        (attribute_cache, kept): (Option<AttributeCache>, Arc<NameStore>),
        session_log: Arc<SessionLog>,
    ) -> Self {
        let numbers = Numbers::new(kept.clone());
        let table = InodeTable::new(session_log, numbers, invalidations.clone());
        let table = Arc::new(table);
        Self {
            hidden: HiddenKeys::new(origin.store.clone(), keys.clone(), table.clone()),
            directories: DirectoryRecords::new(
                table.clone(),
                kept.clone(),
                attribute_cache.is_some(),
            ),
            store: origin.store,
            keys,
            validity: Validity::new(coherence, origin.health),
            markers,
            late: origin.late,
            table,
            kept,
            invalidations,
            attribute_cache,
            remembered: Mutex::default(),
            tree_ahead: TreeAhead::default(),
        }
    }

    /// Whether attributes are stored with objects.
    pub fn stores_attributes(&self) -> bool {
        self.attribute_cache.is_some()
    }

    pub fn table(&self) -> &Arc<InodeTable> {
        &self.table
    }

    pub fn keys(&self) -> &KeySpace {
        &self.keys
    }

    /// Keys that cannot be shown.
    pub fn hidden(&self) -> &HiddenKeys {
        &self.hidden
    }

    /// What is kept of directories.
    pub fn directories(&self) -> &DirectoryRecords {
        &self.directories
    }

    pub fn coherence(&self) -> Coherence {
        self.validity.coherence()
    }

    /// From now on; what is known already is judged by it too.
    pub fn set_coherence(&self, coherence: Coherence) {
        self.validity.set_coherence(coherence);
    }

    /// Errors: `Stale` when the number refers to nothing.
    pub fn inode(&self, ino: Ino) -> Result<Pin, FsError> {
        self.table.get(ino)
    }

    /// A directory by number. Errors: `Stale`, `NotADirectory`.
    pub fn directory(&self, ino: Ino) -> Result<Pin, FsError> {
        let pin = self.table.get(ino)?;
        if pin.kind == Kind::Directory {
            Ok(pin)
        } else {
            Err(FsError::NotADirectory)
        }
    }

    /// Key of the object behind a file. Errors: `NotFound` when it has no name any more.
    pub fn file_key(&self, file: Ino) -> Result<Key, FsError> {
        let (parent, name) = self.table.place(file).ok_or(FsError::NOT_FOUND)?;
        self.child_key(parent, &name)
    }

    /// Key of the object `name` in a directory. Errors: `NotFound`, `NameTooLong`.
    pub fn child_key(&self, dir: Ino, name: &Name) -> Result<Key, FsError> {
        self.keys.file_key(&self.table.dir_path(dir)?, name)
    }

    /// Whether what is known of an inode counts as true; what is here only always does.
    pub fn is_fresh(&self, inode: &Inode) -> bool {
        inode.ino == ROOT
            || inode.state().local.is_some()
            || self.remaining_ttl(inode) > Duration::ZERO
    }

    /// How much longer an inode's attributes count as true.
    pub fn remaining_ttl(&self, inode: &Inode) -> Duration {
        if inode.ino == ROOT {
            return self.coherence().ttl;
        }
        let state = inode.state();
        if state.local.is_some() {
            return self.coherence().ttl;
        }
        let Some(checked_at) = state.checked_at else {
            return Duration::ZERO;
        };
        self.coherence().ttl.saturating_sub(checked_at.elapsed())
    }

    /// The store holds `version` under the file's name now, by our own doing.
    pub fn record_uploaded(&self, file: &Inode, version: ObjectVersion) {
        {
            let mut state = file.state();
            state.remote = Some(version.clone());
            state.mtime_is_ours = true;
            state.settled = false;
            state.own_stores = state.own_stores.wrapping_add(1);
            state.checked_at = Some(Instant::now());
        }
        if let Some((parent, name)) = self.table.place(file.ino) {
            self.record(parent, &name, Some(Entry::File(version)));
        }
    }

    /// A local change of `name` in `dir` is in the store.
    pub fn record(&self, dir: Ino, name: &Name, entry: Option<Entry>) {
        self.tree_ahead.changed();
        if let Ok(dir) = self.table.get(dir) {
            dir.state().dir.record(name, entry);
        }
    }

    /// The time of directories of which nothing else is known.
    pub fn begun_at(&self) -> SystemTime {
        self.kept.begun_at()
    }

    /// Keeps the memory of listings bounded: the oldest go.
    fn listing_remembered(&self, dir: Ino, entries: usize) {
        let oldest = self.remembered.lock().add(dir, entries);
        for dir in oldest {
            if let Ok(dir) = self.table.get(dir) {
                dir.state().dir.evict_listing();
            }
        }
    }

    /// What the kernel remembers of the inode's attributes is over.
    pub fn attributes_changed(&self, inode: &Inode) {
        self.invalidations.attributes(inode.ino);
    }

    /// Nothing known of the inode counts as true any more, unless nobody can be
    /// asked: the store contradicted it.
    pub fn invalidate(&self, inode: &Inode) {
        self.tree_ahead.changed();
        {
            let mut state = inode.state();
            state.last_confirmed_at = state.checked_at.take().or(state.last_confirmed_at);
        }
        if let Some((parent, name)) = self.table.place(inode.ino) {
            if let Ok(dir) = self.table.get(parent) {
                dir.state().dir.mark_suspect(&name);
            }
            self.invalidations.entry(parent, &name);
        }
    }

    /// There is an object for this path again: no listing counts that says otherwise.
    pub fn reappeared(&self, path: &[Name]) {
        self.tree_ahead.changed();
        let mut at = ROOT;
        for name in path {
            let Ok(dir) = self.table.get(at) else {
                return;
            };
            dir.state().dir.forget_listing();
            self.invalidations.entry(at, name);
            let Some(child) = self.table.child(at, name) else {
                return;
            };
            at = child.ino;
        }
    }

    /// Directories that a predecessor told of go on to exist where no marker says so.
    pub fn keep_directories(&self) {
        if marker::wanted(self) == DirMarkers::Never {
            for dir in self.table.directories() {
                dir.state().local = Some(LocalState::BareDirectory);
            }
        }
    }

    /// Writes what the caches on disk still have in memory.
    pub fn write_out(&self) {
        self.kept.write_out();
        if let Some(cache) = &self.attribute_cache {
            cache.write_out();
        }
    }

    /// A create did not reach the store: nothing is known of who has the name.
    pub fn roll_back_create(&self, inode: &Inode) {
        self.invalidate(inode);
        self.unlink_local(inode);
    }

    /// The inode has no name any more, whoever took it.
    fn unlink_local(&self, inode: &Inode) {
        if let Some((parent, name)) = self.table.place(inode.ino) {
            self.invalidations.entry(parent, &name);
        }
        self.table.detach(inode.ino);
    }
}

#[cfg(test)]
mod listing_model;
#[cfg(test)]
mod tests;
