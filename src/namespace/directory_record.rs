//! What this mount knows of directories and the store does not tell: times, and
//! owner and mode where a store drops what is stored with a marker.
//!
//! Kept on disk by the directory's number, so that it outlives what the kernel forgets
//! and a remount. A directory that was never seen to change has the time when this
//! spool was first used: S3 has none for it.

use crate::vocabulary::{Kind, Overrides, Timestamp, hash_of_name};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::dir_entry::{ChangeSeq, Entry};
use super::inode::{Inode, InodeState};
use super::name::Name;
use super::name_store::NameStore;
use super::table::{InodeTable, Pin};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct DirectoryRecord {
    /// Owner, mode and times as they were shown.
    set: Overrides,
    changed_at: Option<Timestamp>,
    names: Option<u64>,
    /// When the kernel's session began.
    session: Timestamp,
}

/// Owner, mode and times of a directory as they are shown.
///
/// A store may drop what it was given with the marker: where nothing of it is set here any
/// more, it may still be known here alone.
pub fn shown_of(dir: &InodeState) -> Overrides {
    let shown = dir.effective_attributes();
    Overrides {
        mode: shown.mode,
        uid: shown.uid,
        gid: shown.gid,
        mtime: shown.mtime,
        atime: shown.atime,
        ctime: dir.overrides.ctime,
        xattrs: (!shown.xattrs.is_empty()).then_some(shown.xattrs),
        of: None,
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryChange<'a> {
    Came(&'a Name),
    Went(&'a Name),
    /// Another one has the name now.
    Replaced,
}

/// Keeps what is known of directories.
#[derive(Debug)]
pub struct DirectoryRecords {
    table: Arc<InodeTable>,
    kept: Arc<NameStore>,
    /// Owner and mode are stored with objects, so that they outlive the mount.
    stores_attributes: bool,
}

impl DirectoryRecords {
    pub(super) fn new(
        table: Arc<InodeTable>,
        kept: Arc<NameStore>,
        stores_attributes: bool,
    ) -> Self {
        Self {
            table,
            kept,
            stores_attributes,
        }
    }

    /// Before anything is told of a directory or changed in it: what is kept of it.
    pub fn recall(&self, dir: &Inode) {
        if dir.kind != Kind::Directory || dir.state().dir.recalled {
            return;
        }
        let record = self.kept.directory(dir.ino);
        let record = record.and_then(|json| serde_json::from_slice::<DirectoryRecord>(&json).ok());
        let mut state = dir.state();
        if std::mem::replace(&mut state.dir.recalled, true) {
            return;
        }
        let Some(record) = record else { return };
        state.dir.names = state.dir.names.or(record.names);
        let changed_at = record.changed_at.map(SystemTime::from);
        state.dir.changed_at = state.dir.changed_at.max(changed_at);
        if state.attributes.is_some() {
            return;
        }
        let kept = record.set;
        // What a predecessor told is as young or younger.
        let set = &mut state.overrides;
        set.mtime = set.mtime.or(kept.mtime);
        set.atime = set.atime.or(kept.atime);
        set.ctime = set.ctime.or(kept.ctime);
        // With fixed attributes owner and mode of a new mount are what the options say.
        let same_session = record.session == Timestamp::from(self.kept.session());
        if self.stores_attributes || same_session {
            set.mode = set.mode.or(kept.mode);
            set.uid = set.uid.or(kept.uid);
            set.gid = set.gid.or(kept.gid);
            set.xattrs = set.xattrs.take().or(kept.xattrs);
        }
    }

    /// Keeps what is known of a directory.
    pub fn keep(&self, dir: &Inode) {
        if dir.kind != Kind::Directory {
            return;
        }
        let record = {
            let state = dir.state();
            DirectoryRecord {
                set: shown_of(&state),
                changed_at: state.dir.changed_at.map(Timestamp::from),
                names: state.dir.names,
                session: self.kept.session().into(),
            }
        };
        match serde_json::to_vec(&record) {
            Ok(json) => self.kept.note_directory(dir.ino, Some(json)),
            Err(error) => tracing::warn!(%error, "a directory's times are not kept"),
        }
    }

    /// The directory is new, or gone: what was kept of its number is another's.
    pub fn forget(&self, dir: &Inode) {
        if dir.kind == Kind::Directory {
            dir.state().dir.recalled = true;
            self.kept.note_directory(dir.ino, None);
        }
    }

    /// An entry of the directory came or went by our own doing.
    pub fn entries_changed(&self, dir: &Inode, change: EntryChange<'_>) {
        self.recall(dir);
        {
            let mut state = dir.state();
            state.dir.changed_at = Some(SystemTime::now());
            if let Some(names) = &mut state.dir.names {
                *names = match change {
                    EntryChange::Came(name) => names.wrapping_add(hash_of(name)),
                    EntryChange::Went(name) => names.wrapping_sub(hash_of(name)),
                    EntryChange::Replaced => *names,
                };
            }
        }
        self.keep(dir);
    }

    /// A whole listing that was asked for at `seq`: where it has other names than
    /// the one before, the directory has changed.
    pub(super) fn note_names<'a>(
        &self,
        dir: &Pin,
        listed: impl Iterator<Item = (&'a Name, &'a Entry)>,
        seq: ChangeSeq,
    ) {
        self.recall(dir);
        let mut names: u64 = 0;
        let here = self.table.children_only_here(dir).into_iter();
        let mut here: BTreeSet<Name> = here.map(|(name, _)| name).collect();
        for (name, _) in listed {
            here.remove(name);
            names = names.wrapping_add(hash_of(name));
        }
        for name in &here {
            names = names.wrapping_add(hash_of(name));
        }
        {
            let mut state = dir.state();
            if seq != state.dir.now() || state.dir.names == Some(names) {
                return;
            }
            if state.dir.names.replace(names).is_some() {
                state.dir.changed_at = Some(SystemTime::now());
            }
        }
        self.keep(dir);
    }
}

fn hash_of(name: &Name) -> u64 {
    hash_of_name(0, name.as_str())
}
